"""TaskQueues: the queues that tasks travel on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from ..jobs.health import Component
from ..jobs.s3.faults import Fault
from .aws import Aws, AwsFailed
from .message import LARGEST_SENT_BYTES, TaskMessage, size_of
from .together import Together

HIGH = "the queue for tasks of high priority"
QUEUE, HIGH_QUEUE = "SQS_QUEUE_URL", "UNIFIED_API_SQS_HIGH_QUEUE_URL"
NO_QUEUE = f"{QUEUE} is not set: give the URL of a standard queue"
SAME_QUEUE = f"{HIGH_QUEUE} names the queue of {QUEUE}: give the URL of another queue, or none"
FIFO = (
    "{} names a FIFO queue, which hands out one message of a group at a time and"
    " refuses late deletions: give the URL of a standard queue"
)
#: No queue takes more by one call.
MOST_AT_ONCE = 10


class TaskQueue:
    """A standard queue: messages may come twice and in any order."""

    def __init__(self, sqs: Aws, url: str | None) -> None:
        self.aws = sqs
        self._url = url
        self._sending = Together(self._send_all, fit=_fit)

    async def send(self, message: TaskMessage) -> None:
        """Raises AwsFailed, perhaps although it was sent."""
        await self._sending(message.encode())

    async def _send_all(self, bodies: Sequence[str]) -> Sequence[BaseException | None]:
        if len(bodies) == 1:
            await self._send_alone(bodies[0])
            return [None]
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        try:
            answer = await self._call("send_message_batch", Entries=entries)
        except AwsFailed as failure:
            if failure.fault is not Fault.LASTING:
                raise
            # It may be one of them that is refused.
            return await asyncio.gather(*map(self._send_alone, bodies), return_exceptions=True)
        return _failures(answer, len(bodies))

    async def _send_alone(self, body: str) -> None:
        await self._call("send_message", MessageBody=body)

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self.aws.call(operation, QueueUrl=self._url, **arguments)


class TaskQueues:
    """A queue, and if there is one, another for tasks of high priority.

    `sqs` and `high_sqs` may be two, so that the trouble of one queue does not hide the other's.
    """

    def __init__(
        self, sqs: Aws, url: str | None, *, high_sqs: Aws, high_url: str | None = None
    ) -> None:
        self.problem = problem_of(url, high_url)
        self._normal = TaskQueue(sqs, url)
        self._high = TaskQueue(high_sqs, high_url) if high_url else self._normal

    async def send(self, message: TaskMessage) -> None:
        """Raises AwsFailed, perhaps although it was sent."""
        await (self._high if message.priority == "high" else self._normal).send(message)


def _fit(bodies: Sequence[str]) -> bool:
    return len(bodies) <= MOST_AT_ONCE and sum(map(size_of, bodies)) <= LARGEST_SENT_BYTES


def _failures(answer: Any, count: int) -> list[BaseException | None]:
    """Why each of a batch was not sent; None if it was."""
    sent = {entry["Id"] for entry in answer.get("Successful", ())}
    failed = {entry["Id"]: entry for entry in answer.get("Failed", ())}
    return [None if n in sent else _failure(failed.get(n, {})) for n in map(str, range(count))]


def _failure(entry: dict[str, Any]) -> AwsFailed:
    status = HTTPStatus.BAD_REQUEST if entry.get("SenderFault") else HTTPStatus.BAD_GATEWAY
    error = {"Code": entry.get("Code", "NotAnswered"), "Message": entry.get("Message", "")}
    response = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return AwsFailed("sqs", ClientError(response, "SendMessageBatch"))


def of_high(trouble: AwsFailed) -> Component:
    """How the queue for tasks of high priority is."""
    return Component(trouble.component.state, f"{HIGH}: {trouble}")


def problem_of(url: str | None, high_url: str | None = None) -> str | None:
    """Why queues cannot be used. Their names tell the kind, so nothing need be asked."""
    if url is None:
        return NO_QUEUE
    if high_url and high_url.rstrip("/") == url.rstrip("/"):
        return SAME_QUEUE
    named = {QUEUE: url, HIGH_QUEUE: high_url or ""}
    return next((FIFO.format(name) for name, each in named.items() if each.endswith(".fifo")), None)
