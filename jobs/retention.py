"""Retention: jobs that ended long ago are forgotten, and their results on this machine deleted."""

from __future__ import annotations

import logging

from .job import Job
from .workshop import Workshop

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0
#: Read together: a job takes 30 us of the event loop, and requests wait meanwhile.
JOBS_AT_ONCE = 25


async def forget_old(shop: Workshop, *, now: float) -> None:
    """Remove all whose time is over. What lies in a bucket is left to the bucket's own rules.

    May raise sqlite3.Error; the next call goes on.
    """
    ended_before = now - shop.settings.retention_days * DAY_SECONDS
    reached = 0
    while jobs := await shop.store.from_oldest(after=reached, limit=JOBS_AT_ONCE):
        old = [job for _, job in jobs if _has_ended(job, before=ended_before)]
        if gone := [job.job_id for job in old if await _is_cleared(shop, job)]:
            await shop.store.remove(gone)
        reached, _ = jobs[-1]
        # None has ended before it was accepted. One alone may have come while the clock was wrong.
        if all(job.created_at >= ended_before for _, job in jobs):
            return


def _has_ended(job: Job, *, before: float) -> bool:
    return job.finished_at is not None and job.finished_at < before


async def _is_cleared(shop: Workshop, job: Job) -> bool:
    """Delete its files; False if that is to be tried again later."""
    try:
        if not any(output.s3_uri for output in job.outputs):
            await shop.results.remove(job)
        await shop.thumbnails.remove(job)
    except OSError:
        log.exception("the results of job %s could not be deleted", job.job_id)
        return False
    return True
