"""What orchestrator and worker tell a monitoring system of the queue."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from emulators import REGION
from fault_proxy import FaultProxy, operation, refuse_operation
from marks import on_each_emulator
from prometheus_client.parser import text_string_to_metric_families
from tasks import PATH, Deployment, deploy
from unified_api.jobs.engine import Engine
from unified_api.sqs_bridge.aws import Aws
from unified_api.sqs_bridge.depth import Depth

from ..unit.fake_host import until

ENDED = "unified_api_jobs_ended_total"
HELD = "unified_api_messages_held"
MESSAGES = "unified_api_queue_messages"
ALWAYS = float("inf")
OF_ATTRIBUTES = operation("GetQueueAttributes")


def values_of(text: str) -> dict[tuple[str, ...], float]:
    """By the name and then by the labels, which come in the order of their names."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {(s.name, *dict(sorted(s.labels.items())).values()): s.value for s in samples}


def read(engine: Engine) -> dict[tuple[str, ...], float]:
    return values_of(engine.metrics.text({}).decode())


async def test_an_orchestrator_counts_what_it_accepts_and_what_waits(
    orchestrate: Any,
) -> None:
    client = await orchestrate()
    for _ in range(2):
        await client.post("/api/v1/draw/jobs", json={})

    told = values_of(await (await client.get("/metrics")).text())

    assert told["unified_api_jobs_accepted_total", "draw"] == 2
    # About: what is accepted while the table is counted counts twice until the next time.
    assert 2 <= told["unified_api_jobs_waiting",] <= 4


async def test_a_worker_counts_the_messages_it_holds_and_the_tasks_that_end(
    hire: Any, deployment: Deployment
) -> None:
    for _ in range(2):
        deployment.send({})
    worker = await hire()
    worker.host.gate.clear()

    await until(lambda: read(worker.engine)[HELD,] == 2)
    worker.host.gate.set()

    await until(lambda: read(worker.engine)[ENDED, "completed", "draw"] == 2)
    await until(lambda: read(worker.engine)[HELD,] == 0)


@pytest.mark.parametrize("deployment", [1], indirect=True)
@pytest.mark.parametrize(
    ("body", "path", "workflow"),
    [({"size": 0}, "/api/v1/draw/jobs", "draw"), ({}, "/api/v1/nothing/jobs", "(other)")],
)
async def test_a_task_that_is_not_run_counts_as_failed(
    hire: Any, deployment: Deployment, body: Any, path: str, workflow: str
) -> None:
    deployment.send(body, api_path=path)

    worker = await hire()

    await until(lambda: read(worker.engine).get((ENDED, "failed", workflow)) == 1)


async def told_by(client: Any) -> dict[tuple[str, ...], float]:
    return values_of(await (await client.get("/metrics")).text())


# Ends that no worker came to


async def test_an_orchestrator_counts_what_it_cancels_once(orchestrate: Any) -> None:
    client = await orchestrate()
    job = await (await client.post(PATH, json={})).json()

    for _ in range(2):
        await client.post(job["urls"]["cancel"])

    assert (await told_by(client))[ENDED, "cancelled", "draw"] == 1


async def test_what_a_worker_is_asked_to_cancel_is_its_own_to_count(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    deployment.accept("runs", status="processing", lease_until=10**11)

    await client.post("/api/v1/jobs/runs/cancel")

    assert (await told_by(client))[ENDED, "cancelled", "draw"] == 0


async def test_an_orchestrator_counts_what_is_lost_or_given_up(
    orchestrate: Any, deployment: Deployment
) -> None:
    deployment.accept("lost", created_at=1000)
    deployment.accept("late", give_up_at=1000)

    client = await orchestrate()

    async def are_counted() -> bool:
        return (await told_by(client))[ENDED, "failed", "draw"] == 2

    await until(are_counted)


# How full the queue is


@pytest.fixture
async def sqs(proxy: FaultProxy) -> AsyncIterator[Aws]:
    aws = Aws("sqs", REGION)
    yield aws
    await aws.close()


@pytest.fixture
def depth(sqs: Aws, deployment: Deployment) -> Depth:
    return Depth(sqs, {"normal": deployment.queue_url, "high": None})


def counts(depth: Depth, queue: str = "normal") -> list[float]:
    return [depth.count(queue, state) for state in ("visible", "in_flight")]


@on_each_emulator
async def test_messages_that_wait_and_messages_that_are_held_are_told_apart(
    depth: Depth, deployment: Deployment
) -> None:
    for _ in range(3):
        deployment.send()
    deployment.emulator.sqs.receive_message(QueueUrl=deployment.queue_url)

    assert all(map(math.isnan, counts(depth)))
    await depth.look()

    assert counts(depth) == [2, 1]
    assert depth.queues == ["normal"]


async def test_a_queue_that_tells_nothing_hides_no_other_and_troubles_nobody(
    sqs: Aws, deployment: Deployment, proxy: FaultProxy
) -> None:
    other = deploy(deployment.emulator)
    other.send()
    depth = Depth(sqs, {"normal": deployment.queue_url, "high": other.queue_url})
    await depth.look()
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=OF_ATTRIBUTES)

    await depth.look()

    assert all(map(math.isnan, counts(depth)))
    assert counts(depth, "high") == [1, 0]
    assert sqs.trouble is None
    await depth.look()
    assert counts(depth) == [0, 0]


async def test_an_orchestrator_tells_how_full_the_queue_is(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    for _ in range(2):
        deployment.send()
    client = await orchestrate()

    async def is_told() -> bool:
        return (await told_by(client))[MESSAGES, "normal", "visible"] == 2

    await until(is_told)
    assert (await told_by(client))[MESSAGES, "normal", "in_flight"] == 0
    for _ in range(30):
        await told_by(client)
    # Whoever looks asks nothing of the queue.
    assert sum(map(OF_ATTRIBUTES, proxy.seen)) < 15


async def test_an_orchestrator_that_may_not_count_goes_on(
    orchestrate: Any, proxy: FaultProxy
) -> None:
    refusal = refuse_operation("AccessDenied")
    proxy.spoil(refusal, method="POST", times=ALWAYS, when=OF_ATTRIBUTES)

    client = await orchestrate()
    await until(lambda: any(map(OF_ATTRIBUTES, proxy.seen)))

    async def is_ready() -> bool:
        return bool((await client.get("/ready")).status == 200)

    await until(is_ready)
    assert math.isnan((await told_by(client))[MESSAGES, "normal", "visible"])
    assert (await client.post(PATH, json={})).status == 202


async def test_a_worker_tells_how_full_the_queue_is(hire: Any, deployment: Deployment) -> None:
    task_id = deployment.send()

    worker = await hire()

    await until(lambda: deployment.item(task_id).get("status") == "completed")
    await until(lambda: not math.isnan(read(worker.engine)[MESSAGES, "normal", "visible"]))
