"""The metrics, for Prometheus to fetch."""

from __future__ import annotations

from aiohttp import web

from ..jobs.metrics import MEDIA_TYPE
from .about import components_of
from .service import service_of, surface_of


async def read(request: web.Request) -> web.Response:
    text = service_of(request).metrics.text(components_of(service_of(request), surface_of(request)))
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    return web.Response(body=text, headers=headers)
