"""Inbox: a queue as a worker uses it. What it holds, nobody else sees."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from .aws import Aws, AwsFailed
from .message import LONGEST_REASON

log = logging.getLogger(__name__)

#: The longest that a queue waits for a message before it answers that there is none.
WAIT_SECONDS = 20
#: A client that gives up earlier than the queue would strand what the queue hands out.
READ_SECONDS = WAIT_SECONDS + 15.0
#: No queue lets a message be held for longer, from its receipt on. A little less, to be safe.
LONGEST_HOLD_SECONDS = 12 * 3600 - 60
#: No queue lets a message wait for longer before it is handed out at all.
LONGEST_DELAY_SECONDS = 900.0
#: Without a dead-letter queue, bad messages come back so seldom.
PUT_ASIDE_SECONDS = 3600

NO_DEAD_LETTERS = (
    "{} has no dead-letter queue: messages that are no tasks come back until they are too"
    " old. Give it one (redrive policy, maxReceiveCount 10)"
)


@dataclass(frozen=True)
class Message:
    """A message that was received. `times` says how often it was, by anybody."""

    #: Where it came from, and where alone it can be held or deleted.
    inbox: Inbox
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

    def __init__(self, sqs: Aws, url: str | None, *, region: str, name: str = "the queue") -> None:
        self.aws = sqs
        # It repeats nothing by itself: each answer that is lost strands a message.
        self._poll = Aws("sqs", region, read_seconds=READ_SECONDS, attempts=1, waits=True)
        #: What an operator should know.
        self.warning: str | None = None
        self._url = url
        self._no_dead_letters = NO_DEAD_LETTERS.format(name)
        self._dead_letters: str | None = None
        self._most_receives: int | None = None

    async def open(self) -> None:
        """Learn how the queue is made."""
        answer = await self._call("get_queue_attributes", AttributeNames=["RedrivePolicy"])
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
        self._dead_letters = self._url_of(policy["deadLetterTargetArn"]) if policy else None
        self._most_receives = int(policy["maxReceiveCount"]) if policy else None
        self.warning = None if policy else self._no_dead_letters

    @property
    def denial(self) -> AwsFailed | None:
        """That messages may not be held or deleted. Other refusals mean that one was lost."""
        trouble = self.aws.trouble
        return trouble if trouble and trouble.reason.startswith("AccessDenied") else None

    def is_last(self, message: Message) -> bool:
        """Whether the queue hands it out no more, but to the dead-letter queue."""
        return self._most_receives is not None and message.times >= self._most_receives

    async def receive(self, *, seconds: float, wait_seconds: int = WAIT_SECONDS) -> Message | None:
        """Wait for a message, and hold it for `seconds`."""
        answer = await self._poll.call(
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=ceil(seconds),
            AttributeNames=["ApproximateReceiveCount"],
        )
        return next(map(self._message, answer.get("Messages", [])), None)

    async def hold(self, message: Message, *, seconds: float) -> None:
        """Keep a message for so long from now, or let it come again then."""
        timeout = ceil(max(0.0, min(seconds, message.hold_left)))
        await self._call(
            "change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=timeout
        )

    async def put_off(self, message: Message, *, seconds: float) -> None:
        """Let it come again then, in a copy if the queue would not hand it out any more."""
        if self.is_last(message) and await self._send_copy(message, seconds):
            await self.delete(message)
        else:
            await self.hold(message, seconds=seconds)

    async def delete(self, message: Message) -> None:
        await self._call("delete_message", ReceiptHandle=message.receipt)

    async def quarantine(self, message: Message, reason: str) -> None:
        """Move it to the dead-letter queue, with the reason in its attribute `reason`."""
        if self._dead_letters is None:
            log.error("a message is put aside (%s); %s", reason, self._no_dead_letters)
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

    async def _send_copy(self, message: Message, seconds: float) -> bool:
        delay = ceil(max(0.0, min(seconds, LONGEST_DELAY_SECONDS)))
        try:
            await self._call("send_message", MessageBody=message.body, DelaySeconds=delay)
        except AwsFailed as failure:
            log.error("a message will be moved to the dead-letter queue: %s", failure)
            return False
        return True

    def _message(self, received: dict[str, Any]) -> Message:
        times = int(received.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        return Message(self, received.get("Body", ""), received["ReceiptHandle"], times)

    def _url_of(self, arn: str) -> str:
        """Of a queue in the same region: 'arn:aws:sqs:region:account:name'."""
        assert self._url is not None
        *_, account, name = arn.split(":")
        return f"{self._url.rsplit('/', 2)[0]}/{account}/{name}"

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self.aws.call(operation, QueueUrl=self._url, **arguments)
