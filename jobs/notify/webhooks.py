"""Webhooks: tells receivers how jobs go, from the outbox, until they know or too much time passed.

A notice is committed together with the change that it tells of, so that no death of the process
loses one. One may come twice, or before an earlier one; its id tells a copy.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from yarl import URL

from ..egress.guard import Guard, Place
from ..egress.sender import Answer, Sender
from ..errors import ForbiddenSource, InternalError, UnifiedApiError
from ..job import Job
from ..settings import Settings
from ..signature import Secret, signed
from ..watch import set_within
from .notices import Notice, body_of
from .outbox import Due, Outbox, Telling
from .retries import next_try
from .scheduler import Limits, Scheduler

log = logging.getLogger(__name__)

#: New notices wake it at once; this sweep finds those that are due again.
SWEEP_SECONDS = 1.0
RETRY_SECONDS = 2.0
#: After a look into the outbox nobody looks again for some times as long, or this long at most:
#: whoever reads a job must not wait because thousands of notices do.
REST_FACTOR, LONGEST_REST_SECONDS = 3, 0.25

UNSIGNED = "UNIFIED_API_WEBHOOK_SECRET is not set: receivers cannot tell our webhooks from others'"
FORBIDDEN = "UNIFIED_API_WEBHOOK_URL is not public; UNIFIED_API_ALLOW_HOSTS can allow its host:port"

Tried = Callable[[str | None], None]
Describe = Callable[[Job], Awaitable[dict[str, Any]]]


class Webhooks:
    """`describe` gives a job as clients see it, `own_urls` are this service's own."""

    def __init__(
        self,
        outbox: Outbox,
        settings: Settings,
        describe: Describe,
        *,
        own_urls: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._describe = describe
        self._tried: Tried = lambda error: None
        self._clock = clock
        self._guard = Guard(
            allow=settings.allow_hosts,
            deny=settings.deny_hosts,
            own=[Place.of(URL(url)) for url in own_urls],
        )
        self._sender = Sender(self._guard, timeout_seconds=settings.webhook_timeout)
        self._scheduler = Scheduler(Limits.of(settings))
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_at_work = False
        self._is_idle = asyncio.Event()
        #: What became of the last try to tell the server's own receiver.
        self._trouble: str | None = None
        self._has_warned = False

    @property
    def problem(self) -> str | None:
        """What is wrong with the server's own receiver, if there is one."""
        url = self._settings.webhook_url
        if url is None:
            return None
        try:
            self._guard.check_url(url)
        except ForbiddenSource:
            return FORBIDDEN
        if self._trouble:
            return f"the receiver at UNIFIED_API_WEBHOOK_URL could not be told: {self._trouble}"
        return None if self._settings.webhook_secrets else UNSIGNED

    async def work(self, tried: Tried = lambda error: None) -> None:
        """Tell what there is to tell, until it is cancelled.

        `tried` is called after each try, with why it failed or None.
        """
        self._tried = tried
        await self._sender.open()
        self._is_at_work = True
        try:
            while True:
                await self._step()
        finally:
            self._is_at_work = False
            self._is_idle.set()
            await self._drop_all()
            await self._sender.close()

    async def settle(self) -> None:
        """Return when nobody is to be told anything at the moment, though `work` goes on."""
        if self._is_at_work:
            self._is_idle.clear()
            self._outbox.news.set()
            await self._is_idle.wait()

    async def _step(self) -> None:
        self._outbox.news.clear()
        started_at = time.monotonic()
        has_begun = await self._begin_due()
        if not (has_begun or self._tasks or self._outbox.news.is_set()):
            self._is_idle.set()
        rest = REST_FACTOR * (time.monotonic() - started_at)
        await asyncio.sleep(min(rest, LONGEST_REST_SECONDS))
        if not has_begun:
            await set_within(self._outbox.news, SWEEP_SECONDS)

    async def _begin_due(self) -> bool:
        """Send what may be sent now, one of each tenant at most; whether there was any."""
        try:
            for wanted in self._scheduler.filters():
                found = await self._outbox.due(wanted, now=self._clock())
                if any([await self._begin(due) for due in self._scheduler.in_turn(found)]):
                    return True
        except sqlite3.Error:
            log.exception("the outbox could not be read")
        return False

    async def _begin(self, due: Due) -> bool:
        if not self._scheduler.admits(due):
            return False
        notice = await self._outbox.get(due.sequence)
        if notice is None:
            return False
        self._scheduler.begin(due)
        task = asyncio.ensure_future(self._tell(due, notice))
        self._tasks.add(task)
        task.add_done_callback(partial(self._put_down, due))
        return True

    async def _tell(self, due: Due, notice: Notice) -> None:
        begun, started_at = self._clock(), time.monotonic()
        answer = await self._try(notice, begun)
        self._scheduler.note(
            due,
            seconds=time.monotonic() - started_at,
            has_answered=answer.status is not None,
        )
        telling = Telling(
            webhook_id=notice.webhook_id,
            target=notice.target,
            event=notice.event,
            attempt=notice.tries + 1,
            at=begun,
            status=answer.status,
            error=answer.error,
        )
        if notice.target == "server":
            self._trouble = answer.error
        if answer.error:
            log.warning("job %s: %s was not told: %s", notice.job_id, notice.event, answer.error)
        self._tried(answer.error)
        next_at = next_try(answer, tries=notice.tries, now=self._clock())
        await self._record(notice, telling, next_at)

    async def _try(self, notice: Notice, now: float) -> Answer:
        try:
            job = Job.model_validate_json(notice.document)
            body = body_of(notice.event, job, await self._describe(job))
            headers = signed(
                body, webhook_id=notice.webhook_id, sent_at=now, secrets=self._secrets()
            )
            return await self._sender.post(self._url(notice, job), body, headers)
        except UnifiedApiError as failure:
            return Answer(error=failure.code)
        except Exception:
            log.exception("telling of job %s met a fault of this service", notice.job_id)
            return Answer(error=InternalError.code)

    def _secrets(self) -> tuple[Secret, ...]:
        secrets = self._settings.webhook_secrets
        if not (secrets or self._has_warned):
            log.warning("Unified API webhooks: %s", UNSIGNED)
            self._has_warned = True
        return secrets

    def _url(self, notice: Notice, job: Job) -> str:
        """As it is now: a wrong setting that was corrected is not tried again."""
        hook = job.webhook.url if job.webhook else None
        url = self._settings.webhook_url if notice.target == "server" else hook
        if url is None:
            raise ForbiddenSource()
        return url

    async def _record(self, notice: Notice, telling: Telling, due: float | None) -> None:
        while True:
            try:
                return await self._outbox.record(notice, telling, due=due)
            except sqlite3.Error:
                log.exception("that job %s was told cannot be saved", notice.job_id)
                await asyncio.sleep(RETRY_SECONDS)

    def _put_down(self, due: Due, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        self._scheduler.end(due)
        self._outbox.news.set()

    async def _drop_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
