"""Limits for each key: how many jobs in a minute, how many at a time, how long a body takes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from ..jobs.errors import RateLimited, TooManyJobs, TooManyStreams

MINUTE = 60.0


class Rate:
    """A bucket of permits for each key, full at first and refilled evenly. 0 a minute is no limit.

    Callers without a key share one bucket.
    """

    def __init__(self, per_minute: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str | None, tuple[float, float]] = {}

    def take(self, name: str | None) -> None:
        """One permit. Raises RateLimited, with the time until there is one."""
        if not self._per_minute:
            return
        now = self._clock()
        left, filled = self._buckets.get(name, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - filled) * self._per_minute / MINUTE)
        self._buckets[name] = (left - (left >= 1), now)
        if left < 1:
            raise RateLimited(wait_seconds=math.ceil((1 - left) * MINUTE / self._per_minute))


class Quota:
    """How many jobs of one key may be under way. 0 is no limit."""

    def __init__(self, most: int = 0) -> None:
        self._most = most
        # Of the names of keys, so there are few.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def place(
        self, name: str | None, count: Callable[[str], Awaitable[int]]
    ) -> AsyncIterator[None]:
        """Hold a place while a job is accepted. Raises TooManyJobs."""
        if not self._most or name is None:
            yield
            return
        # Serialised for each key: concurrent requests must not all pass the check before one of
        # them is stored.
        async with self._locks[name]:
            if await count(name) >= self._most:
                raise TooManyJobs()
            yield


class Streams:
    """How many event streams of one key may be open, and requests that wait for the end of a job.

    Callers without a key count as one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str | None] = Counter()

    @contextmanager
    def one(self, name: str | None) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self._open[name] >= self._most:
            raise TooManyStreams()
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1


@dataclass(frozen=True)
class Limits:
    """All of them; by default there are none but the time for a body."""

    rate: Rate = field(default_factory=Rate)
    quota: Quota = field(default_factory=Quota)
    streams: Streams = field(default_factory=lambda: Streams(1000))
    body_seconds: float = 60.0
