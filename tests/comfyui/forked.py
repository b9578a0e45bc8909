"""A ComfyUI that starts in 1.2 s instead of 6: forked from a process that has imported torch."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

from comfy_process import PYTHON, ComfyProcess

SERVER = Path(__file__).with_name("fork_server.py")


class ForkedProcess:
    """A process of the fork server, with the methods of `subprocess.Popen` that are used here."""

    def __init__(self, request: dict[str, object]) -> None:
        reading, writing = os.pipe()
        socket.send_fds(_fork_server().control, [json.dumps(request).encode()], [writing])
        os.close(writing)
        self._pipe = os.fdopen(reading)
        self.pid = int(self._pipe.readline())
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self._status is None and select.select([self._pipe], [], [], timeout)[0]:
            self._status = int(self._pipe.readline())
            self._pipe.close()
        return self._status


class ForkedComfy(ComfyProcess):
    """For tests that start ComfyUI again and again."""

    def _spawn(self, options: list[str], environment: dict[str, str]) -> ForkedProcess:
        request = {
            "tree": str(self.tree),
            "options": options,
            "environment": environment,
            "log": str(self.log),
        }
        return ForkedProcess(request)


class ForkServer:
    """The process behind `control`; it ends when that socket is closed, also by the end of ours."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [str(PYTHON), str(SERVER), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", "OMP_NUM_THREADS": "1"},
            )
        atexit.register(self.stop)

    def stop(self) -> None:
        self.control.close()
        self._process.wait()


@functools.cache
def _fork_server() -> ForkServer:
    """One for each test process, started for its first ComfyUI."""
    return ForkServer()
