"""Engine: takes jobs in, keeps ComfyUI busy with them, and knows how each of them is."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from collections.abc import AsyncIterable, Awaitable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from .errors import (
    InvalidParameters,
    NoRoom,
    NotReady,
    QueueFull,
    StorageUnavailable,
    UnknownJob,
    UnknownOutput,
)
from .health import Component, State
from .job import Job, Status
from .prompt import Progress
from .run import Run, remove_leftovers
from .store import StoreUnusable
from .threads import off_loop
from .workshop import Workshop

T = TypeVar("T")

log = logging.getLogger(__name__)

#: A drawn seed survives JSON parsers that read every number as a double (JavaScript).
SEEDS = 2**53
#: New jobs wake the engine at once; this sweep finds those that are due again.
SWEEP_SECONDS = 1.0


class Engine:
    """Answers submit, get and list, and takes every accepted job to its end."""

    def __init__(self, workshop: Workshop) -> None:
        self.offer = workshop.offer
        self._shop = workshop
        self._wake = asyncio.Event()
        self._waiting = 0
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._store_problem: str | None = "The service is starting."

    # -- verbs ---------------------------------------------------------------------------------

    async def submit(
        self, slug: str, parameters: Mapping[str, Any], *, metadata: dict[str, Any] | None = None
    ) -> Job:
        """Accept a job: it is on disk when this returns.

        Raises UnknownWorkflow, UnhealthyWorkflow, InvalidParameters, QueueFull, NotReady, NoRoom or
        StorageUnavailable, and then there is no job.
        """
        if self._store_problem:
            raise NotReady(self._store_problem)
        if self._shop.disk.problem:
            raise NoRoom(self._shop.disk.problem)
        workflow = self.offer.healthy(slug)
        if violations := workflow.violations(parameters):
            raise InvalidParameters(violations)
        if self._waiting >= self._shop.settings.max_pending:
            raise QueueFull()
        job = Job(
            job_id=str(uuid4()),
            workflow=slug,
            parameters=workflow.complete(parameters, seed=secrets.randbelow(SEEDS)),
            metadata=metadata or {},
            extension=workflow.extension,
            created_at=time.time(),
        )
        await self._accept(job)
        return job

    async def keep_upload(self, content: AsyncIterable[bytes]) -> str:
        """Store an uploaded picture; the reference to it. Raises InputInvalid or NoRoom."""
        try:
            return await self._shop.inputs.keep(content)
        except OSError as error:
            log.exception("an upload could not be stored")
            raise NoRoom() from error

    async def get(self, job_id: str) -> tuple[Job, Progress]:
        """Raises UnknownJob."""
        if run := self._runs.get(job_id):
            return run.job, run.progress
        job = await self._read(self._shop.store.get(job_id))
        if job is None:
            raise UnknownJob()
        return self._live(job)

    async def list(
        self, *, limit: int, status: Status | None, workflow: str | None, after: int | None
    ) -> list[tuple[int, Job, Progress]]:
        """(cursor, job, progress), newest first, from behind the cursor `after`."""
        found = await self._read(
            self._shop.store.page(limit=limit, status=status, workflow=workflow, after=after)
        )
        return [(sequence, *self._live(job)) for sequence, job in found]

    async def output_path(self, job_id: str, number: int) -> Path:
        """The local file of an output. Raises UnknownJob or UnknownOutput."""
        job, _ = await self.get(job_id)
        if not 0 <= number < len(job.outputs):
            raise UnknownOutput()
        path = self._shop.results.path(job, number)
        if not await off_loop(path.is_file):
            raise UnknownOutput()
        return path

    # -- health --------------------------------------------------------------------------------

    def components(self) -> dict[str, Component]:
        """How each part is, by name."""
        return {
            "comfyui": _unless(self._shop.host.problem, State.UNHEALTHY),
            "store": _unless(self._store_problem, State.UNHEALTHY),
            "disk": _unless(self._shop.disk.problem, State.DEGRADED),
            "workflows": self._workflows(),
            "settings": _unless("; ".join(self.setting_problems), State.DEGRADED),
        }

    @property
    def setting_problems(self) -> tuple[str, ...]:
        return (*self._shop.settings.problems, *self.offer.problems)

    @property
    def is_ready(self) -> bool:
        """Whether a job accepted now would run."""
        problems = (self._shop.host.problem, self._store_problem, self._shop.disk.problem)
        return not any(problems) and any(offered.is_healthy for offered in self.offer.all())

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take up what an earlier process left, begin to work. Never raises."""
        try:
            await self._shop.inputs.open()
            await self._shop.results.open()
            await self._shop.store.open(reset=self._shop.settings.reset_store)
            self._waiting = await self._shop.store.count_waiting()
            unfinished = await self._shop.store.unfinished()
        except (OSError, sqlite3.Error, StoreUnusable) as error:
            log.exception("no jobs are accepted")
            self._store_problem = f"No jobs are accepted: {_reason(error)}."
            return
        self._store_problem = None
        self._shop.host.start()
        await off_loop(remove_leftovers, self._shop, keep={job.job_id for job in unfinished})
        for job in unfinished:
            self._begin(job)
        self._spawn(self._dispatch())

    async def stop(self) -> None:
        """Let go of everything. Jobs under way are taken up at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._shop.inputs.close()
        await self._shop.store.close()

    async def _accept(self, job: Job) -> None:
        try:
            await self._shop.store.insert(job)
        except sqlite3.Error as error:
            log.exception("a job could not be stored")
            raise StorageUnavailable() from error
        self._waiting += 1
        self._wake.set()

    async def _dispatch(self) -> None:
        """Take waiting jobs up, a bounded number ahead of ComfyUI."""
        while True:
            self._wake.clear()
            job = await self._claim() if self._has_room else None
            if job is None:
                await self._woken()
            else:
                self._waiting -= 1
                self._begin(job)

    @property
    def _has_room(self) -> bool:
        ahead = sum(run.is_ahead for run in self._runs.values())
        return ahead < self._shop.settings.fetch_ahead and self._shop.disk.problem is None

    async def _claim(self) -> Job | None:
        try:
            return await self._shop.store.claim(now=time.time())
        except sqlite3.Error:
            log.exception("the next job could not be taken from the store")
            return None

    async def _woken(self) -> None:
        # Not wait_for: before Python 3.12 it can lose a cancellation that comes with the answer.
        alarm = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    def _begin(self, job: Job) -> None:
        run = Run(job, self._shop, placed=self._wake.set)
        self._runs[job.job_id] = run
        self._spawn(self._finish(run))

    async def _finish(self, run: Run) -> None:
        try:
            await run.to_the_end()
        finally:
            self._waiting += run.job.due is not None
            if self._runs.get(run.job.job_id) is run:
                del self._runs[run.job.job_id]
            self._wake.set()

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except sqlite3.Error as error:
            log.exception("the job store could not be read")
            raise StorageUnavailable("The job store could not be read.") from error

    def _live(self, job: Job) -> tuple[Job, Progress]:
        run = self._runs.get(job.job_id)
        return (run.job, run.progress) if run else (job, Progress())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _workflows(self) -> Component:
        unhealthy = [offered.slug for offered in self.offer.all() if not offered.is_healthy]
        reason = f"cannot run here: {', '.join(unhealthy)}; GET /api/v1/workflows says why"
        return _unless(reason if unhealthy else None, State.DEGRADED)


def _reason(error: Exception) -> str:
    """Without the path that an OSError carries."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _unless(problem: str | None, state: State) -> Component:
    return Component(state, problem) if problem else Component()
