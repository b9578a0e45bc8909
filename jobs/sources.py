"""Sources: the one function that decides what a reference to a picture means."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from .errors import NOT_READABLE, ForbiddenSource, InputInvalid
from .owners import DIGEST, MARK
from .readable import Access, Readable

#: With the mark of its owner, or without one as earlier versions stored it.
UPLOAD = re.compile(rf"upload:((?P<name>{DIGEST}(?:{MARK})?)\.(?:png|jpg|webp))")
DATA = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?;base64,([A-Za-z0-9+/]+={0,2})", re.ASCII)
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
S3_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?"
    r"s3[.-](?:dualstack\.)?(?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?"
)
NO_OBJECTS = Readable()
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
    """An object that is read with this machine's own credentials, for its owner alone or not.

    `url` is how it was named, unless that was s3://: without credentials anybody may try that.
    """

    bucket: str
    key: str
    is_owned: bool = False
    url: str | None = None


@dataclass(frozen=True)
class Web:
    """Something to be fetched under guard, without any credentials.

    `is_closed` is a URL of a bucket of ours that this machine must not read for the caller.
    """

    url: str
    is_closed: bool = False


Source = Upload | Embedded | S3Object | Web


def source_of(
    reference: str,
    *,
    readable: Readable = NO_OBJECTS,
    published: Mapping[str, str] = NOTHING,
) -> Source:
    """What a reference names.

    `published` is host -> bucket: what a CDN serves of a bucket is read from the bucket.

    Raises ForbiddenSource for an s3:// reference to what may not be read, InputInvalid for a data:
    URI that is not base64.
    """
    if upload := UPLOAD.fullmatch(reference):
        return Upload(upload[1])
    if reference[:5].lower() == "data:":
        return Embedded(_decoded(reference))
    if reference.startswith("s3://"):
        bucket, _, key = reference.removeprefix("s3://").partition("/")
        return _allowed(bucket, key, readable)
    if found := _place_in_s3(reference, published):
        return _by_url(reference, *found, readable)
    return Web(reference)


def _allowed(bucket: str, key: str, readable: Readable) -> S3Object:
    access = readable.access(bucket, key) if _is_plain(bucket, key) else Access.NOBODY
    if access is Access.NOBODY:
        raise ForbiddenSource(NOT_READABLE)
    return S3Object(bucket, key, is_owned=access is Access.OWNER)


def _by_url(url: str, bucket: str, key: str, readable: Readable) -> Source:
    access = readable.access(bucket, key) if _is_plain(bucket, key) else Access.NOBODY
    if access is Access.NOBODY:
        return Web(url, is_closed=bucket in readable.buckets)
    return S3Object(bucket, key, is_owned=access is Access.OWNER, url=url)


def _place_in_s3(url: str, published: Mapping[str, str]) -> tuple[str, str] | None:
    """Bucket and key of a URL of a CDN, or of S3 with the bucket in the host or in the path."""
    try:
        parts = urlsplit(url)
        path = unquote(parts.path).removeprefix("/")
        is_web = parts.scheme in ("http", "https")
        if is_web and (bucket := published.get(parts.netloc.lower())):
            return bucket, path
        host = S3_HOST.fullmatch(parts.hostname or "") if parts.scheme == "https" else None
        if host is None or parts.username or parts.port not in (None, 443):
            return None
    except ValueError:
        return None
    if host["bucket"]:
        return host["bucket"], path
    bucket, _, key = path.partition("/")
    return bucket, key


def _is_plain(bucket: str, key: str) -> bool:
    """boto3 turns an ARN given as a bucket into another host; some stores resolve `..`."""
    is_key = bool(key) and len(key.encode()) <= 1024 and ".." not in re.split(r"[/\\]", key)
    return is_key and key.isprintable() and BUCKET.fullmatch(bucket) is not None


def _decoded(uri: str) -> bytes:
    match = DATA.fullmatch(uri)
    try:
        return base64.b64decode(match[1], validate=True) if match else _not_base64()
    except binascii.Error:
        return _not_base64()


def _not_base64() -> bytes:
    raise InputInvalid("A data: URI must be written as data:image/png;base64,… without spaces.")
