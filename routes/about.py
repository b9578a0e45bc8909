"""What the service is and how it is: info, health, readiness, the catalog."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from ..jobs.errors import UnknownHost
from ..jobs.health import Component, State
from ..jobs.offer import Offered
from .anonymous import access_of
from .auth import Keyring
from .browsers import RESOURCE_POLICY, SAME_ORIGIN
from .door import may_be_rebound, may_read, takes_jobs_from
from .service import Service, Surface, service_of, surface_of
from .view import PREFIX

NAME = "ComfyUI Unified API Service"
#: Only these can make the process useless; the others limit what it can do.
VITAL = ("comfyui", "store", "dynamodb", "sqs")


async def info(request: web.Request) -> web.Response:
    """Raises UnknownHost."""
    shows_workflows = await may_read(request)
    if may_be_rebound(request):
        raise UnknownHost()
    slugs = [offered.slug for offered in service_of(request).offer.all()]
    return _fresh(
        {
            "name": NAME,
            "version": surface_of(request).version,
            "workflows": slugs if shows_workflows else None,
            "links": {
                "self": PREFIX,
                "workflows": f"{PREFIX}/workflows",
                "jobs": f"{PREFIX}/jobs",
                "health": f"{PREFIX}/health",
                "openapi": f"{PREFIX}/openapi.json",
                "docs": f"{PREFIX}/docs",
                "dashboard": f"{PREFIX}/dashboard",
            },
        }
    )


async def health(request: web.Request) -> web.Response:
    tells_reasons = await may_read(request)
    surface = surface_of(request)
    components = components_of(service_of(request), surface)
    state = _overall(components)
    body: dict[str, Any] = {"status": state.value}
    if not may_be_rebound(request):
        body["version"] = surface.version
        body["components"] = {
            name: {
                "status": part.state.value,
                "reason": part.reason if tells_reasons or _is_told_to_all(name, surface) else None,
            }
            for name, part in components.items()
        }
    return _fresh(body, status=503 if state is State.UNHEALTHY else 200)


async def ready(request: web.Request) -> web.Response:
    service, shows_more = service_of(request), await may_read(request)
    is_ready = service.is_ready and await takes_jobs_from(request)
    body: dict[str, Any] = {"ready": is_ready}
    if shows_more:
        body["workflows"] = {one.slug: list(one.problems) for one in service.offer.all()}
        parts = {} if is_ready else components_of(service, surface_of(request))
        ill = {name: part for name, part in parts.items() if part.state is not State.HEALTHY}
        body["reasons"] = {name: part.reason for name, part in ill.items()}
    return _fresh(body, status=200 if is_ready else 503)


async def workflows(request: web.Request) -> web.Response:
    return _fresh({"data": [_listed(offered) for offered in service_of(request).offer.all()]})


async def workflow(request: web.Request) -> web.Response:
    return _fresh(_listed(service_of(request).offer.find(request.match_info["slug"])))


def components_of(service: Service, surface: Surface) -> dict[str, Component]:
    """How each part is, of the service and of what serves it."""
    parts = {part.name: part.component for part in surface.parts}
    if surface.keyring in surface.parts:
        parts[Keyring.name] = access_of(surface)
    return service.components() | parts


def _is_told_to_all(name: str, surface: Surface) -> bool:
    """Why nobody is admitted is no secret: every refusal says it too."""
    return name == Keyring.name and surface.keyring.lack is not None


def _overall(components: dict[str, Component]) -> State:
    """Without a vital part nothing works; without another, something."""
    vital = [part for name, part in components.items() if name in VITAL]
    if any(part.state is State.UNHEALTHY for part in vital):
        return State.UNHEALTHY
    is_whole = all(part.state is State.HEALTHY for part in components.values())
    return State.HEALTHY if is_whole else State.DEGRADED


def _listed(offered: Offered) -> dict[str, Any]:
    listed: dict[str, Any] = {
        "slug": offered.slug,
        "health": (State.HEALTHY if offered.is_healthy else State.UNHEALTHY).value,
        "problems": list(offered.problems),
        "urls": {"self": f"{PREFIX}/workflows/{offered.slug}"},
    }
    if workflow := offered.workflow:
        listed |= {
            "title": workflow.title,
            "description": workflow.description,
            "revision": workflow.revision,
            "parameters": workflow.schema,
            "images": list(workflow.images),
            "outputs": list(workflow.outputs),
            "limits": {
                "max_wait_seconds": workflow.max_wait_seconds,
                "max_run_seconds": workflow.max_run_seconds,
            },
        }
        listed["urls"]["jobs"] = f"{PREFIX}/{offered.slug}/jobs"
    return listed


def _fresh(body: dict[str, Any], *, status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=False)
    return web.Response(
        text=text,
        status=status,
        content_type="application/json",
        # Beside the routes of others, nobody else says who may embed it.
        headers={"Cache-Control": "no-store", RESOURCE_POLICY: SAME_ORIGIN},
    )
