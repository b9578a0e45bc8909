"""The roles of the template, compared with what a real worker and an orchestrator do with AWS.

The emulator allows everything, so the calls are written down on their way to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
import requests
from cloudformation_stack import Stack, create
from comfy_process import FINAL, ComfyProcess, wait_until
from conftest import NEWEST
from emulators import CREDENTIALS, start_moto
from fault_proxy import FaultProxy
from fleet import PATH, Orchestrator
from forked import ForkedComfy
from recording_proxy import Grant, Use, grants, record

#: Its servers start within the first test.
pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]

#: So large that it travels through the bucket.
LARGE = "x" * (256 * 1024 - 50)
#: An item as another program makes it, whose message is long gone.
FORGOTTEN = {"status": {"S": "pending"}, "job_type": {"S": PATH}, "created_at": {"N": "1000"}}
#: A message that is no task, but names one.
BAD = '{"task_id": "bad"}'
QUEUES, PRIORITIES = ("Tasks", "HighTasks"), ({}, {"priority": "high"})
ROLES = ("worker", "orchestrator")

Used = dict[str, list[Use]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    moto = start_moto(tmp_path_factory.mktemp("moto"))
    yield create(moto)
    moto.stop()


@pytest.fixture(scope="module")
def used(stack: Stack, tmp_path_factory: pytest.TempPathFactory, png: bytes) -> Iterator[Used]:
    """What each has done with AWS after jobs of all kinds."""
    folder = tmp_path_factory.mktemp("fleet")
    with FaultProxy(stack.emulator.port) as one, FaultProxy(stack.emulator.port) as other:
        used = {"orchestrator": record(one), "worker": record(other)}
        orchestrator = Orchestrator(
            folder / "log", {**stack.orchestrator, **by_way_of(one), "UNIFIED_API_KEYS": ""}
        )
        worker = ForkedComfy(NEWEST, folder / "worker", **{**stack.worker, **by_way_of(other)})
        try:
            live(stack, orchestrator, worker, png, used["worker"])
        finally:
            worker.kill()
            orchestrator.kill()
        yield used


def by_way_of(proxy: FaultProxy) -> dict[str, str]:
    return {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        # Links are signed then.
        "CLOUDFRONT_DOMAIN": "",
        "UNIFIED_API_VISIBILITY_SECONDS": "5",
    }


def live(
    stack: Stack, orchestrator: Orchestrator, worker: ComfyProcess, png: bytes, done: list[Use]
) -> None:
    """Jobs of all kinds, bad messages, and what an orchestrator has to tidy up."""
    key = {"task_id": {"S": "forgotten"}}
    stack.emulator.dynamodb.put_item(TableName=stack.made["Table"], Item={**key, **FORGOTTEN})
    orchestrator.start()
    for priority in PRIORITIES:
        orchestrator.submit({"ending": "out of memory", **priority})
    for queue in QUEUES:
        nearly_use_up(stack, queue)
        stack.emulator.sqs.send_message(QueueUrl=stack.made[queue], MessageBody=BAD)

    # Long enough to be held on to.
    well = [orchestrator.submit({"seconds": 2, **priority}) for priority in PRIORITIES]
    well += [upload(orchestrator, png) for _ in range(2)]
    well += batch(orchestrator, [{}, {}])
    failing = orchestrator.submit({"ending": "fail"})
    # Before its run: the emulator refuses to change an item of that size.
    cancelled = orchestrator.submit({"tag": LARGE})
    orchestrator.cancel(cancelled)

    worker.start()
    ended = [wait_for_end(orchestrator, job_id) for job_id in (*well, failing, cancelled)]
    assert [job["status"] for job in ended] == ["completed"] * len(well) + ["failed", "cancelled"]
    wait_for_end(orchestrator, "forgotten")
    # Bad messages go to two queues, and two messages go round once more.
    wait_until(
        lambda: len({use for use in done if use.action == "sqs:SendMessage"}) == 4, seconds=90
    )

    assert requests.get(ended[0]["result_url"], timeout=30).ok
    assert requests.delete(f"{orchestrator.url}/api/v1/jobs/{well[0]}", timeout=30).ok
    orchestrator.tagged("-")
    orchestrator.kill()
    orchestrator.start(UNIFIED_API_KEYS=f"ci:read:{sha256(b'secret').hexdigest()}")
    of_one = {"Authorization": "Bearer secret"}
    assert requests.get(f"{orchestrator.url}/api/v1/jobs", headers=of_one, timeout=30).ok


def nearly_use_up(stack: Stack, queue: str) -> None:
    """The next receive of what waits there is the last."""
    for _ in range(9):
        (message,) = stack.emulator.sqs.receive_message(QueueUrl=stack.made[queue])["Messages"]
        stack.emulator.sqs.change_message_visibility(
            QueueUrl=stack.made[queue],
            ReceiptHandle=message["ReceiptHandle"],
            VisibilityTimeout=0,
        )


def upload(orchestrator: Orchestrator, png: bytes) -> str:
    reply = requests.post(orchestrator.url + PATH, files={"image": png}, timeout=30)
    return str(reply.json()["job_id"])


def batch(orchestrator: Orchestrator, items: list[dict[str, Any]]) -> list[str]:
    url = f"{orchestrator.url}{PATH}:batch"
    reply = requests.post(url, json={"items": items}, timeout=30)
    return [str(result["job"]["job_id"]) for result in reply.json()["results"]]


def wait_for_end(orchestrator: Orchestrator, job_id: str) -> dict[str, Any]:
    wait_until(lambda: orchestrator.job(job_id)["status"] in FINAL, seconds=90, every=0.2)
    return orchestrator.job(job_id)


def granted(stack: Stack, role: str) -> list[Grant]:
    return grants(stack.policy(f"{role.title()}Role", "tasks"))


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_done_that_the_role_does_not_allow(stack: Stack, used: Used, role: str) -> None:
    allowed = granted(stack, role)

    assert {use for use in used[role] if not any(one.covers(use) for one in allowed)} == set()


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_that_is_not_done(stack: Stack, used: Used, role: str) -> None:
    done = set(used[role])

    assert [one for one in granted(stack, role) if not any(map(one.covers, done))] == []
