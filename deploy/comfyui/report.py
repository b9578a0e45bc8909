"""What the user sees: one line per step, a sign of life on long ones, one sentence on failure."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .places import LOGS

HEARTBEAT_SECONDS = 10
TAIL_LINES = 25
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Failure(Exception):
    """A sentence that tells the user what to do, and the log lines that explain it."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


def guarded(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The exit status of `main`, whatever ends it."""
    # In the background SIGINT comes ignored; what we started must end with us all the same.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return main(arguments)
    except Failure as failure:
        if failure.details:
            print(failure.details, file=sys.stderr)
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def say(text: str) -> None:
    print(text, flush=True)


def log_file(name: str) -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / f"{name}.log"


def tail(log: Path) -> str:
    return "\n".join(lines_of(log)[-TAIL_LINES:])


def say_alive(started: float, log: Path) -> None:
    last = "".join(lines_of(log)[-1:])
    say(f"  {time.monotonic() - started:.0f} s  {last.strip()[:80]}")


def lines_of(log: Path) -> list[str]:
    return COLOURS.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines()


def run_step(title: str, command: list[str], *, log: str, cure: str) -> None:
    """Run one step to its end. A failure shows the end of its output and then the cure."""
    say(title)
    file = log_file(log)
    with file.open("wb") as output:
        status = status_of(command, output, file)
    if status != 0:
        raise Failure(f"{title}: this failed. {cure}", tail(file))


def status_of(command: list[str], output: BinaryIO, log: Path) -> int:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    started = time.monotonic()
    try:
        while True:
            try:
                return process.wait(HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                say_alive(started, log)
    finally:
        process.kill()
