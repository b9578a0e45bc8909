"""Every URL in one list, and who may use it in another."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs.keys import Scope
from . import about, batch, events, jobs, metrics, openapi_document, pages, thumbnails
from .browsers import forbid_embedding
from .door import admit
from .feed import FEEDS, Feeds
from .problems import problems
from .record import record
from .service import SERVICE, SURFACE, Service, Surface
from .view import PREFIX

API = [
    web.get("", about.info),
    web.get("/health", about.health),
    web.get("/openapi.json", openapi_document.document),
    web.get("/docs", pages.docs),
    web.get("/dashboard", pages.dashboard),
    web.get("/web/{name}", pages.asset),
    web.get("/workflows", about.workflows),
    web.get("/workflows/{slug}", about.workflow),
    web.get("/jobs", jobs.read_all),
    web.get("/jobs/{job_id}", jobs.read),
    web.delete("/jobs/{job_id}", jobs.delete),
    web.get("/jobs/{job_id}/events", events.events),
    web.get("/jobs/{job_id}/deliveries", jobs.deliveries),
    web.get(r"/jobs/{job_id}/outputs/{number:\d{1,4}}", jobs.output),
    web.get(r"/jobs/{job_id}/outputs/{number:\d{1,4}}/thumbnail", thumbnails.thumbnail),
    web.post("/jobs/{job_id}/cancel", jobs.cancel),
    web.post("/{workflow}/jobs", jobs.create),
    web.post("/{workflow}/jobs:batch", batch.create),
    web.get("/{workflow}/jobs/{job_id}", jobs.read),
]
METRICS = [web.get("", metrics.read)]
BESIDE = [web.get("/health", about.health), web.get("/ready", about.ready)]

#: Answered to everybody.
PUBLIC: set[Handler] = {
    about.info,
    about.health,
    about.ready,
    pages.docs,
    pages.dashboard,
    pages.asset,
}
READ, SUBMIT, CANCEL = (Scope.READ,), (Scope.SUBMIT,), (Scope.CANCEL,)
#: Who submits a job is shown it, also later and by its id.
FOLLOW = (Scope.READ, Scope.SUBMIT)
#: What the rest needs: one of these scopes. What stands in neither needs a key to learn that it is
#: not there.
NEEDS: dict[Handler, tuple[Scope, ...]] = {
    about.workflows: READ,
    about.workflow: READ,
    openapi_document.document: READ,
    metrics.read: READ,
    jobs.read_all: READ,
    jobs.read: FOLLOW,
    jobs.output: FOLLOW,
    thumbnails.thumbnail: FOLLOW,
    events.events: FOLLOW,
    jobs.deliveries: READ,
    jobs.create: SUBMIT,
    batch.create: SUBMIT,
    jobs.cancel: CANCEL,
    jobs.delete: CANCEL,
}

OURS = web.AppKey("unified_api", list[web.Application])


def mount(app: web.Application, service: Service, surface: Surface) -> None:
    """Serve the API on an application that has not started, beside whatever else it serves."""
    app[SERVICE], app[SURFACE], app[FEEDS] = service, surface, Feeds(service)
    app[openapi_document.DOCUMENTS] = openapi_document.Documents(service, surface)
    app[OURS] = [_guarded(app, PREFIX, API), _guarded(app, "/metrics", METRICS)]
    app.add_routes(BESIDE)


def is_ours(request: web.Request) -> bool:
    """Whether this API answers a request, be it with an error."""
    found = request.match_info
    return any(app in found.apps for app in request.config_dict[OURS]) or found.handler in PUBLIC


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nobody comes in but by `admit`; the outside is shown to everybody."""
    route = request.match_info.handler
    if route not in PUBLIC:
        await admit(request, *NEEDS.get(route, ()))
    return await handler(request)


def _guarded(app: web.Application, prefix: str, routes: Iterable[web.RouteDef]) -> web.Application:
    """Routes below a prefix, which are reached through the door."""
    guarded = web.Application(middlewares=[record, problems, door])
    guarded.on_response_prepare.append(forbid_embedding)
    guarded.add_routes(routes)
    app.add_subapp(prefix, guarded)
    return guarded
