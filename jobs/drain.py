"""Drain: the graceful end of the process. What is under way is finished first, within a budget.

ComfyUI ends in order on SIGINT only. SIGTERM, which it does not know, kills it in the middle of
a prompt; where it is process 1 of a container, SIGTERM is ignored.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

#: What is not finished in time is cancelled, and has this long to be handed back.
HAND_BACK_SECONDS = 5.0
#: How long ComfyUI may take to leave; then the process ends where it stands.
LEAVE_SECONDS = 10.0
#: With a supervisor, SIGTERMs that come within this time of the first count as one.
REPEAT_SECONDS = 1.0
#: What a shell makes of a process that SIGTERM killed.
KILLED_STATUS = 128 + signal.SIGTERM


def leave_as_on_interrupt() -> None:
    """End as ComfyUI does on Ctrl+C."""
    if not callable(signal.getsignal(signal.SIGINT)):
        # It is ignored in a process that was started with & or nohup.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


class Drain:
    """Ends the process, on SIGTERM or a notice, when `drain()` has returned or the budget is up.

    `drain` takes in nothing new and returns when nothing is left to wait for. When the budget is
    up it is cancelled. A second SIGTERM ends the process at once.
    """

    def __init__(
        self,
        drain: Callable[[], Awaitable[None]],
        *,
        budget_seconds: float,
        hand_back_seconds: float = HAND_BACK_SECONDS,
        leave_seconds: float = LEAVE_SECONDS,
        leave: Callable[[], None] = leave_as_on_interrupt,
    ) -> None:
        self._drain = drain
        self._budget_seconds = budget_seconds
        self._hand_back_seconds = hand_back_seconds
        self._leave_seconds = leave_seconds
        self._repeat_seconds = 0.0
        self._leave = leave
        #: Of whoever listened to SIGTERM before.
        self._earlier_handler: Callable[[int, None], Any] | None = None
        self._first_sigterm: float | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def listen(self, *, repeat_seconds: float = 0.0) -> None:
        """Begin on SIGTERM. Called on the loop.

        SIGTERMs within `repeat_seconds` of the first count as one: a supervisor may pass one on
        that the whole process group has got.
        """
        self._repeat_seconds = repeat_seconds
        earlier = signal.getsignal(signal.SIGTERM)
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm)
        except RuntimeError:
            log.info("SIGTERM cannot be listened to here: it ends this process without a drain")
            return
        self._earlier_handler = earlier if callable(earlier) else None

    def watch(self, notice: Awaitable[str]) -> None:
        """Begin when a notice comes. It says why. Called on the loop."""
        self._watching = asyncio.get_running_loop().create_task(self._begin_after(notice))

    def begin(self, reason: str) -> None:
        """Begin to end, unless that has begun."""
        if self._ending:
            return
        log.warning(
            "Unified API: %s. No more jobs are taken; ComfyUI ends when those under way are"
            " finished, in %.0f s at most. A second SIGTERM ends it at once.",
            *(reason, self._budget_seconds),
        )
        # It needs neither the loop nor Python: whatever hangs, the process ends.
        hopeless_seconds = self._budget_seconds + self._hand_back_seconds + self._leave_seconds
        faulthandler.dump_traceback_later(hopeless_seconds, exit=True)
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _begin_after(self, notice: Awaitable[str]) -> None:
        self.begin(await notice)

    def _on_sigterm(self) -> None:
        now = time.monotonic()
        if self._first_sigterm is None:
            self._first_sigterm = now
            self.begin("SIGTERM")
        elif now - self._first_sigterm >= self._repeat_seconds:
            log.critical("Unified API: a second SIGTERM. The process ends with work under way.")
            os._exit(KILLED_STATUS)

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        draining = loop.create_task(self._drain_safely())
        _, late = await asyncio.wait({draining}, timeout=self._budget_seconds)
        if late:
            log.warning("Unified API: the time is up. What is not finished is taken up later.")
            draining.cancel()
            await asyncio.wait({draining}, timeout=self._hand_back_seconds)
        # By the loop itself: in a task, the KeyboardInterrupt on which ComfyUI ends is an error.
        loop.call_soon(self._go)

    async def _drain_safely(self) -> None:
        try:
            await self._drain()
        except Exception:
            log.exception("the drain failed")

    def _go(self) -> None:
        log.info("Unified API: ComfyUI ends now.")
        faulthandler.dump_traceback_later(self._leave_seconds, exit=True)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._tell_earlier_handler()
        self._leave()

    def _tell_earlier_handler(self) -> None:
        """It may end the process in its own way."""
        if self._earlier_handler is None:
            return
        try:
            self._earlier_handler(signal.SIGTERM, None)
        except Exception:
            log.exception("another handler of SIGTERM failed")
