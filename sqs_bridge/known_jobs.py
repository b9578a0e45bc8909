"""KnownJobs: looks jobs up in the task table for the engine, which knows only those of its own."""

from __future__ import annotations

import logging

from ..jobs.errors import InputFetchFailed
from ..jobs.job import Job
from ..jobs.settings import Settings
from .aws import Aws, AwsFailed
from .bridge import DAY_SECONDS
from .message import TASK_ID
from .task_table import TaskTable

log = logging.getLogger(__name__)

NOT_NOW = "Whose this object is cannot be told now: the task table does not answer."


class KnownJobs:
    """A client of its own, on the engine's loop. Making one asks nothing of the network."""

    def __init__(self, settings: Settings) -> None:
        self._table = TaskTable(
            Aws("dynamodb", settings.region),
            settings.task_table,
            retention_seconds=settings.retention_days * DAY_SECONDS,
        )

    async def find(self, job_id: str) -> Job | None:
        """None for a job that the table does not know any more. Raises InputFetchFailed."""
        if not TASK_ID.fullmatch(job_id):
            return None
        try:
            record = await self._table.get(job_id)
        except AwsFailed as failure:
            log.warning("the owner of job %s could not be looked up: %s", job_id, failure)
            raise InputFetchFailed(NOT_NOW) from failure
        is_known = record is not None and record.job.is_readable and not record.is_deleted
        return record.job if record and is_known else None
