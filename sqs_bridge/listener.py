"""SqsListener: takes tasks from the queues, for the engine to run one and to have the next at hand.

It lives in a thread of its own, `sqs-listener`, and outlives whatever goes wrong there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import uuid4

from ..jobs.engine import Engine
from ..jobs.health import Component, State, Watched
from ..jobs.settings import Settings
from ..jobs.threads import LoopThread, off_loop, on
from ..jobs.watch import set_within
from .aws import AwsFailed
from .bridge import Bridge
from .depth import DEPTH_SECONDS
from .desk import Desk
from .holding import Holding
from .inbox import Message
from .inboxes import Inboxes
from .rhythm import repeat

log = logging.getLogger(__name__)

THREAD = "sqs-listener"
OK = Component()
#: Whether work can be taken is looked at so often; what frees the GPU wakes the listener at once.
LOOK_SECONDS = 1.0
#: Tasks held by a worker that prefetches none.
RUNNING_ALONE = 1
#: Of short tasks, the most that a worker holds at a time.
MOST_SHORT_TASKS = 4
#: After a failure, twice as long each time.
LONGEST_PAUSE_SECONDS, MOST_DOUBLINGS = 60.0, 6

NO_BUCKET = "SQS_QUEUE_URL needs S3_BUCKET too: results of tasks must be where everybody finds them"


class SqsListener:
    """Made and used where the engine works; its work is done in the thread."""

    def __init__(self, engine: Engine, bridge: Bridge, settings: Settings) -> None:
        self._engine = engine
        self._bridge = bridge
        self._settings = settings
        self._inboxes = Inboxes(bridge, settings)
        self._most = 1 + settings.prefetch
        self._thread = LoopThread(THREAD)
        self._holdings: set[Holding] = set()
        self._moved = asyncio.Event()
        self._is_silent = asyncio.Event()
        self._is_draining = False
        #: Faults nobody foresaw, since the start.
        self._restarts = 0
        #: How often in a row listening has failed by now, and by what.
        self._failures = 0
        self._trouble: AwsFailed | None = None
        engine.metrics.show_held(self._count_held)
        engine.metrics.show_queue(bridge.depth.count, queues=bridge.depth.queues)

    @property
    def problem(self) -> str | None:
        """Why no task can ever be taken with these settings."""
        if self._inboxes.problem or self._settings.bucket:
            return self._inboxes.problem
        return NO_BUCKET

    @property
    def parts(self) -> tuple[Watched, Watched]:
        """What can be well or not, for /health."""
        dynamodb = self._bridge.dynamodb
        table = Watched("dynamodb", lambda: dynamodb.trouble.component if dynamodb.trouble else OK)
        return Watched("sqs", lambda: self.component), table

    @property
    def component(self) -> Component:
        """How the queues are, seen from here."""
        if self.problem:
            return Component(State.UNHEALTHY, self.problem)
        if trouble := self._trouble.component if self._trouble else self._inboxes.trouble:
            return trouble
        if self._failures:
            return Component(State.DEGRADED, f"{self._history}; the log tells why")
        if self._inboxes.warning:
            return Component(State.DEGRADED, self._inboxes.warning)
        return Component(State.HEALTHY, self._history if self._restarts else None)

    @property
    def _history(self) -> str:
        return f"listening began anew {self._restarts} times after a fault of this service"

    def start(self) -> None:
        """Begin to take tasks as soon as the engine is ready for them."""
        if self.problem:
            return
        desk = Desk(
            engine=self._engine,
            engine_loop=asyncio.get_running_loop(),
            table=self._bridge.table,
            deposit=self._bridge.deposit,
            worker=f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}",
            hold_seconds=self._settings.visibility_seconds,
        )
        self._thread.start(self._listen_forever(desk))

    def _count_held(self) -> int:
        # A copy, which is made at once: the thread goes on.
        return sum(not holding.is_over for holding in tuple(self._holdings))

    async def drain(self) -> None:
        """Take no more, hand back what has not begun; return when the rest has ended."""
        await self._in_thread(self._drain())

    async def release(self) -> None:
        """Hand back all that is still held."""
        await self._in_thread(self._drain(by_force=True))

    async def stop(self) -> None:
        """Let go of everything as a dead process does."""
        await off_loop(self._thread.stop)

    # -- in the thread -------------------------------------------------------------------------

    async def _listen_forever(self, desk: Desk) -> None:
        # The loop keeps no task alive by itself.
        self._looking = asyncio.ensure_future(
            repeat(self._bridge.depth.look, seconds=DEPTH_SECONDS)
        )
        while not self._is_draining:
            try:
                await self._listen(desk)
            except AwsFailed as failure:
                self._trouble = failure
            except Exception:
                self._restarts += 1
                log.exception("listening met a fault of this service and begins anew")
            else:
                continue
            self._failures += 1
            await set_within(self._moved, _pause(self._failures))
        self._is_silent.set()

    async def _listen(self, desk: Desk) -> None:
        await self._inboxes.open()
        while not self._is_draining:
            if not await self._may_take(desk):
                await set_within(self._moved, LOOK_SECONDS)
                continue
            message = await self._inboxes.receive(seconds=desk.hold_seconds)
            self._failures, self._trouble = 0, None
            if message:
                await self._take(message, desk)

    async def _take(self, message: Message, desk: Desk) -> None:
        # Much may have happened while it was waited for.
        is_ready = await desk.on_engine(self._is_engine_ready())
        if self._is_draining or not is_ready:
            await message.inbox.put_off(message, seconds=0)
        else:
            self._holdings.add(Holding(message, desk, self._moved.set))

    async def _may_take(self, desk: Desk) -> bool:
        self._moved.clear()
        self._holdings = {holding for holding in self._holdings if not holding.is_over}
        if not await self._has_room(desk) or not await self._is_table_well(desk):
            return False
        return await desk.on_engine(self._is_engine_ready()) and not self._is_draining

    async def _has_room(self, desk: Desk) -> bool:
        """Whether another task would be begun soon enough to be held ahead."""
        held = [holding for holding in self._holdings if holding.needs_gpu]
        if len(held) < self._most:
            return True
        if self._most == RUNNING_ALONE or len(held) >= MOST_SHORT_TASKS:
            return False
        is_foreseen = all(holding.is_taken_up for holding in held)
        return is_foreseen and await desk.on_engine(self._is_work_short())

    async def _is_work_short(self) -> bool:
        """Receiving a task and fetching its inputs takes longer than running a short one."""
        seconds = self._engine.seconds_of_work
        return seconds is not None and seconds < self._settings.prefetch_seconds

    async def _is_table_well(self, desk: Desk) -> bool:
        """Without the table messages would only be received and put off, until they are dead."""
        if self._bridge.dynamodb.trouble:
            with suppress(AwsFailed):
                await desk.table.probe()
        return not self._bridge.dynamodb.trouble

    async def _is_engine_ready(self) -> bool:
        condition = self._engine.condition
        return condition.is_ready and condition.can_publish

    async def _drain(self, *, by_force: bool = False) -> None:
        self._is_draining = True
        self._moved.set()
        for holding in self._holdings:
            holding.release()
        # After those that wait, or one of them would begin in the place of what ran.
        for holding in self._holdings if by_force else ():
            holding.release(by_force=True)
        # A poll under way is waited for: whatever it gets would be stranded otherwise.
        await self._is_silent.wait()
        await asyncio.gather(*(holding.ended() for holding in self._holdings))

    async def _in_thread(self, work: Coroutine[Any, Any, None]) -> None:
        if self._thread.is_alive:
            await on(self._thread.loop, work)
        else:
            work.close()


def _pause(failures: int) -> float:
    return float(min(LONGEST_PAUSE_SECONDS, 2.0 ** min(failures, MOST_DOUBLINGS)))
