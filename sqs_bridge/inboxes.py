"""Inboxes: the queues of a worker, that of high priority before the other."""

from __future__ import annotations

from ..jobs.health import Component
from ..jobs.settings import Settings
from .aws import AwsFailed
from .bridge import Bridge
from .inbox import WAIT_SECONDS, Inbox, Message
from .task_queue import HIGH, of_high, problem_of

#: With two queues, no task of high priority waits longer for the other to be looked at.
SHARED_WAIT_SECONDS = 3


class Inboxes:
    """One queue or two. Methods may raise AwsFailed, but not for the queue of high priority:
    what is wrong there keeps no normal task waiting."""

    def __init__(self, bridge: Bridge, settings: Settings) -> None:
        #: Why the queues can never be used.
        self.problem = problem_of(settings.queue_url, settings.high_queue_url)
        self._normal = Inbox(bridge.sqs, settings.queue_url, region=settings.region)
        self._high: Inbox | None = None
        self._wait_seconds = WAIT_SECONDS
        if settings.high_queue_url:
            url, region = settings.high_queue_url, settings.region
            self._high = Inbox(bridge.high_sqs, url, region=region, name=HIGH)
            self._wait_seconds = SHARED_WAIT_SECONDS
        self._is_high_known = False
        self._high_trouble: AwsFailed | None = None

    @property
    def trouble(self) -> Component | None:
        """What goes wrong although messages are received."""
        if denial := self._normal.denial:
            return denial.component
        trouble = self._high_trouble or (self._high.denial if self._high else None)
        return of_high(trouble) if trouble else None

    @property
    def warning(self) -> str | None:
        """What an operator should know."""
        high = self._high.warning if self._high else None
        return self._normal.warning or high

    async def open(self) -> None:
        """Learn how the queues are made."""
        self._is_high_known = False
        await self._normal.open()

    async def receive(self, *, seconds: float) -> Message | None:
        """Wait for a message, and hold it for so long."""
        if self._high and (message := await self._receive_high(self._high, seconds)):
            return message
        return await self._normal.receive(seconds=seconds, wait_seconds=self._wait_seconds)

    async def _receive_high(self, high: Inbox, seconds: float) -> Message | None:
        try:
            if not self._is_high_known:
                await high.open()
                self._is_high_known = True
            message = await high.receive(seconds=seconds, wait_seconds=0)
        except AwsFailed as failure:
            self._high_trouble = failure
            return None
        self._high_trouble = None
        return message
