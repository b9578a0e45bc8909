"""Examination: what is found on one machine, and what its checks learn for each other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ...jobs.settings import Settings
from ..aws import Aws, AwsFailed
from .finding import Finding
from .probe import Probe, Use

READ_SECONDS = 5.0
ATTEMPTS = 2


@dataclass(frozen=True)
class Arns:
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

    def bucket(self, name: str) -> str:
        return f"arn:{self.partition}:s3:::{name}"

    def objects(self, bucket: str, folder: str = "") -> str:
        return f"{self.bucket(bucket)}/{below(folder, '*')}"

    def instance(self, instance_id: str) -> str:
        return f"arn:{self.partition}:ec2:{self.region}:{self.account}:instance/{instance_id}"


class Examination:
    """Checks tell it what they find, and make their probes by it."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.arns = Arns(settings.region)
        self.findings: list[Finding] = []
        #: By how many seconds the clock of this machine is ahead; None if nobody told the time.
        self.skew: float | None = None
        #: Whether nothing more can be learnt.
        self.is_over = False
        self._clock = clock

    def tell(self, *findings: Finding) -> None:
        self.findings += findings

    @asynccontextmanager
    async def aws(self, service: str) -> AsyncIterator[Aws]:
        """A client that does not wait for long."""
        region = self.settings.region
        aws = Aws(service, region, read_seconds=READ_SECONDS, attempts=ATTEMPTS)
        try:
            yield aws
        finally:
            await aws.close()

    async def ask(self, use: Use) -> Any:
        """The answer. Raises AwsFailed."""
        try:
            answer = await use()
        except AwsFailed as failure:
            self._note_time(failure.answer)
            raise
        self._note_time(answer)
        return answer

    async def make(self, probe: Probe) -> Finding:
        """Make a probe, and tell what it shows."""
        failure: AwsFailed | None = None
        try:
            await self.ask(probe.use)
        except AwsFailed as error:
            failure = error
        finding = probe.judged(failure)
        self.tell(finding)
        return finding

    async def make_all(self, probes: Iterable[Probe]) -> None:
        """One after the other, as long as they tell something."""
        for probe in probes:
            if (await self.make(probe)).is_general:
                return

    def _note_time(self, answer: Mapping[str, Any]) -> None:
        try:
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, TypeError, ValueError):
            return
        self.skew = self._clock() - date.timestamp()


def below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
