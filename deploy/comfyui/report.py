"""What the user sees: one line per step, a sign of life on long ones, one sentence on failure."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .places import LOGS

HEARTBEAT_SECONDS = 10
TAIL_LINES = 25
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Failure(Exception):
    """A sentence that tells the user what to do, and the log lines that explain it."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


class Parser(argparse.ArgumentParser):
    """Fails in one sentence, like the rest of install.sh."""

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{self.prog}: {message}. ./install.sh --help shows the commands.")


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


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def say(text: str) -> None:
    print(text, flush=True)


def note(text: str) -> None:
    """Beside the output, so that `KEY=$(./install.sh key add ci)` catches the key alone."""
    print(text, file=sys.stderr, flush=True)


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


def run_step(
    title: str, command: list[str], *, log: str, cure: str, among: Path | None = None
) -> None:
    """Run one step to its end. A failure shows the end of its output and then the cure.

    Where it writes `among` the files of a user, root runs it as that user.
    """
    say(title)
    identity = owner_for_root(among) if among else {}
    try:
        file = log_file(log)
        with file.open("wb") as output:
            status = status_of(command, output, file, identity)
    except OSError as error:
        raise Failure(f"{title}: this failed. {cure}", str(error)) from error
    if status != 0:
        raise Failure(f"{title}: this failed. {cure}", tail(file))


def owner_for_root(folder: Path) -> dict[str, Any]:
    """For Popen: the folder's owner, if we are root and may be anybody."""
    found = folder.stat()
    if not is_root() or found.st_uid == 0:
        return {}
    return {"user": found.st_uid, "group": found.st_gid, "extra_groups": []}


def status_of(command: list[str], output: BinaryIO, log: Path, identity: dict[str, Any]) -> int:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **identity
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
