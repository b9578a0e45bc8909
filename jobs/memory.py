"""Gives freed memory back to the operating system.

glibc keeps what a thread has freed in an arena of that thread. After a hundred pictures that was
300 MB which ComfyUI's models could have had.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from collections.abc import Callable

from .threads import idle_since, in_daemon

LOOK_SECONDS = 1.0
#: Pictures come one after another, and what is given back would soon be asked for again.
IDLE_SECONDS = 1.0

Trim = Callable[[], None]


def glibc_trim() -> Trim | None:
    """What has glibc give back the memory that is free; None where there is no glibc."""
    if sys.platform != "linux":
        return None
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: malloc_trim(0)) if malloc_trim else None


async def give_back_memory(
    trim: Trim | None,
    *,
    idle_since: Callable[[], float | None] = idle_since,
    clock: Callable[[], float] = time.monotonic,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Until cancelled: trim once after work, when the pools have been idle for IDLE_SECONDS."""
    trimmed_at = clock()
    while trim:
        await asyncio.sleep(look_seconds)
        since = idle_since()
        if since is not None and since > trimmed_at and clock() - since >= IDLE_SECONDS:
            trimmed_at = clock()
            await in_daemon("unified-api-memory", trim)
