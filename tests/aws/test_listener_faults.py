"""Tasks while queue, table or ComfyUI are in trouble: none is failed for it, none runs twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bucket_objects import keys
from fault_proxy import FaultProxy, answer, lose_answer, operation, refuse_operation
from tasks import Deployment, Worker
from unified_api.jobs.errors import UnknownJob
from unified_api.jobs.health import State
from unified_api.sqs_bridge.aws import Aws
from unified_api.sqs_bridge.inbox import LONGEST_HOLD_SECONDS, Inbox

from ..unit.fake_host import until

ALWAYS = float("inf")
#: Where nothing depends on whether a beat is late.
SHORT = {"UNIFIED_API_VISIBILITY_SECONDS": "2"}


def asked(proxy: FaultProxy, name: str) -> int:
    return sum(map(operation(name), proxy.seen))


def completed(deployment: Deployment, *task_ids: str) -> Callable[[], bool]:
    return lambda: all(deployment.item(each).get("status") == "completed" for each in task_ids)


async def running(hire: Any, deployment: Deployment, **given: Any) -> tuple[Worker, str]:
    """A worker, and the task that it runs until its gate opens."""
    worker = await hire(**given)
    worker.host.gate.clear()
    task_id = deployment.send()
    await until(lambda: worker.runs)
    return worker, task_id


async def more(proxy: FaultProxy, name: str, times: int) -> None:
    """Until an operation was asked for so often from now."""
    last = asked(proxy, name) + times
    await until(lambda: asked(proxy, name) >= last)


async def test_a_long_job_keeps_its_message_and_its_claim(
    hire: Any, deployment: Deployment
) -> None:
    worker, task_id = await running(
        hire, deployment, SQS_PREFETCH="0", UNIFIED_API_VISIBILITY_SECONDS="6"
    )
    seen = set()
    begun = time.monotonic()

    await until(lambda: seen.add(deployment.waiting()) or time.monotonic() > begun + 7)
    deployment.send({}, task_id)
    other = await hire()
    await until(lambda: deployment.waiting() == (0, 2))
    worker.host.gate.set()
    await until(completed(deployment, task_id))

    assert seen == {(0, 1)}
    assert (worker.runs, other.runs) == (1, 0)
    assert deployment.item(task_id)["fence"] == 1


@pytest.mark.parametrize(
    "faults",
    [
        [lose_answer],
        [
            refuse_operation("ThrottlingException"),
            refuse_operation("ProvisionedThroughputExceededException"),
            refuse_operation("InternalFailure", 500),
        ],
    ],
    ids=["lost", "refused"],
)
async def test_answers_that_are_lost_or_refused_for_now_harm_no_task(
    hire: Any, deployment: Deployment, proxy: FaultProxy, faults: Any
) -> None:
    worker = await hire()
    worker.host.gate.clear()
    proxy.spoil(faults[0], method="POST", when=operation("ReceiveMessage"))
    for name in ("ChangeMessageVisibility", "DeleteMessage", "UpdateItem"):
        for fault in faults:
            proxy.spoil(fault, method="POST", when=operation(name))
    task_ids = [deployment.send(), deployment.send()]

    await until(lambda: worker.runs)
    worker.host.gate.set()
    await until(completed(deployment, *task_ids))
    await until(lambda: deployment.is_empty)

    assert worker.runs == 2
    assert deployment.dead_letters() == []


async def test_a_job_outlives_a_table_that_is_away(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker, task_id = await running(hire, deployment, **SHORT)
    proxy.spoil(
        refuse_operation("InternalServerError", 500),
        method="POST",
        times=ALWAYS,
        when=operation("UpdateItem"),
    )
    await more(proxy, "ChangeMessageVisibility", 3)
    _, table = worker.listener.parts
    await until(lambda: table.component.state is State.DEGRADED)
    worker.host.gate.set()
    await until(lambda: proxy.count("PUT"))

    proxy.heal()
    await until(completed(deployment, task_id))

    assert (worker.runs, deployment.item(task_id)["attempt"]) == (1, 1)


async def test_no_message_is_used_up_while_the_table_refuses(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    refusal = refuse_operation("AccessDeniedException")
    proxy.spoil(refusal, method="POST", times=ALWAYS, when=operation("UpdateItem"))
    task_ids = [deployment.send() for _ in range(6)]

    worker = await hire()
    await until(lambda: asked(proxy, "UpdateItem") >= 5)
    assert asked(proxy, "ReceiveMessage") <= 3
    proxy.heal()

    await until(completed(deployment, *task_ids))
    assert worker.runs == 6


async def test_lost_credentials_are_waited_for(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker, task_id = await running(hire, deployment, SQS_PREFETCH="2")
    expired = refuse_operation("ExpiredTokenException")
    proxy.spoil(answer(400, "ExpiredToken"), method="PUT", times=ALWAYS)
    # First this: while the table refuses, the queue is not asked.
    proxy.spoil(expired, method="POST", times=ALWAYS, when=operation("ReceiveMessage"))
    ahead = deployment.send()
    await until(lambda: worker.listener.component.state is State.DEGRADED)
    proxy.spoil(expired, method="POST", times=ALWAYS)
    waits = deployment.send()
    worker.host.gate.set()
    await until(lambda: proxy.count("PUT"))
    assert deployment.item(task_id)["status"] == "processing"

    proxy.heal()
    await until(completed(deployment, task_id, ahead, waits))
    await until(lambda: deployment.is_empty)

    assert worker.runs == 3
    await until(lambda: worker.listener.component.state is State.HEALTHY)


async def test_a_queue_that_is_deleted_and_made_again_is_used_again(
    hire: Any, deployment: Deployment
) -> None:
    sqs, url = deployment.emulator.sqs, deployment.queue_url
    worker = await hire()
    sqs.delete_queue(QueueUrl=url)
    await until(lambda: worker.listener.component.state is State.UNHEALTHY)
    assert "NonExistentQueue" in worker.listener.component.reason

    sqs.create_queue(QueueName=url.rpartition("/")[2])
    task_id = deployment.send()

    await until(completed(deployment, task_id))
    assert worker.listener.component.state is not State.UNHEALTHY


async def test_who_may_not_hold_messages_runs_them_once_and_tells(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    refusal = refuse_operation("AccessDenied", 403)
    proxy.spoil(refusal, method="POST", times=ALWAYS, when=operation("ChangeMessageVisibility"))
    worker, task_id = await running(hire, deployment, **SHORT)

    await more(proxy, "ReceiveMessage", 2)
    assert worker.listener.component.state is State.UNHEALTHY
    worker.host.gate.set()
    await until(completed(deployment, task_id))
    await until(lambda: deployment.is_empty)

    assert (worker.runs, deployment.item(task_id)["fence"]) == (1, 1)


async def test_a_worker_does_not_take_what_it_works_on(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker, task_id = await running(hire, deployment, **SHORT)
    begun = time.monotonic()

    def is_free() -> None:
        deployment.change(task_id, lease_until=0)

    deployment.send({}, task_id)
    await until(lambda: is_free() or time.monotonic() > begun + 1.5)
    await until(lambda: deployment.waiting() == (0, 2))
    worker.host.gate.set()
    await until(completed(deployment, task_id))
    await until(lambda: deployment.is_empty)

    assert (worker.runs, deployment.item(task_id)["fence"]) == (1, 1)


async def test_the_late_end_of_a_lost_claim_changes_nothing(
    hire: Any, deployment: Deployment, aws: Any, bucket_name: str
) -> None:
    worker, task_id = await running(hire, deployment)
    deployment.change(task_id, fence=2, lease_owner="other", lease_until=int(time.time()) + 60)
    before = deployment.item(task_id)

    worker.host.gate.set()
    await until(lambda: keys(aws, bucket_name))
    await until(lambda: is_forgotten(worker, task_id))

    assert deployment.item(task_id) == before


async def is_forgotten(worker: Worker, task_id: str) -> bool:
    try:
        await worker.engine.get(task_id)
    except UnknownJob:
        return True
    return False


async def test_what_was_lost_before_it_began_is_let_go(hire: Any, deployment: Deployment) -> None:
    worker, first = await running(hire, deployment)
    second = deployment.send()
    await until(lambda: len(worker.host.queue) == 2)
    taken = {"fence": 2, "lease_owner": "other", "lease_until": int(time.time()) + 60}
    deployment.change(second, **taken)

    await until(lambda: len(worker.host.queue) == 1)
    worker.host.gate.set()
    await until(completed(deployment, first))

    assert worker.runs == 1
    assert taken.items() <= deployment.item(second).items()


async def test_what_hangs_comfyui_is_no_longer_run_after_three_times(
    hire: Any, deployment: Deployment
) -> None:
    hung = await hire()
    hung.host.gate.clear()
    deployment.accept("poison", status="processing", stage="queued", attempt=2)
    deployment.send({}, "poison")
    await until(lambda: hung.runs)

    hung.host.problem = "ComfyUI has stopped working"
    other = await hire()
    await until(lambda: deployment.item("poison")["status"] == "failed")

    assert deployment.item("poison")["error_detail"]["code"] == "crash_loop"
    assert (hung.runs, other.runs) == (1, 0)


async def test_what_runs_where_comfyui_hangs_is_run_by_another(
    hire: Any, deployment: Deployment
) -> None:
    hung, task_id = await running(hire, deployment)

    hung.host.problem = "ComfyUI has stopped working"
    other = await hire()
    await until(completed(deployment, task_id))

    assert (hung.runs, other.runs, deployment.item(task_id)["attempt"]) == (1, 1, 2)


async def test_at_the_limit_of_the_queue_a_message_is_no_longer_held(
    proxy: FaultProxy, deployment: Deployment
) -> None:
    deployment.send()
    inbox = Inbox(Aws("sqs", "us-east-1"), deployment.queue_url, region="us-east-1")
    message = await inbox.receive(seconds=60)
    received = time.monotonic() - LONGEST_HOLD_SECONDS
    old = replace(message, received=received)

    await inbox.hold(old, seconds=60)

    assert deployment.waiting() == (1, 0)
