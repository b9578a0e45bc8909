"""Reaper: ends what nobody can run any more, or is to run any more."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable

from ..jobs.counted_log import CountedLog
from ..jobs.errors import JobFailed
from ..jobs.job import Status
from .aws import AwsFailed
from .dynamodb import Item
from .message import workflow_of
from .task_index import TaskIndex
from .task_table import TaskTable

log = logging.getLogger(__name__)
#: Once for each item, not every minute.
refused = CountedLog(log, seconds=math.inf)

#: How DynamoDB says that an attribute is of another type than the write needs.
INVALID = "ValidationException"

REAP_SECONDS = 60.0
GIVE_UP_SECONDS = 10.0


class Lost(JobFailed):
    """No worker finished the job before its message grew too old (UNIFIED_API_TASK_DAYS)."""

    code = "lost"


class Reaper:
    """Tells `ended` the workflow and the status of each task that it ends.

    Several may be at it, with others writing the same tasks. Methods raise AwsFailed.
    """

    def __init__(
        self,
        table: TaskTable,
        index: TaskIndex,
        *,
        task_seconds: float,
        ended: Callable[[str, Status], None] = lambda workflow, status: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._index = index
        self._task_seconds = task_seconds
        self._ended = ended
        self._clock = clock

    async def reap(self) -> None:
        """Fail tasks older than `task_seconds` that no worker holds: their messages are gone."""
        last = self._clock() - self._task_seconds
        for task_id in await self._index.unfinished(last=last):
            if item := await self._ended_by(self._table.abandon(task_id, Lost()), task_id):
                log.warning("job %s is lost: no worker finished it in time", task_id)
                self._count(item)

    async def give_up(self) -> None:
        """Fail tasks that wait though they were to have begun, whether or not workers are there."""
        for task_id in await self._index.overdue(now=self._clock()):
            if item := await self._ended_by(self._table.give_up(task_id), task_id):
                log.info("job %s is given up: no worker began it in time", task_id)
                self._count(item)

    async def _ended_by(self, write: Awaitable[Item | None], task_id: str) -> Item | None:
        """Its item, if the write ended it. One that cannot be written keeps no other waiting."""
        try:
            return await write
        except AwsFailed as failure:
            if failure.reason != INVALID:
                raise
            refused.log(logging.ERROR, "the item of task %s cannot be written", ascii(task_id))
            return None

    def _count(self, item: Item) -> None:
        workflow = workflow_of(str(item.get("job_type")))
        self._ended(workflow or "", Status.FAILED)
