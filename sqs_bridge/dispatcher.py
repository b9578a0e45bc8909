"""Dispatcher: takes jobs in for workers elsewhere, and knows how each of them is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..jobs.counted_log import CountedLog
from ..jobs.errors import (
    NOT_DELETED,
    BodyTooLarge,
    IdempotencyKeyReused,
    JobFailed,
    JobNotFinished,
    NotReady,
    QueueFull,
    StorageUnavailable,
    UnknownJob,
    UnknownOutput,
    refused_by_disk,
)
from ..jobs.health import Component, State, unless
from ..jobs.job import Job, Output, Submitted
from ..jobs.links import Link
from ..jobs.metrics import Metrics
from ..jobs.notify.outbox import Telling
from ..jobs.offer import Offer
from ..jobs.prompt import Preview, Progress
from ..jobs.request import JobRequest
from ..jobs.s3.published import remove_objects
from ..jobs.selection import ALL, Page, Selection
from ..jobs.settings import Settings
from ..jobs.staging import StagedFile, staged_for_one
from ..jobs.threads import off_loop
from .aws import AwsFailed
from .backlog import COUNT_SECONDS, Backlog
from .bridge import DAY_SECONDS, Bridge
from .depth import DEPTH_SECONDS
from .gpu_instance import GpuInstance
from .outbox import SWEEP_SECONDS
from .reaper import GIVE_UP_SECONDS, REAP_SECONDS, Reaper
from .rhythm import repeat
from .task_item import Record
from .task_pages import Cursor
from .task_table import is_task_key

log = logging.getLogger(__name__)

#: How often the table is looked at for one who watches a job.
LOOK_SECONDS = 2.0

TABLE_AWAY = "The task table cannot be used now. GET /health says why."
NO_UPLOADS = "This server takes no uploads, since it has no bucket (S3_BUCKET)."
UPLOAD_FAILED = "The picture could not be stored. GET /health says why."
NO_RESULTS = "This server cannot delete results, since it has no bucket (S3_BUCKET)."
KEY_OF_DELETED = "This Idempotency-Key was used before, for a job that has been deleted."
TOO_LARGE = "The parameters are too large to be sent to a worker."


class Dispatcher:
    """Answers what the Engine answers, by queue and table."""

    def __init__(self, bridge: Bridge, offer: Offer, settings: Settings) -> None:
        self.offer = offer
        self.metrics = Metrics(offer)
        self._bridge = bridge
        self._setting_problems = settings.problems
        task_seconds = settings.task_days * DAY_SECONDS
        self._reaper = Reaper(
            bridge.table, bridge.index, task_seconds=task_seconds, ended=self.metrics.count_end
        )
        self._backlog = Backlog(bridge.index, most=settings.max_pending)
        self.metrics.show_waiting(lambda: self._backlog.waiting)
        self.metrics.show_queue(bridge.depth.count, queues=bridge.depth.queues)
        self._gpu = GpuInstance.of(settings)
        self._failures = CountedLog(log)
        self._chores: list[asyncio.Task[None]] = []

    async def submit(
        self,
        slug: str,
        body: Mapping[str, Any],
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        cancel_after: float | None = None,
    ) -> Submitted:
        """Accept a job: it is in the table when this returns, and soon in the queue.

        The same owner and idempotency key give the same job again. Raises UnknownWorkflow,
        UnhealthyWorkflow, InvalidParameters, InputInvalid, ForbiddenSource, QueueFull, NotReady,
        BodyTooLarge, StorageUnavailable or IdempotencyKeyReused, and then there is no new job.
        """
        request = JobRequest.received(slug, body, owner, idempotency_key, cancel_after)
        if earlier := await self._earlier(request):
            return await self._replay(request, earlier)
        if self._bridge.queues.problem:
            raise NotReady(self._bridge.queues.problem)
        if self._backlog.is_full:
            raise QueueFull()
        job = await self._draft(replace(request, may_name_uploads=False))
        key = request.idempotency_key
        with _table_errors():
            faster = await self._bridge.table.put_new(job, key=key.digest if key else None)
        if faster:
            return await self._replay(request, faster)
        self._backlog.add()
        self.metrics.accepted(job)
        await self._bridge.outbox.send(job)
        if self._gpu:
            self._gpu.wake()
        return Submitted(job, is_replay=False)

    async def stage_upload(self, content: AsyncIterator[bytes], owner: str | None) -> StagedFile:
        """Take in a picture that comes with a request. Raises InputInvalid, NoRoom or
        StorageUnavailable."""
        if self._bridge.deposit is None:
            raise StorageUnavailable(NO_UPLOADS)
        try:
            return await self._bridge.deposit.stage_upload(content, owner)
        except OSError as error:
            self._failures.log(logging.ERROR, "an upload could not be stored", error=error)
            raise refused_by_disk(error) from error

    async def drop_uploads(self, files: Iterable[StagedFile]) -> None:
        """Delete those of them that no accepted job has."""
        if self._bridge.deposit:
            await self._bridge.deposit.drop(files)

    async def get(self, job_id: str) -> tuple[Job, Progress]:
        """As it is at this moment. Raises UnknownJob."""
        record = await self._existing(job_id)
        return record.job, record.progress

    async def deliveries(self, job_id: str) -> Sequence[Telling]:
        """None: workers tell webhooks, and keep the list."""
        return ()

    async def watch(self, job_id: str) -> AsyncGenerator[tuple[Job, Progress], None]:
        """As it is now, and again whenever a look at the table shows a change, to its end.

        Raises UnknownJob.
        """
        told: tuple[Job, Progress] | None = None
        while not (told and told[0].is_over):
            if told:
                await asyncio.sleep(LOOK_SECONDS)
            if (now := await self.get(job_id)) != told:
                yield now
            told = now

    async def previews(self, job_id: str) -> AsyncGenerator[Preview, None]:
        """None: workers do not send them here."""
        none: tuple[Preview, ...] = ()
        for preview in none:
            yield preview

    async def cancel(self, job_id: str) -> tuple[Job, Progress]:
        """End a job that waits, and ask the worker of one that runs to end it. The job as it is
        then; one that has ended stays as it is. Raises UnknownJob."""
        if not is_task_key(job_id):
            raise UnknownJob()
        with _table_errors():
            is_ended, record = await self._bridge.table.request_cancel(job_id)
        if record is None or record.is_deleted:
            raise UnknownJob()
        if is_ended:
            self.metrics.count_end(record.job.workflow, record.job.status)
        return record.job, record.progress

    async def delete(self, job_id: str) -> None:
        """Remove a job that has ended, and the results it wrote.

        Raises UnknownJob, JobNotFinished or StorageUnavailable.
        """
        record = await self._existing(job_id)
        if not record.job.is_over:
            raise JobNotFinished()
        # First, since the table tells where they are.
        await self._remove_results(record.job)
        with _table_errors():
            if not await self._bridge.table.remove(record):
                raise UnknownJob()

    async def list(
        self, selection: Selection = ALL, *, limit: int, after: str | None = None
    ) -> Page:
        """Newest first, from behind the cursor `after`. A page may be short, or empty.

        Raises InvalidQuery.
        """
        cursor = Cursor() if after is None else Cursor.parse(after)
        if selection.created_before is not None:
            cursor = cursor.not_after(selection.created_before)
        with _table_errors():
            found = await self._bridge.index.page(selection, limit=limit, after=cursor)
        first = selection.created_after or 0.0
        jobs = [(r.job, r.progress) for r in found.records if r.job.created_at >= first]
        return Page(jobs, str(found.next) if found.next else None)

    async def count_unfinished(self, owner: str) -> int:
        """How many jobs of an owner have not ended."""
        with _table_errors():
            return await self._bridge.index.count_unfinished(owner)

    async def link(self, output: Output) -> Link | None:
        """How a published output is read."""
        if output.s3_uri and not output.s3_uri.startswith("s3://"):
            # All that another program told of it.
            return Link(output.s3_uri)
        return await self._bridge.links.link(output) if self._bridge.links else None

    async def output_path(self, job_id: str, number: int) -> Path:
        """Results are never on this machine. Raises UnknownJob or UnknownOutput."""
        await self.get(job_id)
        raise UnknownOutput()

    async def thumbnail(self, job: Job, number: int) -> bytes | None:
        """None: here nothing is made small. Raises UnknownOutput if there is no such picture."""
        is_there = 0 <= number < len(job.outputs)
        if not is_there or not job.outputs[number].content_type.startswith("image/"):
            raise UnknownOutput()
        return None

    def components(self) -> dict[str, Component]:
        """How each part is, by name."""
        problems = "; ".join((*self._setting_problems, *self.offer.problems))
        return {
            **self._bridge.components(),
            **({"gpu_instance": self._gpu.component} if self._gpu else {}),
            "workflows": self.offer.component,
            "settings": unless(problems, State.DEGRADED),
        }

    @property
    def is_ready(self) -> bool:
        """Whether a job accepted now would be sent. Not before the table has answered once."""
        is_connected = self._bridge.outbox.has_swept and not self._bridge.problem
        return is_connected and any(offered.is_healthy for offered in self.offer.all())

    async def start(self) -> None:
        """Begin to look after what was accepted. Never raises."""
        try:
            await off_loop(self.offer.refresh)
        except Exception:
            log.exception("the workflows could not be looked at")
        self._chores = [asyncio.create_task(self.offer.keep_fresh())]
        if self._bridge.queues.problem:
            return
        chores = {
            self._bridge.outbox.sweep: SWEEP_SECONDS,
            self._backlog.count: COUNT_SECONDS,
            self._bridge.depth.look: DEPTH_SECONDS,
            self._reaper.reap: REAP_SECONDS,
            self._reaper.give_up: GIVE_UP_SECONDS,
        }
        self._chores += [
            asyncio.create_task(repeat(chore, seconds=pause)) for chore, pause in chores.items()
        ]
        self._chores.append(asyncio.create_task(self.metrics.feel_lag()))

    async def stop(self) -> None:
        """Let go of everything. What was accepted and not sent is found again."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self._gpu:
            await self._gpu.close()
        await self._bridge.close()

    async def _draft(self, request: JobRequest) -> Job:
        """The job of a request, whose pictures are in the bucket when this returns."""
        workflow = self.offer.healthy(request.slug)
        stage = partial(self.stage_upload, owner=request.owner)
        async with staged_for_one(stage, self.drop_uploads) as keep:
            job = await request.job(workflow, keep)
            if not self._bridge.outbox.can_send(job):
                raise BodyTooLarge(TOO_LARGE)
            await self._commit(workflow.pictures(job.parameters).values())
            return job

    async def _commit(self, references: Iterable[str]) -> None:
        if self._bridge.deposit is None:
            return
        try:
            await self._bridge.deposit.commit(references)
        except JobFailed as error:
            raise StorageUnavailable(UPLOAD_FAILED) from error
        except OSError as error:
            self._failures.log(logging.ERROR, "an upload could not be stored", error=error)
            raise refused_by_disk(error) from error

    async def _remove_results(self, job: Job) -> None:
        if not any((output.s3_uri or "").startswith("s3://") for output in job.outputs):
            return
        if self._bridge.results is None:
            raise StorageUnavailable(NO_RESULTS)
        try:
            await remove_objects(self._bridge.results, job)
        except JobFailed as error:
            log.exception("the results of job %s could not be deleted", job.job_id)
            raise StorageUnavailable(NOT_DELETED) from error

    async def _existing(self, job_id: str) -> Record:
        record = await self._find(job_id)
        if record is None or record.is_deleted:
            raise UnknownJob()
        return record

    async def _find(self, job_id: str) -> Record | None:
        if not is_task_key(job_id):
            return None
        with _table_errors():
            return await self._bridge.table.get(job_id)

    async def _earlier(self, request: JobRequest) -> Record | None:
        """The task that was accepted for the same key, by this version or an earlier one."""
        if (key := request.idempotency_key) is None:
            return None
        with _table_errors():
            found, former = await asyncio.gather(
                self._bridge.table.of_key(key.digest), self._bridge.table.get(key.former_job_id)
            )
        if found or former is None:
            return found
        return former if former.is_deleted or request.is_former(former.job) else None

    async def _replay(self, request: JobRequest, earlier: Record) -> Submitted:
        if earlier.is_deleted:
            raise IdempotencyKeyReused(KEY_OF_DELETED)
        submitted = request.replay(earlier.job)
        if self._bridge.outbox.has_forgotten(earlier):
            await self._bridge.outbox.send(earlier.job)
        return submitted


@contextmanager
def _table_errors() -> Iterator[None]:
    """What callers are told when the table does not answer."""
    try:
        yield
    except AwsFailed as failure:
        raise StorageUnavailable(TABLE_AWAY) from failure
