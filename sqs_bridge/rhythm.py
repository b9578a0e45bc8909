"""What is done again and again beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..jobs.counted_log import CountedLog
from .aws import AwsFailed

log = logging.getLogger(__name__)


async def repeat(work: Callable[[], Awaitable[None]], *, seconds: float) -> None:
    """For ever, with a pause between. What fails is tried again in its turn."""
    failures = CountedLog(log)
    while True:
        try:
            await work()
        except AwsFailed:
            # Whoever called AWS has told of it.
            pass
        except Exception as error:  # noqa: BLE001 - it is logged
            name = getattr(work, "__qualname__", work)
            failures.log(logging.ERROR, "%s failed", name, error=error)
        await asyncio.sleep(seconds)
