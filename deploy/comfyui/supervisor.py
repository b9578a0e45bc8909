"""Keeps a program running as a child process: passes signals on to it and restarts it when it dies.

The child stays in the process group, so it keeps the terminal. Ctrl+C in a terminal reaches the
whole group and is not passed on; every other signal was sent to this process and is. The kernel
tells the two apart only to a process that waits for signals instead of handling them. When this
process is killed, the kernel kills the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from .report import Failure, say

#: Status 2 tells of a wrong option: another start would not know it either.
USAGE_STATUS = 2
#: What a shell adds to the number of the signal that ended a process.
SIGNAL_STATUS = 128
PR_SET_PDEATHSIG = 1

RESTARTED = "ComfyUI ended {how} after {lived:.0f} s. It is started again in {pause:.0f} s."
GIVEN_UP = (
    "ComfyUI ended {how} after {lived:.0f} s, {deaths} times in a row within {quick:.0f} s of its"
    " start: it is not started again. Its output above says why. Accepted jobs are kept and run"
    " after the next ./install.sh serve."
)


class Limits(NamedTuple):
    """When a restart is delayed, and when there is none any more.

    A death within `quick_seconds` of the start is quick. The pause before a restart doubles with
    each quick death in a row.
    """

    max_quick_deaths: int = 10
    quick_seconds: float = 60.0
    first_pause_seconds: float = 1.0
    max_pause_seconds: float = 10.0

    def pause_seconds(self, quick_deaths: int) -> float:
        doublings = max(0, quick_deaths - 1)
        return min(self.max_pause_seconds, self.first_pause_seconds * 2.0**doublings)


class Ended(NamedTuple):
    """How a child ended: its return code as in `subprocess`, and how long it had lived."""

    code: int
    was_asked: bool
    lived_seconds: float

    @property
    def is_final(self) -> bool:
        """Whether a restart is not wanted, or could not help."""
        ending = {int(number) for number in ending_signals()}
        wanted = {0, *(-number for number in ending), *(SIGNAL_STATUS + n for n in ending)}
        return self.was_asked or self.code in {*wanted, USAGE_STATUS}

    @property
    def status(self) -> int:
        """For a shell, which knows no negative numbers."""
        return SIGNAL_STATUS - self.code if self.code < 0 else self.code

    @property
    def how(self) -> str:
        return f"by signal {-self.code}" if self.code < 0 else f"with status {self.code}"


def can_supervise() -> bool:
    """Whether signals can be waited for, and a child be tied to its parent."""
    return sys.platform == "linux"


def supervise(
    call: list[str], environment: Mapping[str, str], *, limits: Limits | None = None
) -> int:
    """Run a program until it ends as asked, or dies too often. Returns its exit status."""
    limits = limits or Limits()
    quick_deaths = 0
    with signals_kept_waiting() as mask:
        while True:
            ended = run_child(call, environment, mask)
            if ended.is_final:
                return ended.status
            is_quick = ended.lived_seconds < limits.quick_seconds
            quick_deaths = quick_deaths + 1 if is_quick else 0
            tell(ended, quick_deaths, limits)
            if quick_deaths >= limits.max_quick_deaths:
                return ended.status
            if number := signal_within(limits.pause_seconds(quick_deaths)):
                return SIGNAL_STATUS + number


def tell(ended: Ended, quick_deaths: int, limits: Limits) -> None:
    text = GIVEN_UP if quick_deaths >= limits.max_quick_deaths else RESTARTED
    say(
        text.format(
            how=ended.how,
            lived=ended.lived_seconds,
            pause=limits.pause_seconds(quick_deaths),
            deaths=quick_deaths,
            quick=limits.quick_seconds,
        )
    )


def run_child(call: list[str], environment: Mapping[str, str], mask: set[signal.Signals]) -> Ended:
    """One life of the program, during which it gets the signals that come here."""
    began = time.monotonic()
    child = start(call, environment, mask)
    was_asked = False
    try:
        while child.poll() is None:
            received = signal.sigwaitinfo({*ending_signals(), signal.SIGCHLD})
            if received.si_signo != signal.SIGCHLD:
                was_asked = True
                pass_on(received, child)
    finally:
        child.kill()
        code = child.wait()
    return Ended(code, was_asked, time.monotonic() - began)


def start(
    call: list[str], environment: Mapping[str, str], mask: set[signal.Signals]
) -> subprocess.Popen[bytes]:
    prctl = ctypes.CDLL(None).prctl
    prepare = partial(prepare_child, prctl, os.getpid(), mask)
    try:
        # There is one thread here: nothing can be locked in the child.
        return subprocess.Popen(call, env=environment, preexec_fn=prepare)  # noqa: PLW1509
    except OSError as error:
        raise Failure(f"{call[0]} cannot be started: {error.strerror}.") from error


def prepare_child(prctl: Callable[..., int], parent: int, mask: set[signal.Signals]) -> None:
    """In the child, before it becomes the program: end with the parent, and get signals again."""
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    for number in ending_signals():
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def pass_on(received: signal.struct_siginfo, child: subprocess.Popen[bytes]) -> None:
    # A positive code: not from a process but from the kernel, which tells the group of a terminal.
    is_from_terminal = received.si_signo == signal.SIGINT and received.si_code > 0
    if not is_from_terminal:
        child.send_signal(received.si_signo)


def signal_within(seconds: float) -> int | None:
    """The number of a signal that asks this process to end while no child runs."""
    received = signal.sigtimedwait(ending_signals(), seconds)
    return received.si_signo if received else None


def ending_signals() -> set[signal.Signals]:
    """SIGHUP is one of them unless it is ignored, as `nohup` has it."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM, *(() if is_ignored else (signal.SIGHUP,))}


@contextlib.contextmanager
def signals_kept_waiting() -> Iterator[set[signal.Signals]]:
    """Signals wait until they are asked for. Gives the mask from before, for the child."""
    # Ignored, as some callers have it, SIGCHLD would never come and statuses would be lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {*ending_signals(), signal.SIGCHLD})
    try:
        yield {signal.Signals(number) for number in earlier}
    finally:
        # Impatient ones, which the child has had too, would now interrupt this process.
        while signal_within(0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
