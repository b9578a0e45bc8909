"""Reaper: ends what nobody can run any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..jobs.errors import JobFailed
from .task_index import TaskIndex
from .task_table import TaskTable

log = logging.getLogger(__name__)

REAP_SECONDS = 60.0


class Lost(JobFailed):
    """No worker finished the job before its message grew too old (UNIFIED_API_TASK_DAYS)."""

    code = "lost"


class Reaper:
    """Fails tasks older than `task_seconds` that no worker holds: their messages are gone.

    Several may be at it, with others writing the same tasks.
    """

    def __init__(
        self,
        table: TaskTable,
        index: TaskIndex,
        *,
        task_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._index = index
        self._task_seconds = task_seconds
        self._clock = clock

    async def reap(self) -> None:
        """Look for them once. Raises AwsFailed."""
        last = self._clock() - self._task_seconds
        for task_id in await self._index.unfinished(last=last):
            if await self._table.abandon(task_id, Lost()):
                log.warning("job %s is lost: no worker finished it in time", task_id)
