"""The job routes: parse, ask, reply."""

from __future__ import annotations

from hashlib import sha256
from typing import TypeVar

from aiohttp import web

from ..jobs.errors import InvalidQuery
from ..jobs.job import Status, Submitted
from ..jobs.keys import Scope
from ..jobs.prompt import Progress
from .body import in_time, read_parameters
from .door import caller_of, idempotency_key_of
from .events import settled, wait_of
from .service import service_of, surface_of
from .shown import own_job, shown
from .view import PREFIX, JobView

T = TypeVar("T")

POLL_SECONDS = 2
DEFAULT_PAGE, LARGEST_PAGE = 20, 100
#: A result never changes once it is there.
IMMUTABLE = "private, max-age=31536000, immutable"


async def create(request: web.Request) -> web.Response:
    wait = wait_of(request)
    job, is_replay = await _submitted(request)
    progress = Progress()
    headers = {"Location": f"{PREFIX}/jobs/{job.job_id}", "Retry-After": str(POLL_SECONDS)}
    if is_replay:
        headers["Idempotency-Replayed"] = "true"
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
        job, progress = await settled(service_of(request), job.job_id, wait)
    is_done = is_replay or job.status.is_final
    return _reply(
        await shown(request, job, progress), status=200 if is_done else 202, headers=headers
    )


async def read(request: web.Request) -> web.Response:
    job, progress = await own_job(request)
    if wait := wait_of(request):
        job, progress = await settled(service_of(request), job.job_id, wait)
    return _unless_known(request, _reply(await shown(request, job, progress), cache="no-cache"))


async def cancel(request: web.Request) -> web.Response:
    await own_job(request)
    job, progress = await service_of(request).cancel(request.match_info["job_id"])
    return _reply(await shown(request, job, progress))


async def read_all(request: web.Request) -> web.Response:
    limit = _number(request, "limit", DEFAULT_PAGE)
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidQuery(f"`limit` must be between 1 and {LARGEST_PAGE}.")
    caller = caller_of(request)
    found = await service_of(request).list(
        limit=limit + 1,
        status=_status(request),
        workflow=request.query.get("workflow"),
        owner=None if caller.may(Scope.ADMIN) else caller.name,
        after=_number(request, "after", None),
    )
    page, has_more = found[:limit], len(found) > limit
    views = [await shown(request, job, progress) for _, job, progress in page]
    cursor = str(page[-1][0]) if has_more else None
    data = [one.model_dump() for one in views]
    return web.json_response({"data": data, "next_cursor": cursor, "has_more": has_more})


async def output(request: web.Request) -> web.StreamResponse:
    job_id, number = request.match_info["job_id"], int(request.match_info["number"])
    job, _ = await own_job(request)
    if number < len(job.outputs) and (link := await service_of(request).link(job.outputs[number])):
        return web.Response(status=302, headers={"Location": link.url, "Cache-Control": "no-store"})
    path = await service_of(request).output_path(job_id, number)
    return web.FileResponse(
        path,
        headers={
            "Content-Type": job.outputs[number].content_type,
            "Cache-Control": IMMUTABLE,
            "X-Content-Type-Options": "nosniff",
        },
    )


async def _submitted(request: web.Request) -> Submitted:
    service, slug = service_of(request), request.match_info["workflow"]
    limits, name = surface_of(request).limits, caller_of(request).name
    limits.rate.take(name)
    key = idempotency_key_of(request)
    # Unhealthy or not: what was accepted before is told again.
    workflow = service.offer.find(slug).workflow or service.offer.healthy(slug)
    reading = read_parameters(request, workflow, service.keep_upload)
    parameters = await in_time(reading, limits.body_seconds)
    async with limits.quota.place(name, service.count_unfinished):
        return await service.submit(slug, parameters, owner=name, idempotency_key=key)


def _reply(
    job: JobView,
    *,
    status: int = 200,
    cache: str = "no-store",
    headers: dict[str, str] | None = None,
) -> web.Response:
    return web.Response(
        text=job.model_dump_json(),
        content_type="application/json",
        status=status,
        headers={"Cache-Control": cache, **(headers or {})},
    )


def _unless_known(request: web.Request, reply: web.Response) -> web.Response:
    """The reply, or 304 for a caller who has this very one."""
    reply.etag = sha256(str(reply.text).encode()).hexdigest()[:32]
    if reply.etag in (request.if_none_match or ()):
        reply.body = None
        reply.set_status(304)
    return reply


def _status(request: web.Request) -> Status | None:
    given = request.query.get("status")
    try:
        return Status(given) if given else None
    except ValueError:
        known = ", ".join(status.value for status in Status)
        raise InvalidQuery(f"`status` must be one of: {known}.") from None


def _number(request: web.Request, name: str, default: T) -> int | T:
    given = request.query.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise InvalidQuery(f"`{name}` must be a number from an earlier reply, or a small one.")
    return int(given)
