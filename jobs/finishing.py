"""Finishing: what ComfyUI produced becomes the files to publish, while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from PIL.Image import Image

from .errors import DiskFull
from .job import Delivery, Rendered
from .outputs import sha256_of
from .pictures.embedded import strip
from .pictures.encode import convert, encoded
from .pictures.media import media_of
from .private import close_file, make_private_folder
from .prompt import Produced
from .threads import off_loop

#: The media that ComfyUI embeds the prompt and the graph in, and that we know how to clean.
EMBEDDING = ("image/png", "image/jpeg", "image/webp")
#: A picture uses all cores for most of its time; a second one fills the rest.
JOBS_AT_ONCE = 2


class Encode(Protocol):
    """Encodes an image as the bytes of a file."""

    def __call__(self, image: Image, delivery: Delivery, /, *, png_level: int) -> bytes: ...


class Finishing:
    """Encodes pictures, converts and cleans files; of a few jobs at a time.

    Pictures that wait in memory take `max_bytes` at most, or are those of one job.
    """

    def __init__(
        self, *, encode: Encode = encoded, max_bytes: int, png_level: int, keep_metadata: bool
    ) -> None:
        self._encode = encode
        self._max_bytes = max_bytes
        self._png_level = png_level
        self._keep_metadata = keep_metadata
        self._turns = asyncio.Semaphore(JOBS_AT_ONCE)
        self._held = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def room_for(self, produced: Iterable[Produced]) -> AsyncIterator[None]:
        """Wait until these fit into memory; they are gone from it afterwards."""
        size = sum(_memory_of(each.content) for each in produced)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(size))
            self._held += size
        try:
            yield
        finally:
            self._held -= size
            async with self._changed:
                self._changed.notify_all()

    async def finish(
        self, files: Sequence[tuple[str, Produced]], *, delivery: Delivery, folder: Path
    ) -> tuple[Rendered, ...]:
        """The named files as they are to be published. New ones go into `folder`.

        Raises ConversionFailed, and DiskFull if the disk refuses.
        """
        try:
            async with self._turns:
                return await off_loop(self._finish, files, delivery, folder)
        except OSError as error:
            raise DiskFull.of(error) from error

    def _fits(self, size: int) -> bool:
        return not (self._held and size) or self._held + size <= self._max_bytes

    def _finish(
        self, files: Sequence[tuple[str, Produced]], delivery: Delivery, folder: Path
    ) -> tuple[Rendered, ...]:
        make_private_folder(folder)
        rendered = []
        for number, (name, each) in enumerate(files):
            path = self._file_of(each.content, folder / str(number), delivery)
            close_file(path)
            rendered.append(Rendered(name=name, path=path, sha256=sha256_of(path)))
        return tuple(rendered)

    def _file_of(self, content: Path | Image, target: Path, delivery: Delivery) -> Path:
        if isinstance(content, Image):
            target.write_bytes(self._encode(content, delivery, png_level=self._png_level))
            return target
        content_type = media_of(content).content_type
        if delivery.format and content_type.startswith("image/"):
            convert(
                content,
                target,
                format=delivery.format,
                quality=delivery.quality,
                png_level=self._png_level,
            )
            return target
        if self._keep_metadata or content_type not in EMBEDDING:
            return content
        return target if strip(content, target) else content


def _memory_of(content: Path | Image) -> int:
    """In bytes; Pillow keeps four for each pixel."""
    return content.width * content.height * 4 if isinstance(content, Image) else 0
