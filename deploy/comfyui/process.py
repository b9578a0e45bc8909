"""A server as a process of ours: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from .report import HEARTBEAT_SECONDS, Failure, log_file, say_alive, tail

START_SECONDS = 300
STOP_SECONDS = 30
PROBE_SECONDS = 0.5
SEE_LOG = "Its last lines, above, tell why: mend that, then run this again."
# A proxy named in the environment has no business with our own machine.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def serving(
    name: str, call: list[str], *, probe: str, environment: Mapping[str, str]
) -> Iterator[None]:
    """A process that ends with the block, which begins when the URL `probe` answers 200.

    A failure in the block that has no details shows the end of what the process said.
    """
    log = log_file(name.lower())
    with log.open("wb") as output:
        process = subprocess.Popen(
            call,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            wait_until_up(process, name, probe, log)
            yield
        except Failure as failure:
            raise Failure(str(failure), failure.details or tail(log)) from failure
        finally:
            stop(process)


def wait_until_up(process: subprocess.Popen[bytes], name: str, probe: str, log: Path) -> None:
    started = shown = time.monotonic()
    while not is_up(probe):
        if process.poll() is not None:
            raise Failure(f"{name} ended while it was starting. {SEE_LOG}")
        now = time.monotonic()
        if now - started > START_SECONDS:
            raise Failure(f"{name} was not up after {START_SECONDS} s. {SEE_LOG}")
        if now - shown > HEARTBEAT_SECONDS:
            shown = now
            say_alive(started, log)
        time.sleep(PROBE_SECONDS)


def is_up(probe: str) -> bool:
    try:
        with http.open(probe, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Also when the user grows impatient while we wait."""
    process.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        process.kill()
        process.wait()
