"""Bridge: queue, table and bucket of one deployment, as the settings name them."""

from __future__ import annotations

from dataclasses import dataclass

from ..jobs.bucket import Bucket
from ..jobs.errors import StorageDenied
from ..jobs.health import Component, State, unless
from ..jobs.links import Links, links_for
from ..jobs.s3 import S3
from ..jobs.settings import Settings
from .aws import Aws
from .deposit import Deposit
from .outbox import UNSENT_SECONDS, Outbox
from .task_index import TaskIndex
from .task_queue import TaskQueue
from .task_table import TaskTable

DAY_SECONDS = 86400
NO_BUCKET = "S3_BUCKET is not set, so uploads and requests above 256 KiB are refused"


@dataclass(frozen=True)
class Bridge:
    """All of it. Making one asks nothing of the network."""

    dynamodb: Aws
    sqs: Aws
    table: TaskTable
    index: TaskIndex
    queue: TaskQueue
    outbox: Outbox
    deposit: Deposit | None
    links: Links | None

    @classmethod
    def of(cls, settings: Settings, *, unsent_seconds: float = UNSENT_SECONDS) -> Bridge:
        dynamodb, sqs = Aws("dynamodb", settings.region), Aws("sqs", settings.region)
        retention_seconds = settings.retention_days * DAY_SECONDS
        table = TaskTable(dynamodb, settings.task_table, retention_seconds=retention_seconds)
        index = TaskIndex(dynamodb, settings.task_table)
        queue = TaskQueue(sqs, settings.queue_url)
        bucket = _bucket(settings)
        deposit = Deposit(bucket, max_image_bytes=settings.max_image_bytes) if bucket else None
        outbox = Outbox(table, index, queue, deposit, unsent_seconds=unsent_seconds)
        return cls(dynamodb, sqs, table, index, queue, outbox, deposit, links_for(settings, bucket))

    @property
    def problem(self) -> str | None:
        """Why no job can be passed on now."""
        trouble = self.outbox.trouble or self.dynamodb.trouble or self.sqs.trouble
        return self.queue.problem or (str(trouble) if trouble else None)

    def components(self) -> dict[str, Component]:
        table_trouble = self.outbox.trouble or self.dynamodb.trouble
        queue_trouble = self.sqs.trouble.component if self.sqs.trouble else Component()
        queue_problem = self.queue.problem
        return {
            "dynamodb": table_trouble.component if table_trouble else Component(),
            "sqs": unless(queue_problem, State.UNHEALTHY) if queue_problem else queue_trouble,
            "storage": self._storage(),
        }

    async def close(self) -> None:
        await self.dynamodb.close()
        await self.sqs.close()

    def _storage(self) -> Component:
        if self.deposit is None:
            return Component(State.DEGRADED, NO_BUCKET)
        trouble = self.deposit.trouble
        state = State.UNHEALTHY if isinstance(trouble, StorageDenied) else State.DEGRADED
        return unless(str(trouble or ""), state)


def _bucket(settings: Settings) -> Bucket | None:
    if settings.bucket is None:
        return None
    return Bucket(S3(settings.region), settings.bucket, kms_key_id=settings.kms_key_id)
