"""Aws: one client of one AWS service, called beside the loop. What fails is said in one word."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..jobs.boto import new_session
from ..jobs.errors import UnifiedApiError
from ..jobs.health import Component, State
from ..jobs.s3.faults import Fault, fault_of
from ..jobs.threads import Lane, in_daemon

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 24
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
ATTEMPTS = 4
#: Refusals for now, not for good; boto3 has waited and tried again by itself when we see one.
THROTTLES = {
    "KmsThrottled",
    "OverLimit",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionConflictException",
}
CONDITION_FAILED = "ConditionalCheckFailedException"
#: A transaction was refused, for one of its conditions or for somebody else's write.
CANCELLED = "TransactionCanceledException"
#: Refusals that were asked for: nothing is wrong.
REFUSALS = {CONDITION_FAILED, CANCELLED}
#: Somebody writes the same item in a transaction. boto3 does not try that again by itself.
CONFLICT = "TransactionConflictException"
CONFLICT_PAUSES = (0.01, 0.03, 0.1, 0.3)


class AwsFailed(UnifiedApiError):
    """An AWS service refused or could not be reached."""

    code = "aws_failed"

    def __init__(self, service: str, error: ClientError | BotoCoreError) -> None:
        self.answer: dict[str, Any] = error.response if isinstance(error, ClientError) else {}
        self.reason = str(self.answer.get("Error", {}).get("Code", type(error).__name__))
        self.fault = Fault.PASSING if self.reason in THROTTLES else fault_of(error)
        verb = "refuses" if self.fault is Fault.LASTING else "cannot be used now"
        super().__init__(f"{service} {verb}: {self.reason}.")

    @property
    def component(self) -> Component:
        is_lasting = self.fault is Fault.LASTING
        return Component(State.UNHEALTHY if is_lasting else State.DEGRADED, str(self))


class Aws:
    """A service by boto3's name for it, with boto3's default credentials and endpoint.

    Making one asks nothing of the network. boto3 repeats what may pass, so a call may be carried
    out twice although it is answered once.
    """

    def __init__(
        self,
        service: str,
        region: str,
        *,
        read_seconds: float = READ_SECONDS,
        attempts: int = ATTEMPTS,
        waits: bool = False,
    ) -> None:
        #: Why the last call failed; None if it did not.
        self.trouble: AwsFailed | None = None
        self._service = service
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_seconds,
            max_pool_connections=CALLS_AT_ONCE,
            tcp_keepalive=True,
        )
        # Of its own: hundreds of short calls must not wait behind files and pictures.
        self._lane = Lane(f"aws-{service}", threads=CALLS_AT_ONCE)
        self._waits = waits
        self._make_client = partial(_make_client, service, region, config)
        self._client: Any = None
        self._making = asyncio.Lock()

    async def call(self, operation: str, **arguments: Any) -> Any:
        """The answer. Raises AwsFailed."""
        try:
            answer = await self.peek(operation, **arguments)
        except AwsFailed as failure:
            trouble = None if failure.reason in REFUSALS else failure
            self._note(trouble, operation, failure.__cause__)
            raise
        self._note(None)
        return answer

    async def peek(self, operation: str, **arguments: Any) -> Any:
        """The same for what nobody depends on: if it fails, that is no trouble."""
        try:
            return await self._call_past_conflicts(operation, arguments)
        except (ClientError, BotoCoreError) as error:
            raise AwsFailed(self._service, error) from error

    async def close(self) -> None:
        """Let calls under way end."""
        await self._lane.close()
        if self._client is not None:
            self._client.close()

    def _note(self, trouble: AwsFailed | None, *told: object) -> None:
        """The log is told once of a trouble that stays."""
        if trouble and not (self.trouble and self.trouble.reason == trouble.reason):
            log.warning("%s failed: %s", *told)
        self.trouble = trouble

    async def _call_past_conflicts(self, operation: str, arguments: dict[str, Any]) -> Any:
        for pause in CONFLICT_PAUSES:
            try:
                return await self._call(operation, arguments)
            except ClientError as error:
                if error.response["Error"]["Code"] != CONFLICT:
                    raise
            await asyncio.sleep(pause)
        return await self._call(operation, arguments)

    async def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        client = await self._ready_client()
        try:
            work = getattr(client, operation)
            # The end of the process waits for a lane, but need not for a call that only waits.
            if self._waits:
                return await in_daemon(f"{self._service}-poll", work, **arguments)
            return await self._lane.run(work, **arguments)
        except (ClientError, BotoCoreError) as error:
            # A client never looks again for credentials that it lacks or that were replaced.
            if fault_of(error) is Fault.CREDENTIALS and self._client is client:
                self._client = None
            raise

    async def _ready_client(self) -> Any:
        """Made when first used: credentials may have to be fetched."""
        async with self._making:
            if self._client is None:
                self._client = await self._lane.run(self._make_client)
            return self._client


def _make_client(service: str, region: str, config: Config) -> Any:
    return new_session(region).client(service, config=config)
