"""A job as a stream of server-sent events, and waiting for its end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from aiohttp import web

from ..jobs.errors import InvalidQuery, RequestRefused
from ..jobs.job import Job
from ..jobs.prompt import Progress
from .door import caller_of
from .feed import FEEDS, Feed, Subject
from .frames import Event, Page, status_of
from .problems import problem_of
from .query import flag_of
from .revocation import refusal_during
from .service import Service, origin_of, service_of, surface_of
from .shown import own_job, shown

#: A comment keeps proxies from closing a stream on which nothing happens.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"
RETRY_MS = 2000
LONGEST_WAIT_SECONDS = 60
LAST_EVENT_SECONDS = 5.0
PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\w*)\"?)?(?=$|[,;\s])", re.IGNORECASE)
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # Nginx would collect the frames.
    "X-Accel-Buffering": "no",
}


async def events(request: web.Request) -> web.StreamResponse:
    job, progress = await own_job(request)
    subject = Subject(job.job_id, origin_of(request), flag_of(request, "previews"))
    seen = request.headers.get("Last-Event-ID")
    if job.is_over and seen == status_of(await shown(request, job, progress)).id:
        # A browser would ask again for ever; this ends it.
        return web.Response(status=204)
    response = web.StreamResponse(headers=HEADERS)
    with surface_of(request).limits.streams.one(caller_of(request).name):
        await response.prepare(request)
        # Whoever has gone away is noticed when he is written to.
        with suppress(ConnectionError), request.config_dict[FEEDS].read(subject) as feed:
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            writing = _write(response, _frames(feed, seen))
            if refusal := await refusal_during(request, job, writing):
                await _tell_refusal(request, response, refusal)
    return response


async def settled(request: web.Request, job: Job, seconds: float) -> tuple[Job, Progress]:
    """A job once it has ended, or as it is after so many seconds.

    It takes a connection for as long as a stream may, and counts as one. Raises TooManyStreams,
    or what refuses the caller meanwhile.
    """
    service = service_of(request)
    with surface_of(request).limits.streams.one(caller_of(request).name):
        ending = _end_of(service, job.job_id)
        if refusal := await refusal_during(request, job, ending, seconds=seconds):
            raise refusal
    return await service.get(job.job_id)


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


async def _write(response: web.StreamResponse, frames: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(frames):
        async for frame in frames:
            await response.write(frame)


async def _tell_refusal(
    request: web.Request, response: web.StreamResponse, refusal: RequestRefused
) -> None:
    """The last event of a stream whose caller may have no more of it."""
    event = Event("problem", json.dumps(problem_of(request, refusal)), has_id=False)
    try:
        await asyncio.wait_for(response.write(event.frame), LAST_EVENT_SECONDS)
    except asyncio.TimeoutError:
        # Whoever reads nothing is not waited for.
        if request.transport:
            request.transport.abort()


async def _frames(feed: Feed, seen: str | None) -> AsyncGenerator[bytes, None]:
    """Until the job has ended."""
    told: Page | None = None
    while not (told and told.is_final):
        page = await feed.after(told, seconds=HEARTBEAT_SECONDS)
        if page is None:
            yield HEARTBEAT
            continue
        for event in page.since(told):
            if event.id is None or event.id != seen:
                yield event.frame
        told = page


async def _end_of(service: Service, job_id: str) -> None:
    async with aclosing(service.watch(job_id)) as states:
        async for job, _ in states:
            if job.is_over:
                return
