"""Reception: accepts jobs into the store, or says why not."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any

from .counted_log import CountedLog
from .errors import NoRoom, NotReady, QueueFull, StorageUnavailable, refused_by_disk
from .idempotency import IdempotencyKey
from .job import Job, Submitted
from .line import Waiting
from .request import ID_IN_USE, JobRequest
from .staging import staged_for_one
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
        if earlier := await self._earlier(request):
            return request.replay(earlier)
        self._check_open()
        job = await self.draft(request)
        if await self._insert(job, request.idempotency_key):
            return Submitted(job, is_replay=False)
        # Somebody with the same key was faster.
        if earlier := await self._earlier(request):
            return request.replay(earlier)
        raise StorageUnavailable(ID_IN_USE)

    async def draft(self, request: JobRequest) -> Job:
        """The job of a request, without accepting it. Its pictures are kept from now on."""
        workflow, inputs = self._shop.offer.healthy(request.slug), self._shop.inputs
        stage = partial(inputs.stage, owner=request.owner)
        try:
            async with staged_for_one(stage, inputs.drop) as keep:
                job = await request.job(workflow, keep)
                await inputs.commit(workflow.pictures(job.parameters).values())
                return job
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

    async def _earlier(self, request: JobRequest) -> Job | None:
        """The job that was accepted for the same key, by this version or an earlier one."""
        if (key := request.idempotency_key) is None:
            return None
        try:
            if job := await self._shop.store.of_key(key.digest):
                return job
            former = await self._shop.store.get(key.former_job_id)
        except sqlite3.Error as error:
            self._failures.log(logging.ERROR, "the job store could not be read", error=error)
            raise StorageUnavailable() from error
        return former if former and request.is_former(former) else None

    async def _insert(self, job: Job, key: IdempotencyKey | None) -> bool:
        try:
            is_new = await self._shop.store.insert(job, key=key.digest if key else None)
        except sqlite3.Error as error:
            self._failures.log(logging.ERROR, "a job could not be stored", error=error)
            raise StorageUnavailable() from error
        if is_new:
            self._shop.line.join(Waiting.of(job))
            self._shop.metrics.accepted(job)
        return is_new
