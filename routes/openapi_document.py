"""Serves the OpenAPI document: made once for each change of what it shows, beside the loop."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass

from aiohttp import web

from ..jobs.single_flight import SingleFlight
from ..jobs.threads import off_loop
from ..workflows import Workflow
from .jobs import etag_of, unless_known
from .openapi import describe
from .openapi_parts import JSON, Part
from .service import Service, Surface


async def document(request: web.Request) -> web.Response:
    found = await request.config_dict[DOCUMENTS].latest()
    reply = web.Response(
        body=found.body,
        content_type=JSON,
        charset="utf-8",
        headers={"Cache-Control": "private, no-cache"},
    )
    return unless_known(request, reply, etag=found.etag)


@dataclass(frozen=True, eq=False)
class Source:
    """What the document is made from."""

    workflows: tuple[Workflow, ...]
    needs_key: bool

    def is_same(self, other: Source) -> bool:
        """A definition that changed, or that this machine takes otherwise, is another object."""
        return (
            self.needs_key == other.needs_key
            and len(self.workflows) == len(other.workflows)
            and all(map(operator.is_, self.workflows, other.workflows))
        )


@dataclass(frozen=True, eq=False)
class Document:
    source: Source
    body: bytes
    etag: str

    @classmethod
    def of(cls, source: Source, *, version: str) -> Document:
        """Takes milliseconds for each workflow."""
        security: list[Part] = [{"key": []}] if source.needs_key else []
        described = describe(source.workflows, version=version, security=security)
        body = json.dumps(described, ensure_ascii=False).encode()
        return cls(source, body, etag_of(body))


class Documents:
    """Keeps the latest document. Callers at the same moment share the making of it."""

    def __init__(self, service: Service, surface: Surface) -> None:
        self._service = service
        self._surface = surface
        self._kept: Document | None = None
        self._making: SingleFlight[None] = SingleFlight()

    async def latest(self) -> Document:
        # More than once if something changed while it was made.
        while self._kept is None or not self._kept.source.is_same(self._source):
            await self._making.run("document", self._make)
        return self._kept

    async def _make(self) -> None:
        self._kept = await off_loop(Document.of, self._source, version=self._surface.version)

    @property
    def _source(self) -> Source:
        workflows = (offered.workflow for offered in self._service.offer.all())
        is_keyed = self._surface.keyring.is_required
        return Source(tuple(filter(None, workflows)), needs_key=is_keyed)


DOCUMENTS = web.AppKey("unified_api_documents", Documents)
