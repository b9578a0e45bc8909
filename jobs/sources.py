"""Sources: the one function that decides what a reference to a picture means."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from .errors import ForbiddenSource, InputInvalid

UPLOAD = re.compile(r"upload:([0-9a-f]{64}\.(?:png|jpg|webp))")
DATA = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?;base64,([A-Za-z0-9+/]+={0,2})", re.ASCII)
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
S3_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?"
    r"s3[.-](?:dualstack\.)?(?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?"
)
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded before, by its name in the input folder."""

    name: str


@dataclass(frozen=True)
class Embedded:
    """A picture in the reference itself."""

    content: bytes


@dataclass(frozen=True)
class S3Object:
    """An object that is read with this machine's own credentials."""

    bucket: str
    key: str


@dataclass(frozen=True)
class Web:
    """Something to be fetched under guard."""

    url: str


Source = Upload | Embedded | S3Object | Web


def source_of(
    reference: str, *, buckets: Collection[str], published: Mapping[str, str] = NOTHING
) -> Source:
    """What a reference names. `buckets` are those that may be read.

    `published` is host -> bucket: what a CDN serves of a bucket is read from the bucket.

    Raises ForbiddenSource for an s3:// reference to another bucket, InputInvalid for a data: URI
    that is not base64.
    """
    if upload := UPLOAD.fullmatch(reference):
        return Upload(upload[1])
    if reference[:5].lower() == "data:":
        return Embedded(_decoded(reference))
    if reference.startswith("s3://"):
        bucket, _, key = reference.removeprefix("s3://").partition("/")
        return _allowed(S3Object(bucket, key), buckets)
    found = _s3_object(reference, published)
    return found if found and found.bucket in buckets else Web(reference)


def _s3_object(url: str, published: Mapping[str, str]) -> S3Object | None:
    """Of an https URL of a CDN, or of S3 with the bucket in the host or in the path."""
    try:
        parts = urlsplit(url)
        if bucket := published.get(parts.netloc.lower()):
            return _plain_object(bucket, unquote(parts.path).removeprefix("/"))
        host = S3_HOST.fullmatch(parts.hostname or "") if parts.scheme == "https" else None
        if host is None or parts.username or parts.port not in (None, 443):
            return None
    except ValueError:
        return None
    path = unquote(parts.path).removeprefix("/")
    bucket, key = (host["bucket"], path) if host["bucket"] else path.partition("/")[::2]
    return _plain_object(bucket, key)


def _plain_object(bucket: str, key: str) -> S3Object | None:
    return S3Object(bucket, key) if _is_plain(bucket, key) else None


def _allowed(found: S3Object, buckets: Collection[str]) -> S3Object:
    if found.bucket not in buckets or not _is_plain(found.bucket, found.key):
        raise ForbiddenSource()
    return found


def _is_plain(bucket: str, key: str) -> bool:
    """boto3 turns an ARN given as a bucket into another host; some stores resolve `..`."""
    is_key = bool(key) and len(key.encode()) <= 1024 and ".." not in key.split("/")
    return is_key and key.isprintable() and BUCKET.fullmatch(bucket) is not None


def _decoded(uri: str) -> bytes:
    match = DATA.fullmatch(uri)
    try:
        return base64.b64decode(match[1], validate=True) if match else _not_base64()
    except binascii.Error:
        return _not_base64()


def _not_base64() -> bytes:
    raise InputInvalid("A data: URI must be written as data:image/png;base64,… without spaces.")
