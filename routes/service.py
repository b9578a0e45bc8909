"""What the routes need of whoever answers them, and where they find it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from ..jobs.health import Component
from ..jobs.job import Job, Output, Submitted
from ..jobs.links import Link
from ..jobs.metrics import Metrics
from ..jobs.notify.outbox import Telling
from ..jobs.offer import Offer
from ..jobs.prompt import Preview, Progress
from ..jobs.selection import ALL, Page, Selection
from ..jobs.settings import Settings
from ..jobs.staging import StagedFile
from .auth import Keyring
from .connections import most_connections
from .limits import Limits, Quota, Rate, Streams


class Service(Protocol):
    """The verbs. The Engine answers them by running jobs."""

    offer: Offer

    async def submit(
        self,
        slug: str,
        body: Mapping[str, Any],
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        cancel_after: float | None = None,
    ) -> Submitted: ...
    async def stage_upload(
        self, content: AsyncIterator[bytes], owner: str | None
    ) -> StagedFile: ...
    async def drop_uploads(self, files: Iterable[StagedFile]) -> None: ...
    async def get(self, job_id: str) -> tuple[Job, Progress]: ...
    async def list(
        self, selection: Selection = ALL, *, limit: int, after: str | None = None
    ) -> Page: ...
    async def count_unfinished(self, owner: str) -> int: ...
    async def cancel(self, job_id: str) -> tuple[Job, Progress]: ...
    async def delete(self, job_id: str) -> None: ...
    async def deliveries(self, job_id: str) -> Sequence[Telling]: ...
    def watch(self, job_id: str) -> AsyncGenerator[tuple[Job, Progress], None]: ...
    def previews(self, job_id: str) -> AsyncGenerator[Preview, None]: ...
    async def link(self, output: Output) -> Link | None: ...
    async def output_path(self, job_id: str, number: int) -> Path: ...
    async def thumbnail(self, job: Job, number: int) -> bytes | None: ...
    def components(self) -> dict[str, Component]: ...
    @property
    def is_ready(self) -> bool: ...
    @property
    def metrics(self) -> Metrics: ...


class Part(Protocol):
    """A part of the surface that has a health of its own."""

    @property
    def name(self) -> str: ...
    @property
    def component(self) -> Component: ...


@dataclass(frozen=True)
class Surface:
    """How the service shows itself on one web application."""

    version: str
    #: Scheme and host of links to files served here; None means as the caller spelt them.
    public_url: str | None = None
    #: Whether everybody who reaches it may use it while there are no keys.
    is_open: bool = True
    #: Whether only this machine reaches it. Then callers on it may, unless by way of a proxy.
    is_local: bool = False
    #: Whose web pages may call it, besides its own; '*' means all.
    cors_origins: tuple[str, ...] = ()
    keyring: Keyring = field(default_factory=Keyring)
    limits: Limits = field(default_factory=Limits)
    #: Whether the rest of the application asks for a key as well.
    is_locked: bool = False
    parts: tuple[Part, ...] = ()
    #: How often it is judged again who may have an answer that takes long.
    recheck_seconds: float = 2.0

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        version: str,
        keys_file: Path | None,
        is_local: bool,
        parts: Sequence[Part] = (),
    ) -> Surface:
        """As the settings say, where `is_local` tells who reaches it."""
        keyring = Keyring(settings.keys, keys_file)
        return cls(
            version=version,
            public_url=settings.public_url,
            is_open=settings.allow_anonymous,
            is_local=is_local,
            keyring=keyring,
            limits=Limits(
                Rate(settings.rate_per_minute),
                Quota(settings.max_jobs_per_key),
                # Streams of one key leave room for everybody else.
                Streams(min(settings.max_streams, max(1, most_connections(settings) // 2))),
                settings.body_timeout,
            ),
            is_locked=settings.protect == "all",
            parts=(keyring, *parts),
        )


SERVICE = web.AppKey("unified_api_service", Service)
SURFACE = web.AppKey("unified_api_surface", Surface)


def service_of(request: web.Request) -> Service:
    return request.config_dict[SERVICE]


def surface_of(request: web.Request) -> Surface:
    return request.config_dict[SURFACE]


def origin_of(request: web.Request) -> str:
    """'https://api.example.org', without a slash at the end."""
    return (surface_of(request).public_url or f"{request.scheme}://{request.host}").rstrip("/")
