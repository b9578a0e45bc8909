"""Heartbeat: keeps a message and its claim held, tells how far the job is, hears of cancellation.

It goes on only while there is hope: a worker whose ComfyUI is stuck must not hold work for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from ..jobs.run import Run
from ..jobs.threads import post
from .aws import AwsFailed
from .claim import Claim, Hold
from .desk import Desk
from .inbox import Message

log = logging.getLogger(__name__)

#: How often the table is told of progress and asked whether the job is still wanted.
TELL_SECONDS = 2.0
#: The part of its time after which a message is held anew, and how much of it must be left for
#: work that has not begun to go on.
RENEW_PART, MARGIN_PART = 1 / 4, 1 / 8


class Heartbeat:
    """It beats from its making until `stop`, for the message alone until there is a claim."""

    def __init__(self, desk: Desk, message: Message) -> None:
        self.run: Run | None = None
        self._claim: Claim | None = None
        self._desk = desk
        self._message = message
        self._renewed = message.received
        #: When the claim was last heard to be good.
        self._claimed = message.received
        self._stop = asyncio.Event()
        self._beating = asyncio.ensure_future(self._beat())

    def keep(self, claim: Claim, run: Run, *, claimed: float) -> None:
        """Keep a claim too, which was made then."""
        self._claim, self.run, self._claimed = claim, run, claimed

    async def stop(self) -> None:
        """Return when nothing of it is under way any more."""
        self._stop.set()
        await self._beating

    async def _beat(self) -> None:
        every = min(TELL_SECONDS, self._desk.hold_seconds * RENEW_PART)
        stopped = asyncio.ensure_future(self._stop.wait())
        while not (await asyncio.wait({stopped}, timeout=every))[0]:
            # Together: whichever of queue and table is well is told in time.
            await asyncio.gather(self._attempt(self._renew), self._attempt(self._tell))
            self._give_up_if_hopeless()

    async def _attempt(self, beat: Callable[[], Awaitable[None]]) -> None:
        try:
            await beat()
        except AwsFailed as failure:
            log.warning("a message could not be held on to: %s", failure)
        except Exception:
            log.exception("a heartbeat met a fault of this service")

    async def _renew(self) -> None:
        now = time.monotonic()
        is_due = now - self._renewed >= self._desk.hold_seconds * RENEW_PART
        # At the queue's own limit the message comes again; the claim then turns others away.
        if is_due and self._message.hold_left > self._desk.hold_seconds:
            await self._message.inbox.hold(self._message, seconds=self._desk.hold_seconds)
            self._renewed = now

    async def _tell(self) -> None:
        if self._claim is None or self.run is None:
            return
        now = time.monotonic()
        hold = await self._desk.table.extend(
            self._claim, self.run.job, self.run.progress, lease_seconds=self._desk.hold_seconds
        )
        if hold is Hold.LOST:
            # What runs may go on: its result counts if it is the first.
            self._let_go(self.run)
            return
        self._claimed = now
        if hold is Hold.CANCEL_WANTED:
            post(self._desk.engine_loop, self.run.cancel)

    def _give_up_if_hopeless(self) -> None:
        if self.run is None:
            return
        left = self._claimed + self._desk.hold_seconds - time.monotonic()
        if left < self._desk.hold_seconds * MARGIN_PART:
            self._let_go(self.run)
        if self._desk.engine.condition.is_stuck and self.run.needs_gpu:
            post(self._desk.engine_loop, self.run.abandon)

    def _let_go(self, run: Run) -> None:
        """Nobody else's work is done twice for what has not begun."""
        if not run.is_under_way:
            post(self._desk.engine_loop, run.abandon)
