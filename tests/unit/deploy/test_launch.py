"""The launcher: which signals end ComfyUI in order. On a folder that only looks like ComfyUI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from unified_api.deploy.comfyui.places import LAUNCHER

LIMIT_SECONDS = 20.0
COMFYUI = """
import threading, time
try:
    print("up", flush=True)
    threading.Event().wait()
except KeyboardInterrupt:
    print("stopping", flush=True)
    time.sleep(0.3)
    print("stopped", flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """One that is up, in a process group of its own."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "main.py").write_text(COMFYUI)

    def run(*before: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*before, sys.executable, str(LAUNCHER), str(tmp_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # The tests themselves may run under nohup.
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
        )
        started.append(process)
        heard_until(process, "up")
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def heard_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert any(line.strip() == word for line in process.stdout)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    said, _ = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, said.splitlines()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_comfyui_in_order(start: Start, name: str) -> None:
    process = start()

    process.send_signal(getattr(signal, name))

    assert ended(process) == (0, ["stopping", "stopped"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_comes_twice_at_once_counts_once(start: Start, name: str) -> None:
    process = start()

    process.send_signal(getattr(signal, name))
    heard_until(process, "stopping")
    os.killpg(process.pid, getattr(signal, name))

    assert ended(process) == (0, ["stopped"])


def test_under_nohup_a_hangup_ends_nothing(start: Start) -> None:
    process = start("nohup")

    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)  # there is nothing to wait for
    is_up = process.poll() is None
    process.send_signal(signal.SIGINT)

    assert is_up
    assert ended(process) == (0, ["stopping", "stopped"])
