"""What the emulator takes to hand a message over to somebody who waits for one."""

from __future__ import annotations

import asyncio
import random
import time

from tests.aws.emulators import Emulator

from .measure import middle

QUEUE = "delivery"
MESSAGES = 15
POLL_SECONDS = 20
#: An emulator may look at the queue in steps only: messages must come at any moment of them.
LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.2, 0.4


async def delivery(aws: Emulator) -> str:
    """A sentence with the median. It is part of each job alone that comes over SQS."""
    url = (await asyncio.to_thread(aws.sqs.create_queue, QueueName=QUEUE))["QueueUrl"]
    seconds = [await _one(aws, url) for _ in range(MESSAGES)]
    taken = f"{middle(seconds):.0f} ms"
    return f"From the sending of a message to its receipt the emulator takes {taken} (median).\n"


async def _one(aws: Emulator, url: str) -> float:
    receipt = asyncio.ensure_future(asyncio.to_thread(_received, aws, url))
    await asyncio.sleep(random.uniform(LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS))
    sent = time.monotonic()
    await asyncio.to_thread(aws.sqs.send_message, QueueUrl=url, MessageBody="now")
    return await receipt - sent


def _received(aws: Emulator, url: str) -> float:
    """When, by the monotonic clock."""
    answer = aws.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=POLL_SECONDS)
    received = time.monotonic()
    (message,) = answer["Messages"]
    aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return received
