"""Patient: a machine that is examined in its role, and what is learnt of it meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..jobs.settings import Settings
from .aws import Aws
from .probe import Examiner

READ_SECONDS = 5.0
ATTEMPTS = 2


@dataclass(frozen=True)
class Names:
    """What policies call things."""

    region: str
    partition: str = "aws"
    #: As in the policies that are shipped, until it is known.
    account: str = "ACCOUNT"

    def queue(self, url: str) -> str:
        account, name = url.rstrip("/").rsplit("/", 2)[1:]
        return f"arn:{self.partition}:sqs:{self.region}:{account}:{name}"

    def table(self, name: str) -> str:
        return f"arn:{self.partition}:dynamodb:{self.region}:{self.account}:table/{name}"

    def objects(self, bucket: str, folder: str = "") -> str:
        return f"{self.bucket(bucket)}/{below(folder, '*')}"

    def bucket(self, name: str) -> str:
        return f"arn:{self.partition}:s3:::{name}"

    def instance(self, instance_id: str) -> str:
        return f"arn:{self.partition}:ec2:{self.region}:{self.account}:instance/{instance_id}"


@dataclass
class Patient:
    """A worker has a ComfyUI: its folder, and the one where it keeps models and files."""

    settings: Settings
    tree: Path | None = None
    base: Path | None = None
    examiner: Examiner = field(default_factory=Examiner)
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.names = Names(self.settings.region)

    def know(self, arn: str) -> None:
        """Whom AWS takes it for: 'arn:aws:sts::123456789012:…'."""
        _, partition, _, _, account, _ = arn.split(":", 5)
        self.names = Names(self.settings.region, partition, account)

    @asynccontextmanager
    async def aws(self, service: str) -> AsyncIterator[Aws]:
        """A client that does not wait for long."""
        region = self.settings.region
        aws = Aws(service, region, read_seconds=READ_SECONDS, attempts=ATTEMPTS)
        try:
            yield aws
        finally:
            await aws.close()


def call(aws: Aws, operation: str, **arguments: Any) -> Callable[[], Awaitable[Any]]:
    """For a probe to make."""
    return partial(aws.peek, operation, **arguments)


def below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
