"""Watchers: those who want to know at once when something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when an event is set, which it is by itself after so long."""
    # Not wait_for: before Python 3.12 it can lose a cancellation that comes with the answer.
    alarm = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        alarm.cancel()


class Watchers:
    """They are told that a job changed, not how: they look for themselves."""

    def __init__(self) -> None:
        self._changed: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job changes."""
        changed = asyncio.Event()
        self._changed.setdefault(job_id, set()).add(changed)
        try:
            yield changed
        finally:
            self._changed[job_id].discard(changed)
            if not self._changed[job_id]:
                del self._changed[job_id]

    @property
    def watched(self) -> list[str]:
        """The jobs that somebody watches."""
        return list(self._changed)

    def tell(self, job_id: str) -> None:
        """The job has changed."""
        for changed in self._changed.get(job_id, ()):
            changed.set()
