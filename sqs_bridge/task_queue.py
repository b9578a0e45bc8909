"""TaskQueue: the queue that tasks travel on."""

from __future__ import annotations

from .aws import Aws
from .message import TaskMessage

NO_QUEUE = "SQS_QUEUE_URL is not set: give the URL of a standard queue"
FIFO = (
    "SQS_QUEUE_URL names a FIFO queue, which hands out one message of a group at a time and"
    " refuses late deletions: give the URL of a standard queue"
)


class TaskQueue:
    """A standard queue: messages may come twice and in any order."""

    def __init__(self, sqs: Aws, url: str | None) -> None:
        self.problem = _problem(url)
        self.aws = sqs
        self._url = url

    async def send(self, message: TaskMessage) -> None:
        """Raises AwsFailed, perhaps although it was sent."""
        await self.aws.call("send_message", QueueUrl=self._url, MessageBody=message.encode())


def _problem(url: str | None) -> str | None:
    """Why a queue cannot be used. Its name tells the kind, so nothing need be asked."""
    if url is None:
        return NO_QUEUE
    return FIFO if url.endswith(".fifo") else None
