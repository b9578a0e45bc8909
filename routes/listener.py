"""A port of our own that serves nothing but this API."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from ..jobs.health import Component, State
from ..jobs.settings import Settings
from . import about
from .api import mount
from .body import MAX_JSON_BYTES
from .browsers import ANY_ORIGIN, forbid_embedding, is_allowed, is_loopback
from .connections import ConnectionLimits, Connections
from .problems import problems
from .service import Service, Surface, surface_of

log = logging.getLogger(__name__)

EXPOSED = "Location, Retry-After, X-Request-Id, ETag, Idempotency-Replayed"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Cancel-After, Idempotency-Key, Prefer, X-Request-Id"
    ),
    "Access-Control-Max-Age": "600",
}
SAME_PORT = "is the port of ComfyUI itself; give this API another one"


class Listener:
    """Opens the port, and knows how that went. A port that is taken does no other harm."""

    name = "listener"

    def __init__(self, settings: Settings) -> None:
        self.host = settings.host
        self.port = settings.port or 0
        self._settings = settings
        self.component = Component(State.DEGRADED, "the port is not open yet")
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def open(self, service: Service, surface: Surface, *, comfyui_url: str) -> None:
        """Serve what `surface` serves elsewhere. What goes wrong is in `component`."""
        if self.port == URL(comfyui_url).port:
            # ComfyUI opens its port after us, and would end.
            self._fail(SAME_PORT)
            return
        app = application(service, self._own(surface))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        limits = ConnectionLimits.of(self._settings)
        self._connections = Connections(self._runner, limits)
        try:
            await self._connections.listen(self.host, self.port)
        except (OSError, ValueError) as error:
            self._fail(f"cannot be opened: {_reason(error)}")
        else:
            self.component = Component()
            log.info("Unified API: %s serves nothing but the API", self.url)

    async def close(self) -> None:
        if self._connections:
            self._connections.close()
        if self._runner:
            await self._runner.cleanup()

    def _own(self, surface: Surface) -> Surface:
        return replace(
            surface,
            is_local=is_loopback(self.host),
            is_open=self._settings.allow_anonymous,
            cors_origins=self._settings.cors_origins,
        )

    def _fail(self, reason: str) -> None:
        problem = f"UNIFIED_API_PORT: {self.host}:{self.port} {reason}"
        self.component = Component(State.UNHEALTHY, problem)


def application(service: Service, surface: Surface) -> web.Application:
    """The API alone, with the service info at its root."""
    app = web.Application(client_max_size=MAX_JSON_BYTES, middlewares=[preflight, problems])
    app.add_routes([web.get("/", about.info)])
    mount(app, service, surface)
    app.on_response_prepare.extend([share, forbid_embedding])
    return app


@web.middleware
async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a browser that asks whether a page of another origin may send a request."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if asks and is_allowed(request.headers.get("Origin", ""), surface_of(request)):
        return web.Response(status=204, headers=PREFLIGHT)
    return await handler(request)


async def share(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of allowed origins read the answer."""
    origin, surface = request.headers.get("Origin"), surface_of(request)
    if surface.cors_origins and ANY_ORIGIN not in surface.cors_origins:
        response.headers.add("Vary", "Origin, Referer")
    if origin is not None and is_allowed(origin, surface):
        allowed = ANY_ORIGIN if ANY_ORIGIN in surface.cors_origins else origin
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def _reason(error: OSError | ValueError) -> str:
    number = getattr(error, "errno", None) or 0
    return os.strerror(number).lower() if number > 0 else "there is no such address"
