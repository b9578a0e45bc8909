"""Queues: by requests that can take, change or add no task."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ..aws import Aws
from ..task_queue import NO_QUEUE, problem_of
from ..task_table import LONGEST_WAIT_SECONDS
from .examination import Arns, Examination
from .finding import Finding, Level, failed, ok, skipped, warning
from .probe import Probe

#: Told of what is wrong with a request, somebody may make it: SQS looks first at who asks, as AWS
#: documents it (not tried on AWS).
UNACCEPTABLE = frozenset(
    {
        "InvalidMessageContents",
        "InvalidParameterValue",
        "MissingParameter",
        "ReadCountOutOfRange",
        "ReceiptHandleIsInvalid",
    }
)
NO_RECEIPT = "none"
#: Not every server refuses both.
NO_MESSAGE = {"MessageBody": "\x00", "DelaySeconds": 901}
MOST_RECEIVES = 10
OF_REGION = re.compile(r"//sqs\.([a-z0-9-]+)\.amazonaws\.")

Attributes = dict[str, str]
Probes = Callable[[Aws, str, Arns, Attributes], Iterable[Probe]]


async def worker_queues(examination: Examination) -> None:
    if examination.settings.queue_url is None:
        text = "SQS_QUEUE_URL is not set, so jobs come by HTTP alone"
        examination.tell(skipped("queue", text))
    else:
        await _queues(examination, _worker_probes)


async def orchestrator_queues(examination: Examination) -> None:
    if examination.settings.queue_url is None:
        examination.tell(failed("queue", NO_QUEUE))
    else:
        await _queues(examination, _orchestrator_probes)


def _worker_probes(sqs: Aws, url: str, arns: Arns, attributes: Attributes) -> Iterator[Probe]:
    probe = partial(Probe, resource=arns.queue(url), allowed_by=UNACCEPTABLE)
    # Nothing is received: each receive counts towards the dead-letter queue.
    receive = partial(sqs.peek, "receive_message", QueueUrl=url, MaxNumberOfMessages=0)
    yield probe("sqs:ReceiveMessage", use=receive)
    receipt = {"QueueUrl": url, "ReceiptHandle": NO_RECEIPT}
    hold = partial(sqs.peek, "change_message_visibility", **receipt, VisibilityTimeout=0)
    yield probe("sqs:ChangeMessageVisibility", use=hold)
    yield probe("sqs:DeleteMessage", use=partial(sqs.peek, "delete_message", **receipt))
    back = "a task that is handed back at its last receive goes to the dead letters"
    yield _sending(sqs, url, arns, level=Level.WARNING, without=back)
    if dead_url := _dead_letters(url, attributes):
        aside = "messages that are no tasks cannot be put aside"
        yield _sending(sqs, dead_url, arns, without=aside)


def _orchestrator_probes(sqs: Aws, url: str, arns: Arns, _: Attributes) -> Iterator[Probe]:
    yield _sending(sqs, url, arns)


def _sending(
    sqs: Aws, url: str, arns: Arns, *, level: Level = Level.FAILED, without: str = ""
) -> Probe:
    use = partial(sqs.peek, "send_message", QueueUrl=url, **NO_MESSAGE)
    resource = arns.queue(url)
    return Probe("sqs:SendMessage", resource, use, UNACCEPTABLE, level=level, without=without)


async def _queues(examination: Examination, probes: Probes) -> None:
    settings = examination.settings
    if problem := problem_of(settings.queue_url, settings.high_queue_url):
        examination.tell(failed("queue", problem))
        return
    named = {"queue": settings.queue_url, "high queue": settings.high_queue_url}
    async with examination.aws("sqs") as sqs:
        for name, url in named.items():
            if url:
                await _queue(examination, sqs, name, url, probes)


async def _queue(examination: Examination, sqs: Aws, name: str, url: str, probes: Probes) -> None:
    region, found = examination.settings.region, OF_REGION.search(url)
    if found and found[1] != region:
        cure = f"Set AWS_REGION={found[1]}."
        examination.tell(failed(name, f"lies in {found[1]}, not in {region}", cure))
        return
    attributes: Attributes = {}

    async def look() -> object:
        answer = await sqs.peek("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
        attributes.update(answer.get("Attributes", {}))
        return answer

    look_up = Probe("sqs:GetQueueAttributes", examination.arns.queue(url), look)
    if (await examination.make(look_up)).is_general:
        return
    if attributes:
        examination.tell(*_made(name, attributes))
    await examination.make_all(probes(sqs, url, examination.arns, attributes))


def _made(queue: str, attributes: Attributes) -> Iterator[Finding]:
    """How a queue is made, as far as tasks depend on it."""
    most = int(_policy(attributes).get("maxReceiveCount", 0))
    if not most:
        cure = f"Give it a redrive policy: a dead-letter queue, maxReceiveCount {MOST_RECEIVES}."
        yield warning(queue, "has no dead-letter queue: messages that are no tasks return", cure)
    elif most < MOST_RECEIVES:
        text = f"maxReceiveCount is {most}: handing a task back counts too"
        yield warning(queue, text, f"Set it to {MOST_RECEIVES}.")
    else:
        yield ok(queue, f"has dead letters after {most} receives")
    kept = int(attributes.get("MessageRetentionPeriod", LONGEST_WAIT_SECONDS))
    if kept < LONGEST_WAIT_SECONDS:
        text = f"keeps messages for {kept / 86400:.1f} days: tasks that wait longer are lost"
        yield warning(queue, text, f"Set MessageRetentionPeriod to {LONGEST_WAIT_SECONDS}.")
    else:
        yield ok(queue, "keeps messages for 14 days")
    if key := attributes.get("KmsMasterKeyId"):
        yield skipped(queue, f"is encrypted by {key}, which cannot be tried without a message")


def _policy(attributes: Attributes) -> dict[str, str]:
    policy: dict[str, str] = json.loads(attributes.get("RedrivePolicy", "{}"))
    return policy


def _dead_letters(url: str, attributes: Attributes) -> str | None:
    """The URL of the queue for dead letters, which lies in the same region."""
    if not (policy := _policy(attributes)):
        return None
    account, name = policy["deadLetterTargetArn"].split(":")[-2:]
    return f"{url.rstrip('/').rsplit('/', 2)[0]}/{account}/{name}"
