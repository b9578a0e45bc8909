"""Engine: takes jobs in, keeps ComfyUI busy with them, and knows how each of them is."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, TypeVar

from ..workflows import is_file
from .condition import Condition
from .counted_log import CountedLog
from .errors import (
    NOT_DELETED,
    JobFailed,
    JobNotFinished,
    KeptInTable,
    StorageUnavailable,
    UnknownJob,
    UnknownOutput,
    refused_by_disk,
)
from .guests import Guests
from .health import Component
from .job import RANKS, Job, Output, Priority, Submitted
from .line import Waiting
from .links import Link
from .memory import give_back_memory, glibc_trim
from .notify.outbox import Telling
from .notify.webhooks import Webhooks
from .outlook import Outlook
from .outputs import UNREADABLE
from .prompt import Preview, Progress
from .reception import Reception
from .run import Run, prepare_working_folder
from .runs import Runs
from .selection import ALL, Page, Selection, sequence_of
from .staging import StagedFile
from .store import StoreUnusable
from .threads import off_loop
from .upkeep import look_after_storage, tidy_up
from .warm_up import WARM_UP, WarmUp
from .watch import set_within
from .workshop import Workshop

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Who waits is told twice a second at most how the line moves.
TELL_SECONDS = 0.5
#: How many of an earlier process's runs are looked at to know how long they take.
RUNS_KNOWN = 200

SHUTTING_DOWN = "The service is shutting down."


class Engine:
    """Answers submit, get, list and cancel, and takes every accepted job to its end."""

    def __init__(self, workshop: Workshop, webhooks: Webhooks) -> None:
        self.offer = workshop.offer
        self.metrics = workshop.metrics
        self._shop = workshop
        self._webhooks = webhooks
        self._reception = Reception(workshop)
        self._warm_up = WarmUp(workshop)
        self.condition = Condition(workshop, self._reception, webhooks, self._warm_up)
        self._failures = CountedLog(log)
        self._wake = asyncio.Event()
        self._runs = Runs(workshop, moved=self._move, ended=self._line_up_again)
        self._outlook = Outlook(workshop.line, workshop.estimates, self._runs)
        self._telling: asyncio.TimerHandle | None = None
        self.guests = Guests(workshop, self._reception, self._runs)
        self.metrics.show_waiting(self._count_waiting)
        self._tasks: set[asyncio.Task[None]] = set()
        #: Of these, what gives ComfyUI more to do.
        self._feeding: list[asyncio.Task[None]] = []

    # -- verbs ---------------------------------------------------------------------------------

    async def submit(
        self,
        slug: str,
        body: Mapping[str, Any],
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        cancel_after: float | None = None,
    ) -> Submitted:
        """Accept a job: it is on disk when this returns. `body` is as the caller gave it.

        It is given up if it is not done `cancel_after` seconds from now.

        The same owner and idempotency key give the same job again. Raises UnknownWorkflow,
        UnhealthyWorkflow, InvalidParameters, InputInvalid, ForbiddenSource, QueueFull, NotReady,
        NoRoom, StorageUnavailable or IdempotencyKeyReused, and then there is no new job.
        """
        submitted = await self._reception.submit(slug, body, owner, idempotency_key, cancel_after)
        self._move()
        _, progress = self._live(submitted.job)
        return submitted._replace(progress=progress)

    async def stage_upload(self, content: AsyncIterator[bytes], owner: str | None) -> StagedFile:
        """Take in a picture that comes with a request.

        Raises InputInvalid, NoRoom or StorageUnavailable.
        """
        try:
            return await self._shop.inputs.stage(content, owner)
        except OSError as error:
            self._failures.log(logging.ERROR, "an upload could not be stored", error=error)
            raise refused_by_disk(error) from error

    async def drop_uploads(self, files: Iterable[StagedFile]) -> None:
        """Delete those of them that no accepted job has."""
        await self._shop.inputs.drop(files)

    async def get(self, job_id: str) -> tuple[Job, Progress]:
        """Raises UnknownJob."""
        if run := self._runs.find(job_id):
            return self._live(run.job)
        job = await self._read(self._shop.store.get(job_id))
        if job is None:
            raise UnknownJob()
        return self._live(job)

    async def list(
        self, selection: Selection = ALL, *, limit: int, after: str | None = None
    ) -> Page:
        """Newest first, from behind the cursor `after`. Raises InvalidQuery."""
        beyond = sequence_of(after)
        found = await self._read(self._shop.store.page(selection, limit=limit + 1, after=beyond))
        page = found[:limit]
        cursor = str(page[-1][0]) if len(found) > limit else None
        return Page([self._live(job) for _, job in page], cursor)

    async def count_unfinished(self, owner: str) -> int:
        """How many jobs of an owner have not ended."""
        return await self._read(self._shop.store.count_unfinished(owner))

    async def cancel(self, job_id: str) -> tuple[Job, Progress]:
        """The job as it is then: cancelled, unless it has ended or its result is being published.

        Raises UnknownJob.
        """
        if cancelled := await self._read(self._shop.store.cancel(job_id, now=time.time())):
            await self._leave_line(cancelled)
        await self._runs.cancel(job_id)
        return await self.get(job_id)

    async def delete(self, job_id: str) -> None:
        """Remove a job that has ended, and the results it wrote.

        Raises UnknownJob, JobNotFinished, KeptInTable or StorageUnavailable.
        """
        job, _ = await self.get(job_id)
        if job.is_shared:
            raise KeptInTable()
        if not job.is_over:
            raise JobNotFinished()
        if run := self._runs.find(job_id):
            # It would be found there until then.
            await run.ended()
        try:
            await self._shop.results.remove(job)
            await self._shop.thumbnails.remove(job)
        except (JobFailed, OSError) as error:
            log.exception("the results of job %s could not be deleted", job_id)
            raise StorageUnavailable(NOT_DELETED) from error
        if job.is_readable:
            await self._read(self._shop.store.remove([job_id]))
        else:
            # It may wait, by its record.
            self._shop.line.leave(job_id)
            await self._read(self._shop.store.remove_unreadable(job_id))

    async def watch(self, job_id: str) -> AsyncGenerator[tuple[Job, Progress], None]:
        """The job as it is now, and again whenever it has changed, to its end.

        Raises UnknownJob.
        """
        with self._shop.watchers.watching(job_id) as changed:
            job, progress = await self.get(job_id)
            yield job, progress
            while not job.is_over:
                await changed.wait()
                changed.clear()
                is_as_it_was = job.due is not None and self._outlook.is_waiting(job_id)
                # Only its turn has come nearer: nothing is to be read.
                job, progress = self._live(job) if is_as_it_was else await self.get(job_id)
                yield job, progress

    def previews(self, job_id: str) -> AsyncGenerator[Preview, None]:
        """What ComfyUI shows of the picture while it is made, for ever; two a second at most."""
        return self._shop.previews.watch(job_id)

    async def deliveries(self, job_id: str) -> Sequence[Telling]:
        """The tries to tell receivers of a job, oldest first."""
        return await self._read(self._shop.store.outbox.of(job_id))

    async def link(self, output: Output) -> Link | None:
        """How a published output is read; None if this machine serves it."""
        return await self._shop.results.link(output)

    async def output_path(self, job_id: str, number: int) -> Path:
        """The local file of an output. Raises UnknownJob, UnknownOutput or StorageUnavailable."""
        job, _ = await self.get(job_id)
        if not 0 <= number < len(job.outputs):
            raise UnknownOutput()
        path = self._shop.results.path(job, number)
        try:
            is_there = await off_loop(is_file, path)
        except OSError as error:
            raise StorageUnavailable(UNREADABLE) from error
        if not is_there:
            raise UnknownOutput()
        return path

    async def thumbnail(self, job: Job, number: int) -> bytes | None:
        """An output as a small WebP. Raises UnknownOutput."""
        return await self._shop.thumbnails.of(job, number)

    def components(self) -> dict[str, Component]:
        """How each part is, by name."""
        return self.condition.components()

    @property
    def is_ready(self) -> bool:
        """Whether a job accepted now would run."""
        return self.condition.is_ready

    @property
    def seconds_of_work(self) -> float | None:
        """Expected until ComfyUI has run all that is taken up; None where it is not foreseen."""
        return self._outlook.seconds_of_work

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take up what an earlier process left, begin to work. Never raises."""
        try:
            await self._look_around()
            await self._shop.inputs.open()
            await self._shop.results.open()
            settings = self._shop.settings
            await self._shop.store.open(
                reset=settings.reset_store, is_hooked=settings.webhook_url is not None
            )
            for waiting in await self._shop.store.waiting():
                self._shop.line.join(waiting)
            for workflow, run_ms in reversed(await self._shop.store.run_times(most=RUNS_KNOWN)):
                self._shop.estimates.learn(workflow, run_ms / 1000)
            unfinished = await self._shop.store.unfinished()
            ours = [job for job in unfinished if not job.is_shared]
            kept = {job.job_id for job in (*ours, *await self.guests.left(unfinished))}
            self._shop.host.start()
            await off_loop(prepare_working_folder, self._shop, keep={*kept, WARM_UP})
            self._warm_up.prepare()
        except Exception as error:
            log.exception("no jobs are accepted")
            self._reception.closed = f"No jobs are accepted: {_reason(error)}."
            return
        self._reception.closed = None
        self._feeding = [self._spawn(self._warm_up.run()), self._spawn(self._dispatch())]
        for job in ours:
            self._runs.begin(job, self._shop.store)
        self._spawn(look_after_storage(self._shop.results))
        self._spawn(tidy_up(self._shop))
        self._spawn(self._give_up())
        self._spawn(self.metrics.feel_lag())
        self._spawn(give_back_memory(glibc_trim()))
        self._spawn(self._webhooks.work(self._shop.metrics.webhook_tried))

    async def _look_around(self) -> None:
        """See what can run here and whether there is room, now and from now on."""
        for look in (self.offer.refresh, self._shop.disk.look):
            try:
                await off_loop(look)
            except OSError:
                # It is looked again soon.
                log.exception("this machine could not be looked at")
        self._spawn(self.offer.keep_fresh())
        self._spawn(self._shop.disk.keep_looking())

    async def stop(self) -> None:
        """Let go of everything. Jobs under way are taken up at the next start."""
        if self._telling:
            self._telling.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runs.stop()
        await self._shop.thumbnails.close()
        await self._shop.inputs.close()
        await self._shop.store.close()

    async def drain(self) -> None:
        """Take nothing up any more, and return when what is under way has ended.

        The rest is taken up at the next start.
        """
        self._reception.closed = SHUTTING_DOWN
        for task in self._feeding:
            task.cancel()
        await self._runs.drain()

    # -- work ----------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        """Take waiting jobs up, a bounded number ahead of ComfyUI."""
        while True:
            self._wake.clear()
            job = await self._claim(least) if (least := self._least) else None
            if job is None:
                await set_within(self._wake, self._shop.timing.sweep_seconds)
            elif job.is_over:
                await self._leave_line(job)
            else:
                self._shop.line.leave(job.job_id)
                self._runs.begin(job, self._shop.store)

    async def _give_up(self) -> None:
        """End jobs that have waited for too long."""
        while True:
            try:
                while job := await self._shop.store.give_up(now=time.time()):
                    await self._leave_line(job)
            except sqlite3.Error as error:
                message = "the job store could not be searched for old jobs"
                self._failures.log(logging.ERROR, message, error=error)
            await asyncio.sleep(self._shop.timing.sweep_seconds)

    @property
    def _least(self) -> Priority | None:
        """Of what priority a job must be to be begun now; normal ones never fill all the room."""
        if not self.condition.can_publish:
            return None
        most_ahead = self._shop.settings.fetch_ahead
        return next((each for each in reversed(RANKS) if self._runs.ahead(each) < most_ahead), None)

    async def _claim(self, least: Priority) -> Job | None:
        try:
            return await self._shop.store.claim(now=time.time(), least=least)
        except sqlite3.Error as error:
            message = "the next job could not be taken from the store"
            self._failures.log(logging.ERROR, message, error=error)
            return None

    def _count_waiting(self) -> int:
        return len(self._shop.line) + self._runs.unrun - self.metrics.running

    def _live(self, job: Job) -> tuple[Job, Progress]:
        """A job that was read from the store, as it is now."""
        now, progress = self._runs.live(job)
        return now, self._outlook.seen(now, progress)

    async def _leave_line(self, ended: Job) -> None:
        """A job has ended that nobody worked on."""
        if run := self._runs.find(ended.job_id):
            # It has just been put back, and joins the line when that is done.
            await run.ended()
        self._shop.line.leave(ended.job_id)
        self.metrics.ended(ended)
        self._shop.watchers.tell(ended.job_id)
        self._move()

    def _line_up_again(self, run: Run) -> None:
        is_taken_up = self._runs.find(run.job.job_id) is not None
        if run.job.due is not None and not run.job.is_shared and not is_taken_up:
            self._shop.line.rejoin(Waiting.of(run.job))

    def _move(self) -> None:
        """Somebody's turn has come nearer: wake the work, and soon tell those who watch."""
        self._wake.set()
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(TELL_SECONDS, self._tell_the_waiting)

    def _tell_the_waiting(self) -> None:
        self._telling = None
        for job_id in self._shop.watchers.watched:
            if self._outlook.is_waiting(job_id):
                self._shop.watchers.tell(job_id)

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except sqlite3.Error as error:
            self._failures.log(logging.ERROR, "the job store could not be read", error=error)
            raise StorageUnavailable("The job store could not be read.") from error

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _reason(error: Exception) -> str:
    """What may be shown: an OSError carries a path, and what is not foreseen anything."""
    if isinstance(error, OSError):
        return error.strerror or "the disk refuses"
    if isinstance(error, sqlite3.Error | StoreUnusable):
        return str(error)
    return "a fault of this service; the log has the reason"
