"""Inbox: the queue as a worker uses it. What it holds, nobody else sees."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from .aws import Aws, AwsFailed
from .message import LONGEST_REASON
from .task_queue import problem_of

log = logging.getLogger(__name__)

#: The longest that a queue waits for a message before it answers that there is none.
WAIT_SECONDS = 20
#: A client that gives up earlier than the queue would strand what the queue hands out.
READ_SECONDS = WAIT_SECONDS + 15.0
#: No queue lets a message be held for longer, from its receipt on. A little less, to be safe.
LONGEST_HOLD_SECONDS = 12 * 3600 - 60
#: Without a dead-letter queue, bad messages come back so seldom.
PUT_ASIDE_SECONDS = 3600

NO_DEAD_LETTERS = (
    "the queue has no dead-letter queue: messages that are no tasks come back until they are too"
    " old. Give it one (redrive policy, maxReceiveCount 10)"
)


@dataclass(frozen=True)
class Message:
    """A message that was received. `times` says how often it was, by anybody."""

    body: str
    receipt: str
    times: int
    received: float = field(default_factory=time.monotonic)

    @property
    def hold_left(self) -> float:
        """For how many seconds more it may be held."""
        return self.received + LONGEST_HOLD_SECONDS - time.monotonic()


class Inbox:
    """A standard queue. Methods may raise AwsFailed."""

    def __init__(self, sqs: Aws, url: str | None, *, region: str) -> None:
        self.aws = sqs
        # It repeats nothing by itself: each answer that is lost strands a message.
        self._poll = Aws("sqs", region, read_seconds=READ_SECONDS, attempts=1, waits=True)
        #: Why the queue can never be used.
        self.problem = problem_of(url)
        #: What an operator should know.
        self.warning: str | None = None
        self._url = url
        self._dead_letters: str | None = None
        self._most_receives: int | None = None

    async def open(self) -> None:
        """Learn how the queue is made."""
        answer = await self._call("get_queue_attributes", AttributeNames=["RedrivePolicy"])
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
        self._dead_letters = self._url_of(policy["deadLetterTargetArn"]) if policy else None
        self._most_receives = int(policy["maxReceiveCount"]) if policy else None
        self.warning = None if policy else NO_DEAD_LETTERS

    @property
    def denial(self) -> AwsFailed | None:
        """That messages may not be held or deleted. Other refusals mean that one was lost."""
        trouble = self.aws.trouble
        return trouble if trouble and trouble.reason.startswith("AccessDenied") else None

    def is_last(self, message: Message) -> bool:
        """Whether the queue hands it out no more, but to the dead-letter queue."""
        return self._most_receives is not None and message.times >= self._most_receives

    async def receive(self, *, seconds: float) -> Message | None:
        """Wait for a message, and hold it for so long."""
        answer = await self._poll.call(
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=WAIT_SECONDS,
            VisibilityTimeout=ceil(seconds),
            AttributeNames=["ApproximateReceiveCount"],
        )
        return next(map(_message, answer.get("Messages", [])), None)

    async def hold(self, message: Message, *, seconds: float) -> None:
        """Keep a message for so long from now, or let it come again then."""
        timeout = ceil(max(0.0, min(seconds, message.hold_left)))
        await self._call(
            "change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=timeout
        )

    async def delete(self, message: Message) -> None:
        await self._call("delete_message", ReceiptHandle=message.receipt)

    async def quarantine(self, message: Message, reason: str) -> None:
        """Move it to the dead-letter queue, with the reason in its attribute `reason`."""
        if self._dead_letters is None:
            log.error("a message is put aside (%s); %s", reason, NO_DEAD_LETTERS)
            await self.hold(message, seconds=PUT_ASIDE_SECONDS)
            return
        text = {"DataType": "String", "StringValue": reason[:LONGEST_REASON]}
        await self.aws.call(
            "send_message",
            QueueUrl=self._dead_letters,
            MessageBody=message.body,
            MessageAttributes={"reason": text},
        )
        await self.delete(message)

    def _url_of(self, arn: str) -> str:
        """Of a queue in the same region: 'arn:aws:sqs:region:account:name'."""
        assert self._url is not None
        *_, account, name = arn.split(":")
        return f"{self._url.rsplit('/', 2)[0]}/{account}/{name}"

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self.aws.call(operation, QueueUrl=self._url, **arguments)


def _message(received: dict[str, Any]) -> Message:
    times = int(received.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    return Message(received.get("Body", ""), received["ReceiptHandle"], times)
