"""Every URL in one list, and who may use it in another."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs.keys import Scope
from . import about, batch, events, jobs, metrics, openapi_document, pages, thumbnails
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
#: The scope that the rest needs. What stands in neither needs a key to learn that it is not there.
NEEDS: dict[Handler, Scope] = {
    about.workflows: Scope.READ,
    about.workflow: Scope.READ,
    openapi_document.document: Scope.READ,
    metrics.read: Scope.READ,
    jobs.read_all: Scope.READ,
    jobs.read: Scope.READ,
    jobs.output: Scope.READ,
    thumbnails.thumbnail: Scope.READ,
    events.events: Scope.READ,
    jobs.deliveries: Scope.READ,
    jobs.create: Scope.SUBMIT,
    batch.create: Scope.SUBMIT,
    jobs.cancel: Scope.CANCEL,
    jobs.delete: Scope.CANCEL,
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
        await admit(request, NEEDS.get(route))
    return await handler(request)


def _guarded(app: web.Application, prefix: str, routes: Iterable[web.RouteDef]) -> web.Application:
    """Routes below a prefix, which are reached through the door."""
    guarded = web.Application(middlewares=[record, problems, door])
    guarded.add_routes(routes)
    app.add_subapp(prefix, guarded)
    return guarded
