"""Upkeep: what is done now and then, as long as the engine works."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable

from .retention import forget_old
from .workshop import Results, Workshop

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
TIDY_SECONDS = 3600.0


async def look_after_storage(results: Results) -> None:
    """Ask the storage how it is, at the start and while it is in trouble."""
    await results.probe()
    while True:
        await asyncio.sleep(PROBE_SECONDS)
        if results.trouble:
            await results.probe()


async def tidy_up(shop: Workshop) -> None:
    """Delete old inputs and jobs, and thumbnails while all are too large."""
    while True:
        await _tried(shop.inputs.sweep(shop.store.uploads_in_use))
        await _tried(forget_old(shop, now=time.time()))
        await _tried(shop.thumbnails.trim())
        await asyncio.sleep(TIDY_SECONDS)


async def _tried(tidying: Awaitable[None]) -> None:
    """What goes wrong is tried again the next time."""
    try:
        await tidying
    except (OSError, sqlite3.Error):
        log.exception("what is old could not be deleted")
