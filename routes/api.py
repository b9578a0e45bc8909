"""Every URL in one list."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs.errors import AuthNotConfigured
from . import about, jobs
from .problems import problems
from .service import SERVICE, SURFACE, Service, Surface, surface_of
from .view import PREFIX

API = [
    web.get("", about.info),
    web.get("/health", about.health),
    web.get("/workflows", about.workflows),
    web.get("/workflows/{slug}", about.workflow),
    web.get("/jobs", jobs.read_all),
    web.get("/jobs/{job_id}", jobs.read),
    web.get(r"/jobs/{job_id}/outputs/{number:\d{1,4}}", jobs.output),
    web.post("/{workflow}/jobs", jobs.create),
    web.get("/{workflow}/jobs/{job_id}", jobs.read),
]
BESIDE = [web.get("/health", about.health), web.get("/ready", about.ready)]

#: Answered to everybody; the rest needs an open door.
PUBLIC = (about.info, about.health)


def mount(app: web.Application, service: Service, surface: Surface) -> None:
    """Serve the API on an application that has not started, beside whatever else it serves."""
    app[SERVICE] = service
    app[SURFACE] = surface
    api = web.Application(middlewares=[problems, door])
    api.add_routes(API)
    app.add_subapp(PREFIX, api)
    app.add_routes(BESIDE)


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing but the outside is shown where strangers could come in."""
    if not surface_of(request).is_open and request.match_info.handler not in PUBLIC:
        raise AuthNotConfigured()
    return await handler(request)
