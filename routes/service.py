"""What the routes need of whoever answers them, and where they find it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from ..jobs.health import Component
from ..jobs.job import Job, Status
from ..jobs.offer import Offer
from ..jobs.prompt import Progress


class Service(Protocol):
    """The verbs. The Engine answers them by running jobs."""

    offer: Offer

    async def submit(self, slug: str, parameters: Mapping[str, Any]) -> Job: ...
    async def keep_upload(self, content: AsyncIterable[bytes]) -> str: ...
    async def get(self, job_id: str) -> tuple[Job, Progress]: ...
    async def list(
        self, *, limit: int, status: Status | None, workflow: str | None, after: int | None
    ) -> list[tuple[int, Job, Progress]]: ...
    async def output_path(self, job_id: str, number: int) -> Path: ...
    def components(self) -> dict[str, Component]: ...
    @property
    def is_ready(self) -> bool: ...


@dataclass(frozen=True)
class Surface:
    """How the service shows itself on one web application."""

    version: str
    #: Scheme and host of links to files served here; None means as the caller spelt them.
    public_url: str | None = None
    #: False where strangers could reach the job routes: they are refused then.
    is_open: bool = True


SERVICE = web.AppKey("unified_api_service", Service)
SURFACE = web.AppKey("unified_api_surface", Surface)


def service_of(request: web.Request) -> Service:
    return request.config_dict[SERVICE]


def surface_of(request: web.Request) -> Surface:
    return request.config_dict[SURFACE]


def origin_of(request: web.Request) -> str:
    """'https://api.example.org', without a slash at the end."""
    return (surface_of(request).public_url or f"{request.scheme}://{request.host}").rstrip("/")
