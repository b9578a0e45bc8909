"""Dispatcher: takes jobs in for workers elsewhere, and knows how each of them is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..jobs.errors import (
    BodyTooLarge,
    InputInvalid,
    JobFailed,
    NoRoom,
    NotReady,
    StorageUnavailable,
    UnknownJob,
    UnknownOutput,
)
from ..jobs.health import Component, State, unless
from ..jobs.job import Job, Output, Status, Submitted
from ..jobs.links import Link
from ..jobs.offer import Offer
from ..jobs.prompt import Progress
from ..jobs.request import JobRequest
from .aws import AwsFailed
from .bridge import Bridge
from .message import TASK_ID
from .task_item import Record, UnreadableItem

log = logging.getLogger(__name__)

TABLE_AWAY = "The task table cannot be used now. GET /health says why."
NO_UPLOADS = "This server takes no uploads, since it has no bucket (S3_BUCKET)."
UPLOAD_FAILED = "The picture could not be stored. GET /health says why."
TOO_LARGE = "The parameters are too large to be sent to a worker."


class Dispatcher:
    """Answers what the Engine answers, by queue and table."""

    def __init__(self, bridge: Bridge, offer: Offer, *, setting_problems: tuple[str, ...]) -> None:
        self.offer = offer
        self._bridge = bridge
        self._setting_problems = setting_problems
        self._sweeping: asyncio.Task[None] | None = None

    async def submit(
        self,
        slug: str,
        body: Mapping[str, Any],
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Accept a job: it is in the table when this returns, and soon in the queue.

        The same owner and idempotency key give the same job again. Raises UnknownWorkflow,
        UnhealthyWorkflow, InvalidParameters, InputInvalid, NotReady, BodyTooLarge,
        StorageUnavailable or IdempotencyKeyReused, and then there is no new job.
        """
        request = JobRequest.received(slug, body, owner, idempotency_key)
        if request.may_be_replay and (earlier := await self._find(request.job_id)):
            return await self._replay(request, earlier)
        if self._bridge.queue.problem:
            raise NotReady(self._bridge.queue.problem)
        job = await request.job(self.offer.healthy(slug), self.keep_upload)
        if not self._bridge.outbox.can_send(job):
            raise BodyTooLarge(TOO_LARGE)
        with _table_errors():
            faster = await self._bridge.table.put_new(job)
        if faster:
            return await self._replay(request, faster)
        await self._bridge.outbox.send(job)
        return Submitted(job, is_replay=False)

    async def keep_upload(self, content: AsyncIterator[bytes]) -> str:
        """Store an uploaded picture; the reference to it. Raises InputInvalid, NoRoom or
        StorageUnavailable."""
        if self._bridge.deposit is None:
            raise StorageUnavailable(NO_UPLOADS)
        try:
            return await self._bridge.deposit.keep_upload(content)
        except InputInvalid:
            raise
        except JobFailed as error:
            raise StorageUnavailable(UPLOAD_FAILED) from error
        except OSError as error:
            log.exception("an upload could not be stored")
            raise NoRoom() from error

    async def get(self, job_id: str) -> tuple[Job, Progress]:
        """As it is at this moment. Raises UnknownJob."""
        record = await self._find(job_id)
        if record is None:
            raise UnknownJob()
        return record.job, record.progress

    async def list(
        self,
        *,
        limit: int,
        status: Status | None = None,
        workflow: str | None = None,
        owner: str | None = None,
        after: int | None = None,
    ) -> list[tuple[int, Job, Progress]]:
        """(cursor, job, progress), newest first, from behind the cursor `after`."""
        with _table_errors():
            found = await self._bridge.index.page(
                limit=limit, status=status, workflow=workflow, owner=owner, after=after
            )
        return [(record.sequence, record.job, record.progress) for record in found]

    async def count_unfinished(self, owner: str) -> int:
        """How many jobs of an owner have not ended."""
        with _table_errors():
            return await self._bridge.index.count_unfinished(owner)

    async def link(self, output: Output) -> Link | None:
        """How a published output is read."""
        if output.s3_uri and "://" in output.s3_uri and not output.s3_uri.startswith("s3://"):
            # All that another program told of it.
            return Link(output.s3_uri)
        return await self._bridge.links.link(output) if self._bridge.links else None

    async def output_path(self, job_id: str, number: int) -> Path:
        """Results are never on this machine. Raises UnknownJob or UnknownOutput."""
        await self.get(job_id)
        raise UnknownOutput()

    def components(self) -> dict[str, Component]:
        """How each part is, by name."""
        problems = "; ".join((*self._setting_problems, *self.offer.problems))
        return {
            **self._bridge.components(),
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
        if self._bridge.queue.problem is None:
            self._sweeping = asyncio.get_running_loop().create_task(self._bridge.outbox.run())

    async def stop(self) -> None:
        """Let go of everything. What was accepted and not sent is found again."""
        if self._sweeping:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._bridge.close()

    async def _find(self, job_id: str) -> Record | None:
        if not TASK_ID.fullmatch(job_id):
            return None
        with _table_errors():
            return await self._bridge.table.get(job_id)

    async def _replay(self, request: JobRequest, earlier: Record) -> Submitted:
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
    except UnreadableItem as error:
        raise UnknownJob() from error
