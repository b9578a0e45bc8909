"""Tasks whose request is too large for a message and lies in the bucket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fault_proxy import FaultProxy
from tasks import PATH, Deployment
from unified_api.jobs.s3.bucket import Bucket
from unified_api.sqs_bridge.deposit import Deposit

from ..unit.fake_host import until


def task(task_id: str, claim: str) -> str:
    return json.dumps({"task_id": task_id, "api_path": PATH, "claim": claim})


def code_of(deployment: Deployment, task_id: str) -> str:
    return str(deployment.item(task_id)["error_detail"]["code"])


@pytest.fixture
def deposit(bucket: Bucket) -> Deposit:
    return Deposit(bucket, max_image_bytes=1000)


async def test_a_body_in_the_bucket_is_read_from_there(
    hire: Any, deployment: Deployment, deposit: Deposit
) -> None:
    claim = await deposit.keep_request({"text": "large"})
    deployment.send_text(task("large", claim))

    worker = await hire()
    await until(lambda: deployment.item("large").get("status") == "completed")

    assert worker.host.prompts[0].graph["1"]["inputs"]["text"] == "large"


async def test_what_is_sent_again_is_stored_again_so_that_it_lasts_for_the_latest(
    deposit: Deposit, bucket: Bucket, aws: Any
) -> None:
    claim = await deposit.keep_request({"text": "large"})
    key = claim.removeprefix(f"{bucket.uri('')}")
    aws.put_object(Bucket=bucket.name, Key=key, Body=b"as if of long ago")

    assert await deposit.keep_request({"text": "large"}) == claim

    assert await deposit.read_request(claim) == {"text": "large"}


async def test_no_body_is_read_from_elsewhere(
    hire: Any, deployment: Deployment, proxy: FaultProxy, bucket: Bucket
) -> None:
    elsewhere = (
        "s3://other-bucket/unified-api/requests/a.json",
        f"s3://{bucket.name}-2/unified-api/requests/a.json",
        f"s3://{bucket.name}/images/requests/a.json",
    )
    for number, claim in enumerate(elsewhere):
        deployment.accept(f"task-{number}")
        deployment.send_text(task(f"task-{number}", claim))

    await hire()
    await until(lambda: deployment.is_empty)

    assert [code_of(deployment, f"task-{n}") for n in range(3)] == ["malformed_task"] * 3
    assert len(deployment.dead_letters()) == 3
    assert not any("requests/a.json" in exchange.line for exchange in proxy.seen)


async def test_a_body_that_is_none_is_no_task(
    hire: Any, deployment: Deployment, bucket: Bucket, aws: Any
) -> None:
    for number, content in enumerate((b"[]", b"\xff", b'{"text": NaN}')):
        key = f"unified-api/requests/{number}.json"
        aws.put_object(Bucket=bucket.name, Key=key, Body=content)
        deployment.accept(f"task-{number}")
        deployment.send_text(task(f"task-{number}", bucket.uri(key)))

    await hire()
    await until(lambda: deployment.is_empty)

    assert [code_of(deployment, f"task-{n}") for n in range(3)] == ["malformed_task"] * 3
    assert len(deployment.dead_letters()) == 3


@pytest.mark.parametrize("deployment", [2], indirect=True)
async def test_a_body_that_is_gone_fails_its_task_in_the_end(
    hire: Any, deployment: Deployment, bucket: Bucket
) -> None:
    deployment.accept("bad")
    deployment.send_text(task("bad", bucket.uri("unified-api/requests/a.json")))

    await hire()

    await until(lambda: deployment.item("bad")["status"] == "failed")
    assert deployment.item("bad")["error_detail"]["code"] == "no_worker"
    await until(lambda: deployment.is_empty)
    assert len(deployment.dead_letters()) == 1
