"""Thumbnail: a small picture of a published one, for pages that show many."""

from __future__ import annotations

import asyncio
import io

from .errors import UnknownOutput
from .job import Job, Output
from .pictures.small import shrunk
from .threads import off_loop
from .workshop import Results

QUALITY = 80
#: Half of the time of libwebp's default, and files no more than 6 % larger.
METHOD = 2
#: What is larger is not worth the memory.
MAX_BYTES = 64 << 20
MAX_PIXELS = 80_000_000
#: A page asks for many, and shares the processor and the pool with the jobs.
AT_ONCE = 2

NO_PICTURE = "This output is not a picture that can be shown small."


class Thumbnails:
    """Makes them when asked; callers may keep them for ever."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._making = asyncio.Semaphore(AT_ONCE)

    async def of(self, job: Job, number: int) -> bytes:
        """Of one output of a completed job, as WebP. Raises UnknownOutput."""
        if not 0 <= number < len(job.outputs):
            raise UnknownOutput()
        if not _is_fit(job.outputs[number]):
            raise UnknownOutput(NO_PICTURE)
        async with self._making:
            content = await self._results.read(job, number)
            return await off_loop(thumbnail_of, content)


def thumbnail_of(content: bytes) -> bytes:
    """A picture as WebP. Raises UnknownOutput."""
    if (small := shrunk(content)) is None:
        raise UnknownOutput(NO_PICTURE)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY, method=METHOD)
    return out.getvalue()


def _is_fit(output: Output) -> bool:
    pixels = (output.width or 0) * (output.height or 0)
    return 0 < pixels <= MAX_PIXELS and output.size <= MAX_BYTES
