"""The job routes: parse, ask, reply."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from typing import Any

from aiohttp import web

from ..jobs.errors import InvalidQuery, TooManyStreams
from ..jobs.job import Status, Submitted, rfc3339
from ..jobs.notify.notices import webhook_ids_of
from ..jobs.rehearsal import pass_over, rehearse
from ..jobs.selection import Selection
from ..jobs.staging import Keep, staged_for_one
from ..workflows import Workflow
from .body import in_time, read_parameters
from .deadline import cancel_after_of
from .door import caller_of, idempotency_key_of
from .events import settled, wait_of
from .files import file_answer
from .moments import moment_of
from .query import flag_of, number_of
from .service import service_of, surface_of
from .shown import changeable_job, own_job, shown
from .view import PREFIX, JobView

POLL_SECONDS = 2
DEFAULT_PAGE, LARGEST_PAGE = 20, 100
#: A result never changes once it is there.
IMMUTABLE = "private, max-age=31536000, immutable"


async def create(request: web.Request) -> web.Response:
    if flag_of(request, "dry_run"):
        return await _rehearsed(request)
    wait = wait_of(request)
    job, is_replay, progress = await _submitted(request)
    headers = {"Location": f"{PREFIX}/jobs/{job.job_id}", "Retry-After": str(POLL_SECONDS)}
    if is_replay:
        headers["Idempotency-Replayed"] = "true"
    if wait is not None:
        # The job is accepted: whoever waits for too many already is told so at once.
        with suppress(TooManyStreams):
            job, progress = await settled(request, job, wait)
            headers["Preference-Applied"] = f"wait={wait}"
    is_done = is_replay or job.status.is_final
    return _reply(
        await shown(request, job, progress), status=200 if is_done else 202, headers=headers
    )


async def submit(
    request: web.Request,
    parameters: dict[str, Any],
    *,
    key: str | None,
    cancel_after: float | None,
) -> Submitted:
    """Have a job accepted for the caller, who is let in and has a permit."""
    service, name = service_of(request), caller_of(request).name
    async with surface_of(request).limits.quota.place(name, service.count_unfinished):
        return await service.submit(
            request.match_info["workflow"],
            parameters,
            owner=name,
            idempotency_key=key,
            cancel_after=cancel_after,
        )


async def read(request: web.Request) -> web.Response:
    job, progress = await own_job(request)
    if (wait := wait_of(request)) and not job.status.is_final:
        job, progress = await settled(request, job, wait)
    return unless_known(request, _reply(await shown(request, job, progress), cache="no-cache"))


async def cancel(request: web.Request) -> web.Response:
    job = await changeable_job(request)
    job, progress = await service_of(request).cancel(job.job_id)
    return _reply(await shown(request, job, progress))


async def delete(request: web.Request) -> web.Response:
    job = await changeable_job(request)
    await service_of(request).delete(job.job_id)
    return web.Response(status=204)


async def read_all(request: web.Request) -> web.Response:
    limit = number_of(request, "limit", DEFAULT_PAGE)
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidQuery(f"`limit` must be between 1 and {LARGEST_PAGE}.")
    caller = caller_of(request)
    selection = Selection(
        status=_status(request),
        workflow=request.query.get("workflow"),
        owner=None if caller.sees_all else caller.name,
        created_after=moment_of(request, "created_after"),
        created_before=moment_of(request, "created_before"),
    )
    after = request.query.get("after")
    page = await service_of(request).list(selection, limit=limit, after=after)
    # An anonymous caller's selection holds everybody's: a page then has fewer than `limit`.
    seen = [(job, progress) for job, progress in page.jobs if caller.sees(job.owner)]
    views = [await shown(request, job, progress) for job, progress in seen]
    cursor, data = page.next_cursor, [one.model_dump() for one in views]
    return web.json_response({"data": data, "next_cursor": cursor, "has_more": cursor is not None})


async def deliveries(request: web.Request) -> web.Response:
    job, _ = await own_job(request)
    tries, known = await service_of(request).deliveries(job.job_id), webhook_ids_of(job)
    data = [{**one.model_dump(), "at": rfc3339(one.at)} for one in tries if one.webhook_id in known]
    return web.json_response({"data": data}, headers={"Cache-Control": "no-store"})


async def output(request: web.Request) -> web.StreamResponse:
    job_id, number = request.match_info["job_id"], int(request.match_info["number"])
    job, _ = await own_job(request)
    if number < len(job.outputs) and (link := await service_of(request).link(job.outputs[number])):
        return web.Response(status=302, headers={"Location": link.url, "Cache-Control": "no-store"})
    path = await service_of(request).output_path(job_id, number)
    return await file_answer(
        path,
        {
            "Content-Type": job.outputs[number].content_type,
            "Cache-Control": IMMUTABLE,
            "X-Content-Type-Options": "nosniff",
        },
    )


async def _submitted(request: web.Request) -> Submitted:
    service, slug = service_of(request), request.match_info["workflow"]
    surface_of(request).limits.rate.take(caller_of(request).name)
    key, cancel_after = idempotency_key_of(request), cancel_after_of(request)
    # Unhealthy or not: what was accepted before is told again.
    workflow = service.offer.find(slug).workflow or service.offer.healthy(slug)
    stage = partial(service.stage_upload, owner=caller_of(request).name)
    async with staged_for_one(stage, service.drop_uploads) as keep:
        parameters = await _parameters(request, workflow, keep)
        return await submit(request, parameters, key=key, cancel_after=cancel_after)


async def _rehearsed(request: web.Request) -> web.Response:
    surface_of(request).limits.rate.take(caller_of(request).name)
    idempotency_key_of(request), cancel_after_of(request)
    workflow = service_of(request).offer.healthy(request.match_info["workflow"])
    parameters = await _parameters(request, workflow, pass_over)
    rehearsal = await rehearse(workflow, parameters, caller_of(request).name)
    return web.json_response(asdict(rehearsal), headers={"Cache-Control": "no-store"})


async def _parameters(request: web.Request, workflow: Workflow, keep: Keep) -> dict[str, Any]:
    reading = read_parameters(request, workflow, keep)
    return await in_time(reading, surface_of(request).limits.body_seconds)


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


def unless_known(
    request: web.Request, reply: web.Response, *, etag: str | None = None
) -> web.Response:
    """The reply, or 304 for a caller who has this very one. `etag` spares working it out."""
    assert isinstance(reply.body, bytes), "it is not streamed"
    reply.etag = etag = etag or etag_of(reply.body)
    # Also by a weak one, which proxies that compress make of ours.
    if etag in {known.value for known in request.if_none_match or ()}:
        reply.body = None
        reply.set_status(304)
    return reply


def etag_of(body: bytes) -> str:
    return sha256(body).hexdigest()[:32]


def _status(request: web.Request) -> Status | None:
    given = request.query.get("status")
    try:
        return Status(given) if given else None
    except ValueError:
        known = ", ".join(status.value for status in Status)
        raise InvalidQuery(f"`status` must be one of: {known}.") from None
