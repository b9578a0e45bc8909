"""ComfyUI Unified API Service: ComfyUI workflows as versioned REST endpoints.

Importing this package does nothing. ComfyUI calls `comfy_entrypoint` while it loads its custom
nodes: all wiring is there.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


async def comfy_entrypoint() -> Any:
    """Put the service into the ComfyUI that is loading this package."""
    from .jobs import comfyui
    from .jobs.disk import Disk
    from .jobs.engine import Engine
    from .jobs.inputs import Inputs
    from .jobs.offer import Offer
    from .jobs.outputs import LocalResults
    from .jobs.settings import Settings
    from .jobs.store import Store
    from .jobs.workshop import Workshop
    from .routes import announce, mount
    from .routes.service import Surface
    from .workflows import LIBRARY, Catalog

    settings = Settings.from_env()
    host = comfyui.ComfyUI(exit_on_hang=settings.exit_on_hang)
    data = host.user_folder / "unified_api"
    catalog = Catalog([LIBRARY, settings.workflows_dir or data / "workflows"], settings.models)
    folders = {"output": host.output_folder, "input": host.input_folder, "user": data}
    engine = Engine(
        Workshop(
            host=host,
            offer=Offer(catalog, host.lacks),
            store=Store(data / "jobs.sqlite3"),
            inputs=Inputs(host.input_folder, settings),
            results=LocalResults(data / "results"),
            disk=Disk(folders, min_free_bytes=settings.min_free_bytes),
            settings=settings,
        )
    )
    surface = Surface(
        version=__version__,
        public_url=settings.public_url,
        is_open=settings.allow_anonymous or host.is_local,
    )
    mount(host.app, engine, surface)

    async def start() -> None:
        await engine.start()
        announce(engine, surface, host.url)

    host.on_startup(start)
    return comfyui.extension_without_nodes()
