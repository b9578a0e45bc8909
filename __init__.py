"""ComfyUI Unified API Service: ComfyUI workflows as versioned REST endpoints.

Importing this package does nothing but read its version. ComfyUI calls `comfy_entrypoint` while it
loads its custom nodes: all wiring is there.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs.comfyui.seam import ComfyUI
    from .jobs.engine import Engine
    from .jobs.inputs import Objects
    from .jobs.job import Job
    from .jobs.object_owners import FindJob
    from .jobs.settings import Settings
    from .jobs.workshop import Results, Workshop
    from .sqs_bridge.listener import SqsListener


def _version() -> str:
    """As pyproject.toml has it, which alone says so and lies beside this file in the wheel too."""
    text = Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8")
    return str(re.findall(r'^version = "(.+)"$', text, re.MULTILINE)[0])


__version__ = _version()


async def comfy_entrypoint() -> Any:
    """Put the service into the ComfyUI that is loading this package."""
    from .jobs.comfyui import seam
    from .jobs.drain import REPEAT_SECONDS, Drain
    from .jobs.engine import Engine
    from .jobs.notify.webhooks import Webhooks
    from .jobs.settings import Settings
    from .jobs.spot import spot_notice
    from .routes import Listener, Lock, announce, mount
    from .routes.service import Surface
    from .routes.shown import described

    settings = Settings.from_env()
    _prepare_process(settings)
    host = seam.ComfyUI(
        exit_on_hang=settings.exit_on_hang,
        grace_seconds=settings.interrupt_seconds,
        # Only ComfyUI knows what it would embed; and without room there is nothing to hold.
        hands_over=settings.picture_bytes > 0 and not settings.keep_metadata,
        picture_bytes=settings.picture_bytes,
    )
    data = host.user_folder / "unified_api"
    listener = Listener(settings) if settings.port else None
    named = (host.url, settings.public_url, listener.url if listener else None)
    own_urls = tuple(filter(None, named))
    shop = _workshop(settings, host, data, own_urls)

    async def describe(job: Job) -> dict[str, Any]:
        return await described(job, shop.results.link, settings.public_url or host.url)

    webhooks = Webhooks(shop.store.outbox, settings, describe, own_urls=own_urls)
    engine = Engine(shop, webhooks)
    queue = _queue(engine, settings, host)
    lock = Lock(lambda: host.app) if settings.protect == "all" else None
    surface = Surface.of(
        settings,
        version=__version__,
        keys_file=data / "keys.json",
        is_local=host.is_local,
        parts=[
            *(part for part in (listener, lock) if part),
            *(queue.parts if queue else []),
        ],
    )
    mount(host.app, engine, surface)

    async def start() -> None:
        await engine.start()
        if listener:
            await listener.open(engine, surface, comfyui_url=host.url)
        if queue:
            queue.start()
        seam.spare_what_is_loaded()
        drain.listen(repeat_seconds=REPEAT_SECONDS if settings.exit_on_hang else 0.0)
        if settings.spot_notice:
            drain.watch(spot_notice(settings.imds_url))
        await surface.keyring.refresh()
        announce(engine, surface, url=host.url, bucket=settings.bucket, queue=settings.queue_url)

    async def finish() -> None:
        try:
            await asyncio.gather(engine.drain(), *([queue.drain()] if queue else []))
            await webhooks.settle()
        finally:
            if queue:
                await queue.release()

    drain = Drain(finish, budget_seconds=settings.drain_seconds)
    host.on_startup(start)
    if lock:
        host.on_startup(lock.settle, last=True)
    return seam.extension_without_nodes()


def _prepare_process(settings: Settings) -> None:
    """Its log, and how many files it may have open."""
    from .jobs.log_lines import write_as
    from .jobs.open_files import raise_limit
    from .routes import count_server_errors

    write_as(settings.log, logging.getLogger(__name__))
    count_server_errors()
    raise_limit(settings.open_files)


def _workshop(settings: Settings, host: ComfyUI, data: Path, own_urls: tuple[str, ...]) -> Workshop:
    """What the engine works with. Everything of the user's is in `data`."""
    from .jobs.disk import Disk
    from .jobs.file_cache import FileCache
    from .jobs.inputs import Inputs
    from .jobs.offer import Offer
    from .jobs.store import Store
    from .jobs.thumbnails import Thumbnails
    from .jobs.workshop import Spool, Workshop
    from .workflows import LIBRARY, Catalog

    catalog = Catalog([LIBRARY, settings.workflows_dir or data / "workflows"], settings.models)
    folders = {"output": host.output_folder, "input": host.input_folder, "user": data}
    s3, results = _storage(settings, data / "results")
    store = Store(data / "jobs.sqlite3")
    cache = FileCache(data / "thumbnails", max_bytes=settings.thumbnail_bytes)
    return Workshop(
        host=host,
        offer=Offer(catalog, host.lacks, host.takes, host.text_inputs),
        store=store,
        inputs=Inputs(
            host.input_folder,
            settings,
            own_urls=own_urls,
            objects=s3,
            find_jobs=[store.get, *_in_the_table(settings)],
        ),
        results=results,
        thumbnails=Thumbnails(results, cache),
        disk=Disk(folders, min_free_bytes=settings.min_free_bytes),
        spool=Spool(settings.spool_bytes),
        settings=settings,
    )


def _queue(engine: Engine, settings: Settings, host: ComfyUI) -> SqsListener | None:
    """Who takes jobs from the queue, if there is one. Loading boto3 takes time."""
    if settings.queue_url is None:
        return None
    from .sqs_bridge.bridge import Bridge
    from .sqs_bridge.listener import SqsListener

    listener = SqsListener(engine, Bridge.of(settings), settings)
    # What was accepted over HTTP is on disk; messages are handed back.
    host.on_hopeless(listener.release)
    return listener


def _in_the_table(settings: Settings) -> list[FindJob]:
    """Where jobs of the queue are looked up, if there is one."""
    if settings.queue_url is None:
        return []
    from .sqs_bridge.known_jobs import KnownJobs

    return [KnownJobs(settings).find]


def _storage(settings: Settings, local_folder: Path) -> tuple[Objects | None, Results]:
    """The reader of S3 objects, if any may be read, and the keeper of results.

    Loading boto3 takes time, so only a bucket has it loaded.
    """
    from .jobs.outputs import LocalResults

    if not settings.read_buckets:
        return None, LocalResults(local_folder)
    from .jobs.links import links_for
    from .jobs.s3.bucket import Bucket
    from .jobs.s3.client import S3
    from .jobs.s3.results import S3Results

    s3 = S3(settings.region)
    if settings.bucket is None or settings.url_mode == "local":
        return s3, LocalResults(local_folder)
    bucket = Bucket(s3, settings.bucket, kms_key_id=settings.kms_key_id)
    links = links_for(settings, bucket)
    assert links is not None, "there is a bucket to sign for"
    return s3, S3Results(bucket, prefix=settings.prefix, links=links)
