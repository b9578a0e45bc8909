"""Ends what takes long once its caller may have it no more: a key was revoked, or lost a scope."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from ..jobs.errors import RequestRefused
from ..jobs.job import Job
from .door import readmit
from .service import surface_of
from .shown import check_sees


async def refusal_during(
    request: web.Request, job: Job, work: Coroutine[Any, Any, None], *, seconds: float | None = None
) -> RequestRefused | None:
    """Do the work on a job, for so many seconds at most.

    Why it was cut off, if its caller may not be shown the job any more. Raises what the work does.
    """
    working = asyncio.ensure_future(work)
    refused = asyncio.ensure_future(_until_refused(request, job))
    both = {working, refused}
    try:
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)
    if not working.cancelled():
        working.result()
        return None
    return None if refused.cancelled() else refused.result()


async def _until_refused(request: web.Request, job: Job) -> RequestRefused:
    pause = surface_of(request).recheck_seconds
    while True:
        await asyncio.sleep(pause)
        try:
            # Requests that take long share their looks at the file of keys.
            await readmit(request, max_age=pause / 2)
            check_sees(request, job)
        except RequestRefused as refusal:
            return refusal
