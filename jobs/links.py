"""Links: by which URL a published output is read."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from .job import Output
from .settings import Settings

#: The longest that S3 signs a URL for.
WEEK_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Link:
    """`expires_at` is in seconds since the epoch; None means never."""

    url: str
    expires_at: float | None = None


class Links(Protocol):
    """A way to link outputs."""

    async def link(self, output: Output) -> Link | None:
        """None for an output that is not in a bucket."""


class CdnLinks:
    """Links to a CDN in front of the bucket."""

    def __init__(self, domain: str) -> None:
        base = domain.strip().rstrip("/")
        self._base = base if "://" in base else f"https://{base}"

    async def link(self, output: Output) -> Link | None:
        if output.s3_uri is None:
            return None
        return Link(f"{self._base}/{quote(key_of(output.s3_uri))}")


class Presigner(Protocol):
    """What can sign URLs; `bucket.Bucket` is one."""

    def presign(self, key: str, *, seconds: float) -> Awaitable[tuple[str, float]]: ...


class PresignedLinks:
    """Links straight to a private bucket, signed anew each time and open for a while."""

    def __init__(self, bucket: Presigner, *, seconds: float = WEEK_SECONDS) -> None:
        self._bucket = bucket
        self._seconds = min(seconds, WEEK_SECONDS)

    async def link(self, output: Output) -> Link | None:
        """Raises StorageUnreachable while there are no credentials."""
        if output.s3_uri is None:
            return None
        return Link(*await self._bucket.presign(key_of(output.s3_uri), seconds=self._seconds))


def links_for(settings: Settings, bucket: Presigner | None) -> Links | None:
    """The way to link outputs that the settings ask for; None without a bucket or a CDN."""
    if settings.cdn_domain and settings.url_mode != "presigned":
        return CdnLinks(settings.cdn_domain)
    return PresignedLinks(bucket, seconds=settings.presign_seconds) if bucket else None


def key_of(s3_uri: str) -> str:
    """'s3://bucket/a/b.png' -> 'a/b.png'."""
    return s3_uri.split("/", 3)[3]
