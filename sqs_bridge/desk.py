"""Desk: what is needed to work on tasks, and how the two loops reach each other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..jobs.engine import Engine
from ..jobs.threads import on
from .deposit import Deposit
from .task_table import TaskTable

T = TypeVar("T")

#: A message that is put off comes again after so long, longer each time; sooner where messages
#: are held for short only.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 900.0
FIRST_PAUSE_PART = 1 / 24
MOST_DOUBLINGS = 10


@dataclass(frozen=True)
class Desk:
    """A worker by its name. It holds messages and claims for `hold_seconds`, again and again."""

    engine: Engine
    engine_loop: asyncio.AbstractEventLoop
    table: TaskTable
    deposit: Deposit | None
    worker: str
    hold_seconds: float
    #: The tasks that this worker works on now.
    at_work: set[str] = field(default_factory=set)

    def pause(self, times: int) -> float:
        """How long something that has failed so often rests."""
        first = min(FIRST_PAUSE_SECONDS, self.hold_seconds * FIRST_PAUSE_PART)
        doublings = min(max(0, times - 1), MOST_DOUBLINGS)
        return float(min(LONGEST_PAUSE_SECONDS, first * 2**doublings))

    async def on_engine(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it where the engine works."""
        return await on(self.engine_loop, work)
