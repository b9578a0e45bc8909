"""Reception: accepts jobs into the store, or says why not."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from typing import Any

from .counted_log import CountedLog
from .errors import NoRoom, NotReady, QueueFull, StorageUnavailable, refused_by_disk
from .job import Job, Submitted
from .line import Waiting
from .request import JobRequest
from .workshop import Workshop

log = logging.getLogger(__name__)


class Reception:
    """The door of the store."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._failures = CountedLog(log)
        #: Why no jobs are accepted at all.
        self.closed: str | None = "The service is starting."

    async def submit(
        self,
        slug: str,
        body: Mapping[str, Any],
        owner: str | None,
        idempotency_key: str | None,
        cancel_after: float | None,
    ) -> Submitted:
        """Accept a job: it is on disk when this returns. See Engine.submit for what it raises."""
        request = JobRequest.received(slug, body, owner, idempotency_key, cancel_after)
        if request.may_be_replay and (earlier := await self._stored(request.job_id)):
            return request.replay(earlier)
        self._check_open()
        job = await self.draft(request)
        if await self._insert(job):
            return Submitted(job, is_replay=False)
        # Somebody with the same key was faster.
        return request.replay(await self._stored(job.job_id) or job)

    async def draft(self, request: JobRequest) -> Job:
        """The job of a request, without accepting it."""
        workflow = self._shop.offer.healthy(request.slug)
        try:
            return await request.job(workflow, self._shop.inputs.keep)
        except OSError as error:
            self._failures.log(logging.ERROR, "a picture could not be stored", error=error)
            raise refused_by_disk(error) from error

    def _check_open(self) -> None:
        """Raises if no job can be accepted now."""
        if problem := self.closed or self._shop.spool.problem:
            raise NotReady(problem)
        if problem := self._shop.disk.problem:
            raise NoRoom(problem)
        if len(self._shop.line) >= self._shop.settings.max_pending:
            raise QueueFull()

    async def _stored(self, job_id: str) -> Job | None:
        try:
            return await self._shop.store.get(job_id)
        except sqlite3.Error as error:
            self._failures.log(logging.ERROR, "the job store could not be read", error=error)
            raise StorageUnavailable() from error

    async def _insert(self, job: Job) -> bool:
        try:
            is_new = await self._shop.store.insert(job)
        except sqlite3.Error as error:
            self._failures.log(logging.ERROR, "a job could not be stored", error=error)
            raise StorageUnavailable() from error
        if is_new:
            self._shop.line.join(Waiting.of(job))
            self._shop.metrics.accepted(job)
        return is_new
