"""QueueCheck: the queues of a deployment, by requests that can take, change or add no task."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial

from ..jobs.doctor import Finding, Level, failed, ok, skipped, warning
from .aws import Aws
from .patient import Names, Patient, call
from .probe import Probe
from .task_queue import NO_QUEUE, problem_of
from .task_table import LONGEST_WAIT_SECONDS

#: Told of what is wrong with a request, somebody may make it: this rests on SQS looking first at
#: who asks, as no emulator can show. None of these requests can act.
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
Probes = Callable[[Aws, str, Names, Attributes], Iterable[Probe]]


async def worker_queues(patient: Patient) -> AsyncIterator[Finding]:
    if patient.settings.queue_url is None:
        yield skipped("queue", "SQS_QUEUE_URL is not set, so jobs come by HTTP alone")
        return
    async for finding in _queues(patient, worker_probes):
        yield finding


async def orchestrator_queues(patient: Patient) -> AsyncIterator[Finding]:
    if patient.settings.queue_url is None:
        yield failed("queue", NO_QUEUE)
        return
    async for finding in _queues(patient, orchestrator_probes):
        yield finding


def worker_probes(sqs: Aws, url: str, names: Names, attributes: Attributes) -> Iterator[Probe]:
    probe = partial(Probe, resource=names.queue(url), allowed_by=UNACCEPTABLE)
    ask = partial(call, sqs, QueueUrl=url)
    # Nothing is received: each receive counts towards the dead-letter queue.
    yield probe("sqs:ReceiveMessage", use=ask("receive_message", MaxNumberOfMessages=0))
    hold = ask("change_message_visibility", ReceiptHandle=NO_RECEIPT, VisibilityTimeout=0)
    yield probe("sqs:ChangeMessageVisibility", use=hold)
    yield probe("sqs:DeleteMessage", use=ask("delete_message", ReceiptHandle=NO_RECEIPT))
    without = "a task that is handed back at its last receive goes to the dead letters"
    send = ask("send_message", **NO_MESSAGE)
    yield probe("sqs:SendMessage", use=send, level=Level.WARNING, without=without)
    if dead_url := _dead_letters(url, attributes):
        without = "messages that are no tasks cannot be put aside"
        send = call(sqs, "send_message", QueueUrl=dead_url, **NO_MESSAGE)
        yield Probe("sqs:SendMessage", names.queue(dead_url), send, UNACCEPTABLE, without=without)


def orchestrator_probes(
    sqs: Aws, url: str, names: Names, _attributes: Attributes
) -> Iterator[Probe]:
    send = call(sqs, "send_message", QueueUrl=url, **NO_MESSAGE)
    yield Probe("sqs:SendMessage", names.queue(url), send, UNACCEPTABLE)


async def _queues(patient: Patient, probes: Probes) -> AsyncIterator[Finding]:
    settings = patient.settings
    if problem := problem_of(settings.queue_url, settings.high_queue_url):
        yield failed("queue", problem)
        return
    named = {"queue": settings.queue_url, "high queue": settings.high_queue_url}
    async with patient.aws("sqs") as sqs:
        for name, url in named.items():
            if url:
                async for finding in _queue(patient, sqs, name, url, probes):
                    yield finding


async def _queue(
    patient: Patient, sqs: Aws, name: str, url: str, probes: Probes
) -> AsyncIterator[Finding]:
    region, found = patient.settings.region, OF_REGION.search(url)
    if found and found[1] != region:
        yield failed(name, f"lies in {found[1]}, not in {region}", f"Set AWS_REGION={found[1]}.")
        return
    attributes: Attributes = {}

    async def look() -> object:
        answer = await sqs.peek("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
        attributes.update(answer.get("Attributes", {}))
        return answer

    resource = patient.names.queue(url)
    seen = await patient.examiner.examine(Probe("sqs:GetQueueAttributes", resource, look))
    yield seen
    if seen.is_general:
        return
    for finding in made(name, attributes) if attributes else ():
        yield finding
    wanted = probes(sqs, url, patient.names, attributes)
    async for finding in patient.examiner.examine_all(wanted):
        yield finding


def made(queue: str, attributes: Attributes) -> Iterator[Finding]:
    """How a queue is made, as far as tasks depend on it."""
    policy = _policy(attributes)
    if not policy:
        cure = f"Give it a redrive policy: a dead-letter queue, maxReceiveCount {MOST_RECEIVES}."
        yield warning(queue, "has no dead-letter queue: messages that are no tasks return", cure)
    elif int(policy["maxReceiveCount"]) < MOST_RECEIVES:
        text = f"maxReceiveCount is {policy['maxReceiveCount']}: handing a task back counts too"
        yield warning(queue, text, f"Set it to {MOST_RECEIVES}.")
    else:
        yield ok(queue, f"has dead letters after {policy['maxReceiveCount']} receives")
    kept = int(attributes.get("MessageRetentionPeriod", LONGEST_WAIT_SECONDS))
    if kept < LONGEST_WAIT_SECONDS:
        text = f"keeps messages for {kept / 86400:.1f} days: tasks that wait longer are lost"
        yield warning(queue, text, f"Set MessageRetentionPeriod to {LONGEST_WAIT_SECONDS}.")
    else:
        yield ok(queue, "keeps messages for 14 days")


def _policy(attributes: Attributes) -> dict[str, str]:
    policy: dict[str, str] = json.loads(attributes.get("RedrivePolicy", "{}"))
    return policy


def _dead_letters(url: str, attributes: Attributes) -> str | None:
    """The URL of the queue for dead letters, which lies in the same region."""
    if not (policy := _policy(attributes)):
        return None
    account, name = policy["deadLetterTargetArn"].split(":")[-2:]
    return f"{url.rstrip('/').rsplit('/', 2)[0]}/{account}/{name}"
