"""Holding: one message, from its receipt to its end, and the job that it asks for.

The result is stored before the status, the status before the message is deleted. Whoever dies on
the way leaves a message that comes again, and a table that tells how far the job was.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ..jobs.errors import (
    CrashLoop,
    DeadlineExceeded,
    ForbiddenSource,
    IdTaken,
    InputInvalid,
    InvalidParameters,
    JobFailed,
    NoWorker,
    RequestRefused,
    StorageDenied,
    StorageUnreachable,
    Unfit,
    UnifiedApiError,
)
from ..jobs.job import Job, Status
from ..jobs.request import JobRequest
from ..jobs.run import Run
from ..jobs.s3.faults import Fault
from ..jobs.threads import post
from ..jobs.workshop import Disowned
from .aws import AwsFailed
from .claim import Claim, HeldByOther, Terminal
from .desk import LONGEST_PAUSE_SECONDS, Desk
from .heartbeat import Heartbeat
from .inbox import Message
from .keeper import TaskKeeper
from .message import MalformedTask, TaskMessage, UnknownVersion
from .task_item import UnreadableItem

log = logging.getLogger(__name__)

STORE_FAILED = "The job store of this worker failed: {}"
#: What makes the message of an ended task worth a look.
QUARANTINED = (CrashLoop.code, NoWorker.code, IdTaken.code)


class NoTask(JobFailed):
    """The message of the task cannot be read."""

    code = MalformedTask.code


class HandedBack(UnifiedApiError):
    """The task is left to another worker, or to another time."""

    code = "handed_back"


class Holding:
    """`moved` is called when another message may be taken."""

    def __init__(self, message: Message, desk: Desk, moved: Callable[[], None]) -> None:
        self._message = message
        self._inbox = message.inbox
        self._desk = desk
        self._moved = moved
        self._heart = Heartbeat(desk, message)
        self._is_released = False
        self._task = asyncio.ensure_future(self._to_the_end())
        self._task.add_done_callback(lambda _: moved())

    @property
    def is_over(self) -> bool:
        return self._task.done()

    @property
    def is_taken_up(self) -> bool:
        """Whether the engine has its job."""
        return self._heart.run is not None

    @property
    def needs_gpu(self) -> bool:
        """Whether it runs, or is held ahead."""
        run = self._heart.run
        return not self.is_over and (run is None or run.needs_gpu)

    async def ended(self) -> None:
        await asyncio.wait({self._task})

    def release(self, *, by_force: bool = False) -> None:
        """Hand the message back, but let what is under way end unless told otherwise."""
        self._is_released = True
        run = self._heart.run
        if run and (by_force or not run.is_under_way):
            post(self._desk.engine_loop, run.abandon)

    # -- the message ---------------------------------------------------------------------------

    async def _to_the_end(self) -> None:
        try:
            await self._work()
        except (HandedBack, AwsFailed, UnreadableItem) as reason:
            log.warning("a message is handed back: %s", reason)
            await (self._put_off if _may_pass(reason) else self._drop)(self._pause)
        except Exception:
            log.exception("a message met a fault of this service")
            await self._drop(LONGEST_PAUSE_SECONDS)
        finally:
            await self._heart.stop()

    @property
    def _pause(self) -> float:
        return self._desk.pause(self._message.times)

    async def _work(self) -> None:
        try:
            task = TaskMessage.parse(self._message.body)
            await self._attend(task)
        except (MalformedTask, UnknownVersion) as defect:
            log.error("a message is no task: %s", defect)
            if isinstance(defect, MalformedTask) and defect.task_id:
                await self._fail_accepted(defect.task_id, NoTask(str(defect)))
            await self._inbox.quarantine(self._message, str(defect))

    async def _attend(self, task: TaskMessage) -> None:
        if await self._is_id_taken(task.task_id):
            await self._refuse(task, IdTaken())
            return
        # There are disks to which capitals make no difference.
        at_work, place = self._desk.at_work, task.task_id.lower()
        if place in at_work:
            # A copy, or the message was lost hold of. Two runs of a task would share their files.
            await self._put_off(max(self._desk.hold_seconds, self._pause))
            return
        at_work.add(place)
        try:
            await self._claim(*await self._draft(task))
        finally:
            at_work.discard(place)

    async def _is_id_taken(self, task_id: str) -> bool:
        """Raises HandedBack if that cannot be told."""
        try:
            return await self._desk.on_engine(self._desk.engine.guests.is_id_taken(task_id))
        except sqlite3.Error as error:
            raise HandedBack(STORE_FAILED.format(error)) from error

    async def _refuse(self, task: TaskMessage, refusal: JobFailed) -> None:
        """Fail a task that must not run here, if the table has it and nobody holds it.

        No webhook is told: receivers would take it for news of the job that has this id here.
        """
        log.error("task %s is refused: %s", task.task_id, refusal)
        if await self._desk.table.abandon(task.task_id, refusal):
            count = partial(self._desk.engine.metrics.count_end, task.workflow, Status.FAILED)
            post(self._desk.engine_loop, count)
        await self._inbox.quarantine(self._message, str(refusal))

    async def _draft(self, task: TaskMessage) -> tuple[Job, JobFailed | None]:
        """The job that is asked for, and why no worker could run it.

        Raises MalformedTask, or HandedBack if it is only this worker that cannot.
        """
        # What cannot be run may also be too large for the table.
        bare = Job(
            job_id=task.task_id, workflow=task.workflow, parameters={}, created_at=time.time()
        )
        if task.deadline is not None and task.deadline < time.time():
            return bare, DeadlineExceeded()
        try:
            body = await self._body(task)
            request = JobRequest(
                task.task_id,
                task.workflow,
                body,
                deadline=task.deadline,
                priority=task.priority,
                may_name_uploads=False,
            )
            return await self._desk.on_engine(self._desk.engine.guests.draft(request)), None
        except InvalidParameters as error:
            return bare, Unfit("; ".join(violation.message for violation in error.violations))
        except (InputInvalid, ForbiddenSource) as error:
            return bare, error
        except (RequestRefused, StorageDenied, StorageUnreachable) as lack:
            if self._inbox.is_last(self._message):
                return bare, NoWorker(f"{NoWorker()} {lack}")
            raise HandedBack(str(lack)) from lack

    async def _body(self, task: TaskMessage) -> dict[str, Any]:
        """What is asked for. Raises MalformedTask, StorageDenied or StorageUnreachable."""
        if task.claim is None:
            return task.request_body or {}
        if self._desk.deposit is None:
            raise StorageUnreachable("Its body is in a bucket, and S3_BUCKET is not set.")
        try:
            return await self._desk.deposit.read_request(task.claim)
        except MalformedTask as defect:
            raise MalformedTask(str(defect), task.task_id) from defect

    async def _claim(self, job: Job, failure: JobFailed | None) -> None:
        now = time.monotonic()
        found = await self._desk.table.claim(
            job, owner=self._desk.worker, lease_seconds=self._desk.hold_seconds
        )
        if isinstance(found, Terminal):
            if not found.is_deleted:
                await self._tell_of(found.job)
            await self._inbox.delete(self._message)
        elif isinstance(found, HeldByOther):
            await self._put_off(max(found.until - time.time(), self._pause))
        else:
            await self._hold(found, failure, claimed=now)

    async def _fail_accepted(self, task_id: str, failure: JobFailed) -> None:
        """Tell whoever waits for a task, if there is one of this id that nobody has begun."""
        table = self._desk.table
        record = await table.get(task_id)
        if record is None or record.job.is_over or record.job.status is not Status.PENDING:
            return
        claim = await table.claim(
            record.job, owner=self._desk.worker, lease_seconds=self._desk.hold_seconds
        )
        if isinstance(claim, Claim):
            with suppress(Disowned):
                ended = claim.job.failed(failure, now=time.time())
                await TaskKeeper(claim, self._desk).finish(ended, None)
                await self._tell_of(ended)
                post(self._desk.engine_loop, self._desk.engine.metrics.ended, ended)

    # -- the claimed job -----------------------------------------------------------------------

    async def _hold(self, claim: Claim, failure: JobFailed | None, *, claimed: float) -> None:
        keeper = TaskKeeper(claim, self._desk)
        now = time.time()
        if failure:
            await self._end(keeper, claim.job.failed(failure, now=now))
        elif claim.wants_cancel:
            await self._end(keeper, claim.job.cancelled(now=now))
        elif self._is_released:
            await self._give_back(claim, reason="the worker is ending")
        else:
            await self._run(claim, keeper, claimed=claimed)

    async def _end(self, keeper: TaskKeeper, job: Job) -> None:
        """Of a job that is not run."""
        with suppress(Disowned):
            await keeper.finish(job, None)
            post(self._desk.engine_loop, self._desk.engine.metrics.ended, job)
            await self._dismiss(job)

    async def _run(self, claim: Claim, keeper: TaskKeeper, *, claimed: float) -> None:
        guests = self._desk.engine.guests
        moved = partial(post, asyncio.get_running_loop(), self._moved)
        try:
            run = await self._desk.on_engine(
                guests.take_over(claim.job, keeper, moved, table=self._desk.table.digest)
            )
        except sqlite3.Error as error:
            await self._desk.table.hand_back(claim, reason="the worker's job store failed")
            raise HandedBack(STORE_FAILED.format(error)) from error
        except IdTaken as refusal:
            await self._end(keeper, claim.job.failed(refusal, now=time.time()))
            return
        self._heart.keep(claim, run, claimed=claimed)
        self._moved()
        if self._is_released:
            self.release()
        await self._desk.on_engine(run.ended())
        await self._heart.stop()
        if run.job.status.is_final and not run.is_disowned:
            await self._dismiss(run.job)
        elif not run.is_disowned:
            await self._hand_back(claim, run)

    async def _hand_back(self, claim: Claim, run: Run) -> None:
        """A job that is to be tried again, or that was let go of."""
        job, engine = run.job, self._desk.engine
        # First: the next to get the message may be this worker.
        with suppress(sqlite3.Error):
            await self._desk.on_engine(engine.guests.let_go(job.job_id))
        if job.due is not None:
            reason = f"attempt {job.attempt} failed"
            await self._give_back(claim, reason=reason, seconds=self._desk.pause(job.attempt))
        elif engine.condition.is_stuck and run.is_under_way:
            # As if the process had died: should the job be why, that is how it is found out.
            await self._put_off(self._desk.hold_seconds)
        else:
            await self._give_back(claim, reason="the worker let go of it")

    async def _give_back(self, claim: Claim, *, reason: str, seconds: float = 0) -> None:
        await self._heart.stop()
        if await self._desk.table.hand_back(claim, reason=reason):
            await self._put_off(seconds)

    async def _tell_of(self, job: Job) -> None:
        """Have the webhooks told of an end that no run of this worker came to."""
        with suppress(sqlite3.Error):
            await self._desk.on_engine(self._desk.engine.guests.ended(job))

    async def _dismiss(self, job: Job) -> None:
        """The message of a job that has ended. If that fails, it comes again and is deleted."""
        code = job.error_detail.code if job.error_detail else None
        if code in QUARANTINED:
            await self._inbox.quarantine(self._message, job.error or "")
        else:
            await self._inbox.delete(self._message)

    async def _put_off(self, seconds: float) -> None:
        """Have the message come again then."""
        await self._let_go(self._inbox.put_off, seconds)

    async def _drop(self, seconds: float) -> None:
        """Have the message come again then, unless it has come too often."""
        await self._let_go(self._inbox.hold, seconds)

    async def _let_go(self, how: Callable[..., Awaitable[None]], seconds: float) -> None:
        await self._heart.stop()
        try:
            await how(self._message, seconds=seconds)
        except AwsFailed as failure:
            log.warning("a message comes again when its time is over: %s", failure)


def _may_pass(reason: UnifiedApiError) -> bool:
    """Whether the same message may fare better another time."""
    if isinstance(reason, AwsFailed):
        return reason.fault is not Fault.LASTING
    return not isinstance(reason, UnreadableItem)
