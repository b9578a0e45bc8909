"""The orchestrator: the same API in front of a fleet, without ComfyUI or a GPU.

`python -m unified_api.sqs_bridge.orchestrator`
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

from aiohttp import web

from .. import __version__
from ..jobs.health import State
from ..jobs.log_lines import write_as
from ..jobs.offer import Offer
from ..jobs.open_files import raise_limit
from ..jobs.settings import Settings
from ..routes.about import components_of
from ..routes.announce import auth_of
from ..routes.browsers import is_loopback
from ..routes.connections import ConnectionLimits, Connections
from ..routes.listener import application
from ..routes.server_log import count_server_errors
from ..routes.service import Surface
from ..workflows import LIBRARY, Catalog
from .bridge import Bridge
from .dispatcher import Dispatcher
from .outbox import UNSENT_SECONDS

# As a program this module has no name of its own.
log = logging.getLogger(__package__)

PORT = 8080
#: Requests under way are answered when the process is told to end.
SHUTDOWN_SECONDS = 20.0
EVERYWHERE, HERE = "0.0.0.0", "127.0.0.1"


def main(*, unsent_seconds: float = UNSENT_SECONDS) -> None:
    """Serve until SIGTERM or SIGINT. Exits with status 1 if the port cannot be opened.

    A job that is accepted and not sent is sent again after `unsent_seconds`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    settings = Settings.from_env()
    write_as(settings.log, logging.getLogger())
    count_server_errors()
    raise_limit(settings.open_files)
    host, port = host_of(settings), settings.port or PORT
    app = orchestrator(settings, unsent_seconds=unsent_seconds)
    log.info("Unified API %s: orchestrator on http://%s:%d", __version__, host, port)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(_serve(app, host, port, ConnectionLimits.of(settings)))
    except OSError as error:
        log.error("Unified API: %s:%d cannot be opened: %s", host, port, error.strerror)
        raise SystemExit(1) from error


async def _serve(app: web.Application, host: str, port: int, limits: ConnectionLimits) -> None:
    """Until a signal ends it. Raises OSError if the port cannot be opened."""
    end = _end_by_signal()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    connections = Connections(runner, limits)
    try:
        await connections.listen(host, port)
        await end.wait()
    finally:
        connections.close()
        await runner.cleanup()


def _end_by_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. Windows has but a KeyboardInterrupt."""
    end = asyncio.Event()
    with suppress(NotImplementedError):
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end.set)
    return end


def orchestrator(settings: Settings, *, unsent_seconds: float = UNSENT_SECONDS) -> web.Application:
    """The application. It asks nothing of the network before it starts."""
    folders = [folder for folder in (LIBRARY, settings.workflows_dir) if folder]
    offer = Offer(Catalog(folders, settings.models))
    dispatcher = Dispatcher(Bridge.of(settings, unsent_seconds=unsent_seconds), offer, settings)
    surface = _surface(settings)
    app = application(dispatcher, surface)

    async def working(_: web.Application) -> AsyncIterator[None]:
        await dispatcher.start()
        _tell(dispatcher, surface)
        yield
        await dispatcher.stop()

    app.cleanup_ctx.append(working)
    return app


def host_of(settings: Settings) -> str:
    """Everywhere if that is safe or asked for; else only this machine."""
    if "host" in settings.model_fields_set:
        return settings.host
    return EVERYWHERE if settings.keys or settings.allow_anonymous else HERE


def _surface(settings: Settings) -> Surface:
    # Keys come from the settings alone, so that all replicas have the same.
    is_local = is_loopback(host_of(settings))
    surface = Surface.of(settings, version=__version__, keys_file=None, is_local=is_local)
    return replace(surface, cors_origins=settings.cors_origins)


def _tell(dispatcher: Dispatcher, surface: Surface) -> None:
    log.info("Unified API: auth: %s", auth_of(surface))
    for name, part in components_of(dispatcher, surface).items():
        if part.state is not State.HEALTHY:
            log.warning("Unified API: %s is %s: %s", name, part.state.value, part.reason)


if __name__ == "__main__":
    main()
