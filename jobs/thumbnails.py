"""Thumbnails: small pictures of published ones, for pages that show many."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from typing import Protocol

from .counted_log import CountedLog
from .errors import UnknownOutput
from .file_cache import FileCache
from .job import Job, Output
from .pictures.small import shrunk
from .single_flight import SingleFlight
from .threads import off_loop

log = logging.getLogger(__name__)

QUALITY = 80
#: Half of the time of libwebp's default, and files no more than 6 % larger.
METHOD = 2
#: What is larger is not worth the memory.
MAX_BYTES = 64 << 20
MAX_PIXELS = 80_000_000
#: A page asks for many, and shares the processor and the pool with the jobs.
AT_ONCE = 2

NOT_KEPT = "thumbnails cannot be kept, and are made at each request: %s"
NO_PICTURE = "This output is not a picture that can be shown small."


class Reader(Protocol):
    """Where published outputs are read."""

    async def read(self, job: Job, number: int) -> bytes: ...


class Thumbnails:
    """Makes the thumbnail of an output when it is first asked for, and keeps it on this machine.

    Thumbnails of results in a bucket too: objects beside the results would cost a request each
    time, could be made by many workers, and would have to be deleted by whoever deletes results.
    Nor do they lie in the folder of a job's results, which appears complete and stays as it is.
    """

    def __init__(self, results: Reader, cache: FileCache) -> None:
        self._results = results
        self._cache = cache
        self._under_way = SingleFlight[bytes]()
        self._making = asyncio.Semaphore(AT_ONCE)
        self._refusals = CountedLog(log)

    async def of(self, job: Job, number: int) -> bytes:
        """The thumbnail of one output of a completed job, as WebP. Raises UnknownOutput."""
        if not 0 <= number < len(job.outputs):
            raise UnknownOutput()
        if not _is_fit(job.outputs[number]):
            raise UnknownOutput(NO_PICTURE)
        key = _key(job, job.outputs[number])
        small = await self._under_way.run(key, lambda: self._kept_or_made(key, job, number))
        if not small:
            raise UnknownOutput(NO_PICTURE)
        return small

    async def remove(self, job: Job) -> None:
        """Delete the thumbnails of a job, whose results are gone. May raise OSError."""
        keys = {_key(job, output) for output in job.outputs}
        # One that is being made would be kept afterwards.
        await self._under_way.settled(keys)
        for key in keys:
            await off_loop(self._cache.remove, key)

    async def trim(self) -> None:
        """Delete those used longest ago if all are too large. May raise OSError."""
        await off_loop(self._cache.trim)

    async def close(self) -> None:
        """Make no more."""
        await self._under_way.close()

    async def _kept_or_made(self, key: str, job: Job, number: int) -> bytes:
        if (kept := await self._kept(key)) is not None:
            return kept
        async with self._making:
            content = await self._results.read(job, number)
            small = await off_loop(thumbnail_of, content)
        await self._keep(key, small)
        return small

    async def _kept(self, key: str) -> bytes | None:
        try:
            return await off_loop(self._cache.read, key)
        except OSError as error:
            self._refusals.log(logging.WARNING, NOT_KEPT, error.strerror, kind="kept")
            return None

    async def _keep(self, key: str, small: bytes) -> None:
        try:
            await off_loop(self._cache.write, key, small)
        except OSError as error:
            self._refusals.log(logging.WARNING, NOT_KEPT, error.strerror, kind="kept")
        else:
            self._refusals.passed()


def thumbnail_of(content: bytes) -> bytes:
    """A picture as WebP; empty if it is no picture, which is worth keeping too."""
    if (small := shrunk(content)) is None:
        return b""
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY, method=METHOD)
    return out.getvalue()


def _is_fit(output: Output) -> bool:
    pixels = (output.width or 0) * (output.height or 0)
    return 0 < pixels <= MAX_PIXELS and output.size <= MAX_BYTES


def _key(job: Job, output: Output) -> str:
    """Of job and content: a task may come by the id of a deleted job."""
    return hashlib.sha256(f"{job.job_id}/{output.sha256}".encode()).hexdigest()
