"""Bucket: the objects of the results bucket. Results are written once and never replaced."""

from __future__ import annotations

import base64
import io
import math
import string
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import ClientError, HTTPClientError

from ..errors import ObjectTaken, ObjectUnknown, StorageDenied, StorageUnreachable
from .client import PATIENCE_SECONDS, S3, metadata_of
from .faults import status_of

#: What lies at a key never changes.
CACHE_CONTROL = "public, max-age=31536000, immutable"
ONCE = {"IfNoneMatch": "*"}
METADATA_BYTES = 2048
#: So much may the clocks differ by which jobs are created and objects written.
CLOCK_SECONDS = 900.0
PLAIN = string.punctuation.replace("%", "")


@dataclass(frozen=True)
class NewObject:
    """An object to be written for a job."""

    key: str
    body: Path | bytes
    sha256: str
    content_type: str
    job_id: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    cache_control: str = CACHE_CONTROL
    #: Of the job; empty for what is no job's.
    source: str = ""
    #: The same, in seconds since the epoch.
    created_at: float = 0.0

    @property
    def headers(self) -> dict[str, str]:
        """Its metadata as it travels: ASCII, and without spaces that somebody may trim."""
        named = {**self.metadata, "job-id": self.job_id, "sha256": self.sha256}
        if self.source:
            named["source"] = self.source
        return {name: quote(value, safe=PLAIN) for name, value in named.items()}

    @property
    def metadata_fits(self) -> bool:
        return sum(len(name) + len(value) for name, value in self.headers.items()) <= METADATA_BYTES


@dataclass(frozen=True)
class Found:
    """What is told of an object without reading it."""

    size: int
    content_type: str
    metadata: dict[str, str]
    #: When it was written, in seconds since the epoch.
    written_at: float

    def belongs_to(self, job_id: str, *, source: str, created_at: float) -> bool:
        """Whether it was written for the job of this id that came from this source.

        Earlier versions told no source. What they wrote before the job was created is another's.
        """
        if self.metadata.get("job-id") != job_id:
            return False
        if told := self.metadata.get("source"):
            return told == source
        return self.written_at >= created_at - CLOCK_SECONDS


class Bucket:
    """The objects of one bucket.

    Where no other error is named, a method may raise StorageDenied or StorageUnreachable; it has
    `patience` seconds to repeat itself.
    """

    def __init__(self, s3: S3, name: str, *, kms_key_id: str | None = None) -> None:
        self.name = name
        self._s3 = s3
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}
        )

    @property
    def trouble(self) -> StorageDenied | StorageUnreachable | None:
        """Why calls fail; None while they do not."""
        return self._s3.trouble

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    async def put_once(self, new: NewObject, *, patience: float = PATIENCE_SECONDS) -> bool:
        """Write an object unless there is one. False if one of the same job is there already.

        Raises ObjectTaken or ObjectUnknown if what is there is not this job's, or may not be.
        """
        until = time.monotonic() + patience
        if await self._s3.call(partial(self._put, new, until, ONCE), patience=patience):
            return True
        # Perhaps it is our own: the answer to a put that succeeded may be lost, and boto3 repeats.
        found = await self.head(new.key, patience=patience)
        if found is None or not found.belongs_to(
            new.job_id, source=new.source, created_at=new.created_at
        ):
            raise ObjectTaken()
        return False

    async def put(self, new: NewObject, *, patience: float = PATIENCE_SECONDS) -> None:
        """Write an object, whatever was there. Its age, by which it may be ended, begins anew."""
        until = time.monotonic() + patience
        await self._s3.call(partial(self._put, new, until, {}), patience=patience)

    async def head(self, key: str, *, patience: float = PATIENCE_SECONDS) -> Found | None:
        """What lies at a key; None if nothing does. Raises ObjectUnknown if that is not told."""
        return await self._s3.call(partial(self._head, key), patience=patience)

    async def read(self, key: str, *, patience: float = PATIENCE_SECONDS) -> bytes:
        """The whole of a small object."""
        return await self._s3.call(partial(self._read, key), patience=patience)

    def download(self, key: str) -> AsyncIterator[bytes]:
        """The content of an object. What goes wrong is no trouble: it may be gone, rightly.

        Raises InputFetchFailed.
        """
        return self._s3.download(self.name, key)

    async def presign(self, key: str, *, seconds: float) -> tuple[str, float]:
        """A URL that anybody may read the object by, and when it ends (seconds since the epoch)."""
        return await self._s3.sign(partial(self._presign, key, seconds))

    async def delete(self, keys: Iterable[str], *, patience: float = PATIENCE_SECONDS) -> None:
        """Remove objects; what is not there is no matter."""
        for key in keys:
            await self._s3.call(partial(self._delete, key), patience=patience)

    async def probe(self) -> None:
        """Ask for the bucket once, so that `trouble` is up to date."""
        with suppress(StorageDenied, StorageUnreachable):
            await self._s3.call(lambda client: client.head_bucket(Bucket=self.name), patience=0)

    def _put(self, new: NewObject, until: float, condition: Mapping[str, str], client: Any) -> bool:
        """False if the condition does not hold."""
        with _open(new.body, until) as content:
            try:
                client.put_object(
                    Bucket=self.name,
                    Key=new.key,
                    Body=content,
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(new.sha256)).decode(),
                    ContentType=new.content_type,
                    CacheControl=new.cache_control,
                    Metadata=new.headers,
                    **self._encryption,
                    **condition,
                )
            except ClientError as error:
                if status_of(error) == 412:
                    return False
                raise
        return True

    def _head(self, key: str, client: Any) -> Found | None:
        try:
            answer = client.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if status_of(error) == 404:
                return None
            # Without the permission to list, an absent object is forbidden too.
            if status_of(error) == 403:
                raise ObjectUnknown() from error
            raise
        written_at = answer["LastModified"].timestamp()
        metadata = metadata_of(answer)
        return Found(answer["ContentLength"], answer["ContentType"], metadata, written_at)

    def _read(self, key: str, client: Any) -> bytes:
        return bytes(client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def _presign(self, key: str, seconds: float, client: Any) -> tuple[str, float]:
        url = client.generate_presigned_url(
            "get_object", Params={"Bucket": self.name, "Key": key}, ExpiresIn=int(seconds)
        )
        return url, min(time.time() + seconds, _end_of_credentials(client))

    def _delete(self, key: str, client: Any) -> None:
        client.delete_object(Bucket=self.name, Key=key)


class _Upload(io.FileIO):
    """A file that cannot be read when its time is up, so that a crawling upload ends."""

    def __init__(self, path: Path, until: float) -> None:
        super().__init__(path)
        self._until = until

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._until:
            raise HTTPClientError(error="the upload took too long")
        return super().read(size) or b""


def _open(body: Path | bytes, until: float) -> io.FileIO | io.BytesIO:
    return io.BytesIO(body) if isinstance(body, bytes) else _Upload(body, until)


def _end_of_credentials(client: Any) -> float:
    """A signed URL dies with the credentials that signed it; those of a role last some hours."""
    ends = getattr(client._request_signer._credentials, "_expiry_time", None)
    return float(ends.timestamp()) if ends else math.inf
