"""Deposit: what no message can carry lies in the bucket, under the hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..jobs.egress.fetch import kept, limited
from ..jobs.errors import InputInvalid, StorageDenied, StorageUnreachable
from ..jobs.s3.bucket import Bucket, NewObject
from ..jobs.threads import off_loop
from .message import LARGEST_RECEIVED_BYTES, MalformedTask, parse_object, to_json

#: Beside the results. Nobody can guess the names.
INPUTS = "unified-api/inputs"
REQUESTS = "unified-api/requests"
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

    @property
    def trouble(self) -> StorageDenied | StorageUnreachable | None:
        """Why the bucket cannot be used; None while it can."""
        return self._bucket.trouble

    async def keep_upload(self, content: AsyncIterator[bytes]) -> str:
        """Store a picture; the reference to it. Raises InputInvalid or OSError besides."""
        chunks = limited(content, self._max_image_bytes)
        folder = await off_loop(TemporaryDirectory)
        try:
            file = Path(folder.name) / "upload"
            head, sha256 = await _write(file, chunks)
            content_type, extension = _kind(head)
            return await self._keep(f"{INPUTS}/{sha256}.{extension}", file, sha256, content_type)
        finally:
            await off_loop(folder.cleanup)

    async def keep_request(self, body: Mapping[str, Any]) -> str:
        """Store a request body; the reference to it."""
        text = to_json(body).encode()
        sha256 = hashlib.sha256(text).hexdigest()
        return await self._keep(f"{REQUESTS}/{sha256}.json", text, sha256, "application/json")

    async def read_request(self, reference: str) -> dict[str, Any]:
        """A request body that was stored by `keep_request`. Raises MalformedTask besides."""
        base = self._bucket.uri(REQUESTS)
        if not reference.startswith(f"{base}/"):
            raise MalformedTask(f"The body of the message is not below {base}.")
        content = await self._bucket.read(f"{REQUESTS}{reference.removeprefix(base)}")
        return parse_object(content.decode(errors="replace"), limit=LARGEST_RECEIVED_BYTES)

    async def _keep(self, key: str, body: Path | bytes, sha256: str, content_type: str) -> str:
        # It belongs to no job but to whoever has the same content, and must last for the latest.
        new = NewObject(key, body, sha256, content_type, job_id=sha256, cache_control="private")
        await self._bucket.put(new)
        return self._bucket.uri(key)


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
