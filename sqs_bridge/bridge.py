"""Bridge: queue, table and bucket of one deployment, as the settings name them."""

from __future__ import annotations

from dataclasses import dataclass

from ..jobs.errors import StorageDenied
from ..jobs.health import Component, State, unless
from ..jobs.links import Links, links_for
from ..jobs.s3.bucket import Bucket
from ..jobs.s3.client import S3
from ..jobs.settings import Settings
from .aws import Aws
from .deposit import Deposit
from .depth import Depth
from .outbox import UNSENT_SECONDS, Outbox
from .task_index import TaskIndex
from .task_queue import TaskQueues, of_high
from .task_table import TaskTable

DAY_SECONDS = 86400
NO_BUCKET = "S3_BUCKET is not set, so uploads and requests above 256 KiB are refused"


@dataclass(frozen=True)
class Bridge:
    """All of it. Making one asks nothing of the network."""

    dynamodb: Aws
    sqs: Aws
    #: Of its own for the queue of high priority: what is wrong with one is not true of the other.
    high_sqs: Aws
    table: TaskTable
    index: TaskIndex
    queues: TaskQueues
    outbox: Outbox
    depth: Depth
    deposit: Deposit | None
    links: Links | None
    #: To delete results. A client of its own: where that is not allowed, all else goes on well.
    results: Bucket | None

    @classmethod
    def of(cls, settings: Settings, *, unsent_seconds: float = UNSENT_SECONDS) -> Bridge:
        dynamodb, sqs = Aws("dynamodb", settings.region), Aws("sqs", settings.region)
        high_sqs = Aws("sqs", settings.region)
        retention_seconds = settings.retention_days * DAY_SECONDS
        table = TaskTable(dynamodb, settings.task_table, retention_seconds=retention_seconds)
        index = TaskIndex(dynamodb, settings.task_table, most_queries=settings.list_queries)
        queues = TaskQueues(
            sqs, settings.queue_url, high_sqs=high_sqs, high_url=settings.high_queue_url
        )
        bucket = _bucket(settings)
        deposit = Deposit(bucket, max_image_bytes=settings.max_image_bytes) if bucket else None
        outbox = Outbox(table, index, queues, deposit, unsent_seconds=unsent_seconds)
        return cls(
            dynamodb=dynamodb,
            sqs=sqs,
            high_sqs=high_sqs,
            table=table,
            index=index,
            queues=queues,
            outbox=outbox,
            depth=Depth(sqs, {"normal": settings.queue_url, "high": settings.high_queue_url}),
            deposit=deposit,
            links=links_for(settings, bucket),
            results=_bucket(settings),
        )

    @property
    def problem(self) -> str | None:
        """Why no job can be passed on now."""
        trouble = self.outbox.trouble or self.dynamodb.trouble or self.sqs.trouble
        return self.queues.problem or (str(trouble) if trouble else None)

    def components(self) -> dict[str, Component]:
        table_trouble = self.outbox.trouble or self.dynamodb.trouble
        return {
            "dynamodb": table_trouble.component if table_trouble else Component(),
            "sqs": self._sqs(),
            "storage": self._storage(),
        }

    async def close(self) -> None:
        await self.dynamodb.close()
        await self.sqs.close()
        await self.high_sqs.close()

    def _sqs(self) -> Component:
        if self.queues.problem:
            return Component(State.UNHEALTHY, self.queues.problem)
        if self.sqs.trouble:
            return self.sqs.trouble.component
        return of_high(self.high_sqs.trouble) if self.high_sqs.trouble else Component()

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
