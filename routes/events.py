"""A job as a stream of server-sent events, and waiting for its end.

Every frame is complete in itself, so that one who missed some has lost nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from aiohttp import web

from ..jobs.errors import InvalidQuery
from ..jobs.job import Job
from ..jobs.prompt import Progress
from .door import caller_of
from .service import Service, service_of, surface_of
from .shown import own_job, shown
from .view import JobView

T = TypeVar("T")

#: At most two frames of progress a second.
PROGRESS_SECONDS = 0.5
#: A comment keeps proxies from closing a stream on which nothing happens.
HEARTBEAT_SECONDS = 15.0
RETRY_MS = 2000
LONGEST_WAIT_SECONDS = 60
PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\w*)\"?)?(?=$|[,;\s])", re.IGNORECASE)
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # Nginx would collect the frames.
    "X-Accel-Buffering": "no",
}


async def events(request: web.Request) -> web.StreamResponse:
    job, progress = await own_job(request)
    seen = request.headers.get("Last-Event-ID")
    if job.status.is_final and seen == _status(await shown(request, job, progress)).id:
        # A browser would ask again for ever; this ends it.
        return web.Response(status=204)
    response = web.StreamResponse(headers=HEADERS)
    with surface_of(request).limits.streams.one(caller_of(request).name):
        await response.prepare(request)
        # Whoever has gone away is noticed when he is written to.
        with suppress(ConnectionError):
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            async for frame in _frames(request, seen):
                await response.write(frame)
    return response


async def settled(service: Service, job_id: str, seconds: float) -> tuple[Job, Progress]:
    """A job once it has ended, or as it is after so many seconds."""
    ending = asyncio.ensure_future(_end_of(service, job_id))
    try:
        await asyncio.wait({ending}, timeout=seconds)
    finally:
        ending.cancel()
    return await service.get(job_id)


def wait_of(request: web.Request) -> float | None:
    """How long the answer may wait, by `Prefer: wait=n` or `?wait=n`. Raises InvalidQuery."""
    if (given := request.query.get("wait")) is None:
        found = PREFER_WAIT.search(",".join(request.headers.getall("Prefer", [])))
        given = found[1] or str(LONGEST_WAIT_SECONDS) if found else None
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InvalidQuery("`wait` must be a whole number of seconds.")
    return min(int(given), LONGEST_WAIT_SECONDS)


@dataclass(frozen=True)
class _Event:
    name: str
    data: str

    @property
    def id(self) -> str:
        """Of what it tells: who has seen that needs no repetition."""
        return sha256(self.data.encode()).hexdigest()[:16]

    @property
    def frame(self) -> bytes:
        return f"id: {self.id}\nevent: {self.name}\ndata: {self.data}\n\n".encode()


async def _frames(request: web.Request, seen: str | None) -> AsyncIterator[bytes]:
    """Until the job has ended."""
    told = Told()
    async with aclosing(service_of(request).watch(request.match_info["job_id"])) as states:
        async for state in _beating(states):
            if state is None:
                yield b": still here\n\n"
                continue
            for event in told.news(await shown(request, *state)):
                if event.id != seen:
                    yield event.frame


class Told:
    """What a watcher was told last, and what is news to him therefore."""

    def __init__(self) -> None:
        self._state: tuple[str, str | None] | None = None
        self._progress_told = float("-inf")

    def news(self, job: JobView) -> Iterator[_Event]:
        state = (job.status, job.stage)
        if state != self._state:
            self._state = state
            yield from (_Event("output", output.model_dump_json()) for output in job.outputs)
            yield _status(job)
        elif time.monotonic() - self._progress_told >= PROGRESS_SECONDS:
            self._progress_told = time.monotonic()
            yield _Event("progress", job.progress.model_dump_json())


def _status(job: JobView) -> _Event:
    return _Event("status", job.model_dump_json())


async def _beating(states: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """The same, and None whenever nothing has come for a while."""
    coming = asyncio.ensure_future(anext(states))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield None
                continue
            try:
                state = coming.result()
            except StopAsyncIteration:
                return
            yield state
            coming = asyncio.ensure_future(anext(states))
    finally:
        coming.cancel()


async def _end_of(service: Service, job_id: str) -> None:
    async with aclosing(service.watch(job_id)) as states:
        async for job, _ in states:
            if job.status.is_final:
                return
