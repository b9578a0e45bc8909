"""The job of a request, and how it is shown to the one who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..jobs.errors import Forbidden, UnknownJob
from ..jobs.job import Job, Output
from ..jobs.links import Link
from ..jobs.prompt import Progress
from .door import caller_of
from .service import origin_of, service_of
from .view import JobView, view

ONLY_SEEN = (
    "This key may see the job, but not change it: that takes a key of the name that submitted it,"
    " or one with the scope admin."
)


async def own_job(request: web.Request) -> tuple[Job, Progress]:
    """The job of the path. Raises UnknownJob, also if it is somebody else's."""
    job, progress = await service_of(request).get(request.match_info["job_id"])
    check_sees(request, job)
    if request.match_info.get("workflow", job.workflow) != job.workflow:
        raise UnknownJob()
    return job, progress


async def changeable_job(request: web.Request) -> Job:
    """The job of the path. Raises UnknownJob, or Forbidden where the caller may only see it."""
    job, _ = await own_job(request)
    if not caller_of(request).may_change(job.owner):
        raise Forbidden(ONLY_SEEN)
    return job


def check_sees(request: web.Request, job: Job) -> None:
    """Raises UnknownJob."""
    if not caller_of(request).sees(job.owner):
        raise UnknownJob()


async def shown(request: web.Request, job: Job, progress: Progress) -> JobView:
    return await seen_from(origin_of(request), service_of(request).link, job, progress)


async def seen_from(
    origin: str, link: Callable[[Output], Awaitable[Link | None]], job: Job, progress: Progress
) -> JobView:
    """The job with fresh links, which begin with `origin` where they lead here."""
    links = [await link(output) for output in job.outputs]
    return view(job, progress, links, origin)


async def described(
    job: Job, link: Callable[[Output], Awaitable[Link | None]], origin: str
) -> dict[str, Any]:
    """The job as JSON, for one who did not ask."""
    seen = await seen_from(origin.rstrip("/"), link, job, Progress())
    return seen.model_dump(mode="json")
