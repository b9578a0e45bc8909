"""Previews: what ComfyUI shows of a picture that is not yet done, made small for who watches."""

from __future__ import annotations

import asyncio
import io
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from .pictures.small import shrunk
from .prompt import Preview
from .threads import off_loop

QUALITY = 70
#: At most two a second.
PAUSE_SECONDS = 0.5


class Previews:
    """The latest of each job that somebody watches; of the others nothing is kept."""

    def __init__(self) -> None:
        self._screens: defaultdict[str, set[_Screen]] = defaultdict(set)

    def show(self, job_id: str, picture: memoryview) -> None:
        """ComfyUI has sent a picture of a job."""
        for screen in self._screens.get(job_id, ()):
            screen.show(bytes(picture))

    async def watch(self, job_id: str) -> AsyncGenerator[Preview, None]:
        """Those of a job from now on, for ever; who is slow misses some."""
        with self._screen(job_id) as screen:
            while True:
                if preview := await off_loop(preview_of, await screen.next()):
                    yield preview
                await asyncio.sleep(PAUSE_SECONDS)

    @contextmanager
    def _screen(self, job_id: str) -> Iterator[_Screen]:
        screen = _Screen()
        self._screens[job_id].add(screen)
        try:
            yield screen
        finally:
            self._screens[job_id].discard(screen)
            if not self._screens[job_id]:
                del self._screens[job_id]


class _Screen:
    """Has room for one picture."""

    def __init__(self) -> None:
        self._picture = b""
        self._is_new = asyncio.Event()

    def show(self, picture: bytes) -> None:
        self._picture = picture
        self._is_new.set()

    async def next(self) -> bytes:
        await self._is_new.wait()
        self._is_new.clear()
        return self._picture


def preview_of(content: bytes) -> Preview | None:
    """A picture as JPEG; None if it is none."""
    if (small := shrunk(content)) is None:
        return None
    out = io.BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return Preview(out.getvalue(), "image/jpeg", small.width, small.height)
