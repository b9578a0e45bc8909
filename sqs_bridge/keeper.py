"""TaskKeeper: tells the task table how a claimed job fares. Nothing counts without the claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..jobs.errors import JobFailed
from ..jobs.job import Job, Stage
from ..jobs.prompt import Progress
from ..jobs.threads import on
from ..jobs.workshop import Disowned
from .aws import AwsFailed
from .claim import Claim, Hold
from .desk import Desk

T = TypeVar("T")

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class TaskKeeper:
    """Made where messages are held. While the table is away, states wait for it."""

    def __init__(self, claim: Claim, desk: Desk) -> None:
        self._claim = claim
        self._desk = desk
        self._loop = asyncio.get_running_loop()

    async def save(self, job: Job) -> bool:
        """Where the engine works: tell what must not be forgotten. Raises Disowned."""
        if job.status.is_final:
            url = await _persistently(lambda: self._url(job))
            await on(self._loop, self.finish(job, url))
        elif job.stage is Stage.RUNNING:
            await on(self._loop, self._begin(job))
        return True

    async def finish(self, job: Job, result_url: str | None) -> None:
        """Where messages are held: tell how the job ended. Raises Disowned."""
        finish = self._desk.table.finish
        if not await _persistently(lambda: finish(self._claim, job, result_url=result_url)):
            raise Disowned

    async def _begin(self, job: Job) -> None:
        """Count the attempt, before it can do harm."""
        extend, seconds = self._desk.table.extend, self._desk.hold_seconds
        hold = await _persistently(
            lambda: extend(self._claim, job, Progress(), lease_seconds=seconds)
        )
        if hold is Hold.LOST:
            raise Disowned

    async def _url(self, job: Job) -> str | None:
        """The link to the first output."""
        link = await self._desk.engine.link(job.outputs[0]) if job.outputs else None
        return link.url if link else None


async def _persistently(attempt: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await attempt()
        except (AwsFailed, JobFailed) as failure:
            log.warning("the state of a job could not be told: %s", failure)
            await asyncio.sleep(RETRY_SECONDS)
