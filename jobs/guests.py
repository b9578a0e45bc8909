"""Guests: jobs that are kept elsewhere, and that this machine only works on."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from .errors import IdTaken, InvalidParameters, UnhealthyWorkflow
from .extras import split
from .job import Job
from .reception import Reception
from .request import JobRequest
from .run import Run
from .runs import Runs
from .store import Store
from .workshop import Disowned, Keeper, Workshop

#: How long the finished pictures of a guest wait for it to come again.
ORPHAN_SECONDS = 86400.0


class Guests:
    """They run beside our own jobs. Methods may raise sqlite3.Error."""

    def __init__(self, workshop: Workshop, reception: Reception, runs: Runs) -> None:
        self._shop = workshop
        self._reception = reception
        self._runs = runs

    async def draft(self, request: JobRequest) -> Job:
        """The job of a request, without accepting it. Raises as Engine.submit does.

        What only this machine does not take is its own lack, not the caller's fault.
        """
        try:
            return await self._reception.draft(request)
        except InvalidParameters as refusal:
            definition = self._shop.offer.as_defined(request.slug)
            parameters, _ = split(definition, request.body)
            if definition.violations(parameters):
                raise
            faults = "; ".join(violation.message for violation in refusal.violations)
            raise UnhealthyWorkflow(
                f"This machine does not take what is asked for: {faults}"
            ) from refusal

    async def is_id_taken(self, task_id: str) -> bool:
        """Whether a job has this id that was submitted here, which no task may replace."""
        # There are disks to which capitals make no difference.
        known = [await self._shop.store.get(each) for each in {task_id, _canonical(task_id)}]
        return any(job is not None and not job.is_shared for job in known)

    async def take_over(
        self, job: Job, keeper: Keeper, moved: Callable[[], None], *, table: str
    ) -> Run:
        """Work on a job that `keeper` keeps, in the table with this digest of its name.

        What an earlier attempt rendered here is used. Raises IdTaken.
        """
        known = await self._shop.store.get(job.job_id)
        job = job.shared(table=table)
        if known and _is_same_attempt(known, job):
            job = job.shared(table=table, rendered=known.rendered)
        if not await self._shop.store.adopt(job):
            raise IdTaken()
        return self._runs.begin(job, _Both(keeper, self._shop.store), moved)

    async def let_go(self, job_id: str) -> None:
        """Forget a job that somebody else works on from now on."""
        await self._shop.store.forget(job_id)

    async def ended(self, job: Job) -> None:
        """Have its webhooks told how a job ended, whoever ended it; what is told stays told."""
        await self._shop.store.tell(job)

    async def left(self, unfinished: list[Job]) -> list[Job]:
        """Those of an earlier process whose pictures are worth keeping; the rest is forgotten."""
        guests = [job for job in unfinished if job.is_shared]
        kept = [job for job in guests if job.rendered and _is_recent(job)]
        for job in guests:
            if job not in kept:
                await self._shop.store.forget(job.job_id)
        return kept


class _Both:
    """Keeps a job where it belongs, and a copy here while this machine works on it."""

    def __init__(self, home: Keeper, store: Store) -> None:
        self._home = home
        self._store = store

    async def save(self, job: Job) -> bool:
        try:
            await self._home.save(job)
        except Disowned:
            await self._store.forget(job.job_id)
            raise
        if job.due is None:
            return await self._store.save(job)
        await self._store.forget(job.job_id)
        return True


def _canonical(task_id: str) -> str:
    """As ids are written here, if it is a UUID in any spelling."""
    try:
        return str(UUID(task_id))
    except ValueError:
        return task_id


def _is_same_attempt(known: Job, job: Job) -> bool:
    """Earlier versions did not tell of which table it was."""
    is_of_table = known.is_shared and known.table in (None, job.table)
    return is_of_table and known.attempt == job.attempt


def _is_recent(job: Job) -> bool:
    return time.time() - (job.started_at or job.created_at) < ORPHAN_SECONDS
