"""Deposit: what no message can carry lies in the bucket, under the hash of its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from ..jobs.egress.fetch import kept, limited
from ..jobs.errors import InputInvalid, StorageDenied, StorageUnreachable
from ..jobs.owners import owned_name, owner_mark
from ..jobs.readable import DEPOSIT, INPUTS
from ..jobs.s3.bucket import Bucket, NewObject
from ..jobs.staging import StagedFile, Staging
from ..jobs.threads import off_loop
from .message import LARGEST_RECEIVED_BYTES, MalformedTask, parse_object, to_json

#: Nobody can guess the names of what lies there.
REQUESTS = f"{DEPOSIT}/requests"
#: What begins like this may be a picture; whether it is one, the worker finds out.
PICTURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (0, b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (8, b"WEBP", "image/webp", "webp"),
)
HEAD_BYTES = 12


class Deposit:
    """Methods may raise StorageDenied or StorageUnreachable."""

    def __init__(self, bucket: Bucket, *, max_image_bytes: int) -> None:
        self._bucket = bucket
        self._max_image_bytes = max_image_bytes
        self._staging = Staging[NewObject]()

    @property
    def trouble(self) -> StorageDenied | StorageUnreachable | None:
        """Why the bucket cannot be used; None while it can."""
        return self._bucket.trouble

    async def stage_upload(self, content: AsyncIterator[bytes], owner: str | None) -> StagedFile:
        """Take a picture in on this machine, under the reference that it gets in the bucket.

        Raises InputInvalid or OSError besides.
        """
        chunks = limited(content, self._max_image_bytes)
        file = await off_loop(_new_file)
        try:
            head, sha256 = await _write(file, chunks)
            content_type, extension = _kind(head)
        except BaseException:
            await off_loop(file.unlink, missing_ok=True)
            raise
        name = owned_name(sha256, owner)
        key = f"{INPUTS}/{name}.{extension}"
        metadata = {"owner": owner_mark(owner, name)}
        new = NewObject(key, file, sha256, content_type, name, metadata, cache_control="private")
        return self._staging.add(self._bucket.uri(key), file, new)

    async def commit(self, references: Iterable[str]) -> None:
        """Store the pictures that were staged under these references; an accepted job has them."""
        for reference in references:
            if staged := self._staging.take(reference):
                file, new = staged
                try:
                    # It must last for the latest job of its owner that has the same content.
                    await self._bucket.put(new)
                finally:
                    await off_loop(file.unlink, missing_ok=True)

    async def drop(self, files: Iterable[StagedFile]) -> None:
        """Remove what was staged and not committed."""
        await self._staging.drop(files)

    async def keep_request(self, body: Mapping[str, Any]) -> str:
        """Store a request body; the reference to it."""
        text = to_json(body).encode()
        sha256 = hashlib.sha256(text).hexdigest()
        # It belongs to no job but to whoever has the same content, and must last for the latest.
        key = f"{REQUESTS}/{sha256}.json"
        new = NewObject(key, text, sha256, "application/json", sha256, cache_control="private")
        await self._bucket.put(new)
        return self._bucket.uri(key)

    async def read_request(self, reference: str) -> dict[str, Any]:
        """A request body that was stored by `keep_request`. Raises MalformedTask besides."""
        base = self._bucket.uri(REQUESTS)
        if not reference.startswith(f"{base}/"):
            raise MalformedTask(f"The body of the message is not below {base}.")
        content = await self._bucket.read(f"{REQUESTS}{reference.removeprefix(base)}")
        return parse_object(content.decode(errors="replace"), limit=LARGEST_RECEIVED_BYTES)


def _new_file() -> Path:
    descriptor, name = mkstemp(prefix="unified-api-upload-")
    os.close(descriptor)
    return Path(name)


async def _write(file: Path, content: AsyncIterator[bytes]) -> tuple[bytes, str]:
    """How the content begins, and its hash."""
    head, digest = b"", hashlib.sha256()
    async for chunk in kept(file, content):
        head += chunk[: HEAD_BYTES - len(head)]
        digest.update(chunk)
    return head, digest.hexdigest()


def _kind(head: bytes) -> tuple[str, str]:
    for offset, signature, content_type, extension in PICTURES:
        if head[offset:].startswith(signature):
            return content_type, extension
    raise InputInvalid()
