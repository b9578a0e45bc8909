"""Outbox: sends what the table has accepted, and finds what was left behind unsent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

from ..jobs.errors import JobFailed
from ..jobs.extras import request_body
from ..jobs.job import Job, Status
from .aws import AwsFailed
from .deposit import Deposit
from .message import LARGEST_SENT_BYTES, TASK_ID, TaskMessage, api_path_of, size_of, workflow_of
from .task_index import TaskIndex
from .task_item import Record
from .task_queue import TaskQueues
from .task_table import TaskTable

log = logging.getLogger(__name__)

#: A task that is unsent for so long has been forgotten by whoever accepted it.
UNSENT_SECONDS = 10.0
SWEEP_SECONDS = 5.0
#: Swept again, for clocks that differ and an index that lags.
OVERLAP_SECONDS = 60.0
SENT_AT_ONCE = 16


class Outbox:
    """A message may be sent twice; claims bear that."""

    def __init__(
        self,
        table: TaskTable,
        index: TaskIndex,
        queues: TaskQueues,
        deposit: Deposit | None,
        *,
        unsent_seconds: float = UNSENT_SECONDS,
    ) -> None:
        #: Why the last sweep failed.
        self.trouble: AwsFailed | None = None
        self.has_swept = False
        self._table = table
        self._index = index
        self._queues = queues
        self._deposit = deposit
        self._unsent_seconds = unsent_seconds
        self._swept_until = 0.0

    def can_send(self, job: Job) -> bool:
        """Whether it fits into a message, or something is there to hold it."""
        return self._deposit is not None or _fits(message_of(job))

    async def send(self, job: Job) -> bool:
        """Put an accepted job into its queue. False if that failed: a sweep does it later."""
        try:
            await self._queues.send(await self._checked_in(message_of(job)))
            await self._table.mark_sent(job.job_id)
        except (AwsFailed, JobFailed) as error:
            log.warning("job %s is accepted but not sent: %s", job.job_id, error)
            return False
        return True

    def has_forgotten(self, record: Record) -> bool:
        """Whether an accepted job should have been sent by now."""
        waits = record.job.status is Status.PENDING and not (record.job.is_over or record.is_sent)
        return waits and record.job.created_at <= time.time() - self._unsent_seconds

    async def sweep(self) -> None:
        """Send what was accepted long enough ago and not sent. Raises AwsFailed."""
        last = time.time() - self._unsent_seconds
        first = self._swept_until - OVERLAP_SECONDS
        try:
            unsent = await self._index.unsent(first=max(0.0, first), last=last)
            self.trouble, self.has_swept = None, True
            if await self._send_all(unsent):
                self._swept_until = last
        except AwsFailed as failure:
            self.trouble = failure
            raise

    async def _send_all(self, task_ids: list[str]) -> bool:
        is_clean = True
        for some in _chunks(task_ids):
            sent = await asyncio.gather(*map(self._send_again, some))
            is_clean &= all(sent)
            if not any(sent):
                break
        return is_clean

    async def _send_again(self, task_id: str) -> bool:
        record = await self._table.get(task_id)
        # The index may tell of what was sent since.
        if record is None or not self.has_forgotten(record) or not _is_task(record.job):
            return True
        log.info("job %s was accepted and never sent; it is sent now", task_id)
        return await self.send(record.job)

    async def _checked_in(self, message: TaskMessage) -> TaskMessage:
        """The same message, its body in the bucket if it is too large to travel."""
        if _fits(message) or self._deposit is None or message.request_body is None:
            return message
        claim = await self._deposit.keep_request(message.request_body)
        return message.model_copy(update={"request_body": None, "claim": claim})


def message_of(job: Job) -> TaskMessage:
    """Its body is complete, so that every worker makes the same job of it."""
    return TaskMessage(
        task_id=job.job_id,
        api_path=api_path_of(job.workflow),
        request_body=request_body(job),
        deadline=job.deadline,
        # Only if it is not as usual: there are programs that know none.
        priority="high" if job.priority == "high" else None,
    )


def _is_task(job: Job) -> bool:
    """Other programs write items with ids and paths of their own."""
    is_path = workflow_of(api_path_of(job.workflow)) is not None
    return is_path and TASK_ID.fullmatch(job.job_id) is not None


def _fits(message: TaskMessage) -> bool:
    return size_of(message.encode()) <= LARGEST_SENT_BYTES


def _chunks(task_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(task_ids), SENT_AT_ONCE):
        yield task_ids[start : start + SENT_AT_ONCE]
