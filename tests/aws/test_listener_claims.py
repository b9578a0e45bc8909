"""Tasks that come twice, whose worker dies, or that fail: one result, and no run too many."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from fault_proxy import FaultProxy, answer, operation, refuse_operation
from tasks import Deployment, Worker
from unified_api.jobs.errors import ExecutionFailed, OutOfMemory
from unified_api.jobs.prompt import Ending

from ..unit.fake_host import until

ALWAYS = float("inf")
#: Of a worker that dies: its open poll would catch the message once more.
BARE = {"SQS_PREFETCH": "0"}


def runs_of(*workers: Worker) -> int:
    return sum(worker.runs for worker in workers)


def seeds_of(*workers: Worker) -> set[int]:
    return {p.graph["1"]["inputs"]["seed"] for worker in workers for p in worker.host.prompts}


def has_ended(deployment: Deployment, task_id: str, status: str = "completed") -> bool:
    return bool(deployment.item(task_id).get("status") == status)


async def test_a_task_sent_twice_is_run_once(hire: Any, deployment: Deployment) -> None:
    first, second = await hire(), await hire()
    for worker in (first, second):
        worker.host.gate.clear()
    task_id = deployment.send()
    for _ in range(3):
        deployment.send({}, task_id)

    await until(lambda: deployment.waiting()[0] == 0)
    await until(lambda: runs_of(first, second))
    for worker in (first, second):
        worker.host.gate.set()
    await until(lambda: has_ended(deployment, task_id))
    await until(lambda: deployment.is_empty)

    assert runs_of(first, second) == 1
    assert deployment.item(task_id)["fence"] == 1


async def test_a_task_that_has_ended_is_not_run_again(hire: Any, deployment: Deployment) -> None:
    for status in ("completed", "failed", "cancelled"):
        deployment.accept(status, status=status)
        deployment.send({}, status)
    before = deployment.item("completed")

    worker = await hire()
    await until(lambda: deployment.is_empty)

    assert worker.runs == 0
    assert deployment.item("completed") == before
    assert deployment.dead_letters() == []


async def test_a_task_that_somebody_else_holds_comes_again_later(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker = await hire()
    await until(lambda: any(map(operation("ReceiveMessage"), proxy.seen)))
    free = int(time.time()) + 6
    deployment.accept("held", status="processing", fence=7, lease_until=free, lease_owner="a")

    deployment.send({}, "held")
    await until(lambda: deployment.waiting() == (0, 1))
    assert (worker.runs, deployment.item("held")["fence"]) == (0, 7)

    await until(lambda: has_ended(deployment, "held"))
    assert time.time() >= free
    assert deployment.item("held")["fence"] == 8


async def test_what_a_dead_worker_ran_another_runs_with_the_same_seed(
    hire: Any, deployment: Deployment
) -> None:
    task_id = deployment.send({"text": "a"})
    dead = await hire(**BARE)
    dead.host.gate.clear()
    await until(lambda: dead.runs)
    await dead.crash()

    heir = await hire()
    await until(lambda: has_ended(deployment, task_id))

    assert (dead.runs, heir.runs) == (1, 1)
    assert len(seeds_of(dead, heir)) == 1
    assert (deployment.item(task_id)["attempt"], deployment.item(task_id)["fence"]) == (2, 2)


async def test_what_is_published_is_not_run_again(
    hire: Any, deployment: Deployment, proxy: FaultProxy, aws: Any, bucket_name: str
) -> None:
    """S5: the worker dies between the result and the status."""

    def is_published() -> bool:
        return bool(aws.list_objects_v2(Bucket=bucket_name)["KeyCount"])

    proxy.spoil(
        refuse_operation("AccessDeniedException"),
        method="POST",
        when=lambda exchange: operation("UpdateItem")(exchange) and is_published(),
        times=99,
    )
    task_id = deployment.send()
    dead = await hire(**BARE)
    await until(is_published)
    await dead.crash()
    proxy.heal()

    heir = await hire()
    await until(lambda: has_ended(deployment, task_id))

    assert (dead.runs, heir.runs) == (1, 0)
    assert deployment.item(task_id)["outputs"][0]["s3_uri"].endswith(f"draw/{task_id}.png")
    await until(lambda: deployment.is_empty)


async def test_what_is_rendered_is_published_by_the_same_worker_without_a_run(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    """S4: the worker dies before it could publish, and gets the message again."""
    proxy.spoil(answer(503, "SlowDown"), method="PUT", times=ALWAYS)
    task_id = deployment.send()
    dead = await hire(**BARE)
    await until(lambda: proxy.count("PUT"))
    await dead.crash()
    proxy.heal()

    again = await hire(home=dead.home)
    await until(lambda: has_ended(deployment, task_id))

    assert again.runs == 0
    assert deployment.item(task_id)["attempt"] == 1


async def test_a_task_that_killed_three_workers_is_not_tried_again(
    hire: Any, deployment: Deployment
) -> None:
    deployment.accept("poison", status="processing", stage="running", attempt=3, fence=3)
    deployment.send({}, "poison")

    worker = await hire()
    await until(lambda: has_ended(deployment, "poison", "failed"))
    await until(lambda: deployment.is_empty)

    assert deployment.item("poison")["error_detail"]["code"] == "crash_loop"
    ((_, reason),) = deployment.dead_letters()
    assert reason == deployment.item("poison")["error_message"]
    assert worker.runs == 0


async def test_a_task_that_may_have_killed_a_worker_runs_alone(
    hire: Any, deployment: Deployment
) -> None:
    deployment.accept("suspect", status="processing", stage="running", attempt=1, fence=1)
    ids = [deployment.send(), deployment.send({}, "suspect"), deployment.send()]

    worker = await hire(SQS_PREFETCH="3")
    await until(lambda: all(has_ended(deployment, task_id) for task_id in ids))

    together = [
        (prompt.folder.split("/")[1], len(others)) for prompt, others in worker.host.company
    ]
    assert ("suspect", 0) in together


async def test_a_task_that_ran_out_of_memory_is_tried_again_and_never_told_failed(
    hire: Any, deployment: Deployment
) -> None:
    seen = []
    worker = await hire()
    worker.host.endings = [Ending(failure=OutOfMemory())]
    task_id = deployment.send()

    await until(
        lambda: seen.append(deployment.item(task_id).get("status")) or seen[-1] == "completed"
    )

    assert set(seen) <= {None, "processing", "completed"}
    assert (worker.runs, deployment.item(task_id)["attempt"]) == (2, 2)
    assert len(seeds_of(worker)) == 1


async def test_a_task_whose_node_fails_is_not_tried_again(
    hire: Any, deployment: Deployment
) -> None:
    worker = await hire()
    worker.host.endings = [Ending(failure=ExecutionFailed("node 1 raised an error"))]
    task_id = deployment.send({}, str(uuid4()))

    await until(lambda: has_ended(deployment, task_id, "failed"))
    await until(lambda: deployment.is_empty)

    item = deployment.item(task_id)
    assert item["error_detail"]["code"] == "execution_failed"
    assert item["error_message"] == "node 1 raised an error"
    assert (worker.runs, deployment.dead_letters()) == (1, [])
