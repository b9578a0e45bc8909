"""Two queues: what is of high priority goes its own way, and goes first. Nothing is mixed up."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from emulators import REGION
from fault_proxy import FaultProxy, operation, refuse_operation
from tasks import PATH, Deployment, Worker, deploy
from unified_api.jobs.health import State
from unified_api.sqs_bridge.aws import Aws
from unified_api.sqs_bridge.outbox import Outbox
from unified_api.sqs_bridge.task_index import TaskIndex
from unified_api.sqs_bridge.task_queue import TaskQueues, problem_of
from unified_api.sqs_bridge.task_table import TaskTable

from ..unit.fake_host import SlowHost, until

URL = "https://sqs.example/1/tasks"
HIGH_QUEUE = "UNIFIED_API_SQS_HIGH_QUEUE_URL"
#: A worker with one queue waits there for longer, one with two does not.
LONG_SECONDS, SOON_SECONDS = 6, 12


@pytest.fixture
def high(deployment: Deployment) -> Deployment:
    """The same table, and the queue of high priority with a dead-letter queue of its own."""
    return replace(deploy(deployment.emulator, most_receives=2), table=deployment.table)


@pytest.fixture
def two_queues(high: Deployment) -> dict[str, str]:
    return {HIGH_QUEUE: high.queue_url}


def order(worker: Worker) -> list[str]:
    """What has begun, by its text."""
    return [prompt.graph["1"]["inputs"]["text"] for prompt in worker.host.prompts]


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return [message["task_id"] for message in messages]


async def is_taken_up(worker: Worker, task_id: str) -> bool:
    """Its inputs are here, so that nothing but ComfyUI's places holds it back."""
    jobs = [job for job, _ in (await worker.engine.list(limit=100)).jobs]
    return any(job.job_id == task_id and job.timings.inputs_ms is not None for job in jobs)


# Workers


async def test_a_high_task_overtakes_all_normal_ones_but_what_comfyui_has(
    hire: Any, deployment: Deployment, high: Deployment, two_queues: Any, tmp_path: Path
) -> None:
    worker = await hire(host=SlowHost(tmp_path / "output"), **two_queues)
    worker.host.gate.clear()
    for number in range(5):
        deployment.send({"text": f"normal {number}"})
    await until(lambda: deployment.waiting() == (3, 2) and len(worker.host.queue) == 2)

    high.send({"text": "high"}, priority="high")
    worker.host.gate.set()

    await until(lambda: worker.runs == 6 and deployment.is_empty and high.is_empty)
    assert order(worker).index("high") == 2


async def test_a_high_task_that_is_received_goes_before_what_has_not_begun(
    hire: Any, deployment: Deployment, high: Deployment, two_queues: Any, tmp_path: Path
) -> None:
    host = SlowHost(tmp_path / "output")
    # The emulator is too slow to have so many messages held anew every second.
    worker = await hire(
        host=host, **two_queues, SQS_PREFETCH="10", UNIFIED_API_VISIBILITY_SECONDS="30"
    )
    worker.host.gate.clear()
    for number in range(4):
        await worker.engine.submit("draw", {"text": f"http {number}"})
        deployment.send({"text": f"queue {number}"})
    await until(lambda: deployment.waiting() == (0, 4))

    task_id = high.send({"text": "high"}, priority="high")
    await until(lambda: is_taken_up(worker, task_id))
    worker.host.gate.set()

    await until(lambda: worker.runs == 9)
    assert order(worker).index("high") == 2


async def test_an_idle_worker_soon_sees_a_high_task(
    hire: Any, proxy: FaultProxy, high: Deployment, two_queues: Any
) -> None:
    worker = await hire(**two_queues)
    looks = operation("ReceiveMessage")
    await until(lambda: sum(map(looks, proxy.seen)) == 2)

    sent = time.monotonic()
    high.send({"text": "high"})

    await until(lambda: worker.runs)
    assert time.monotonic() - sent < SOON_SECONDS


async def test_without_a_high_queue_a_worker_waits_at_the_one_queue_as_long_as_it_can(
    hire: Any, proxy: FaultProxy, deployment: Deployment
) -> None:
    await hire()
    looks = operation("ReceiveMessage")
    await until(lambda: any(map(looks, proxy.seen)))

    begun = time.monotonic()
    await until(lambda: sum(map(looks, proxy.seen)) == 2 or time.monotonic() - begun > LONG_SECONDS)

    assert sum(map(looks, proxy.seen)) == 1


async def test_without_a_high_queue_tasks_run_in_the_order_of_the_one_queue(
    hire: Any, deployment: Deployment
) -> None:
    for number in range(3):
        deployment.send({"text": f"{number}"}, priority="high" if number == 2 else "normal")

    worker = await hire()

    await until(lambda: worker.runs == 3)
    assert order(worker)[-1] == "2"


async def test_a_high_message_is_held_and_deleted_in_its_own_queue(
    hire: Any, proxy: FaultProxy, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    task_id = high.send({"text": "high"})
    worker = await hire(**two_queues, UNIFIED_API_VISIBILITY_SECONDS="6")
    worker.host.gate.clear()
    held = operation("ChangeMessageVisibility")
    # One comes in each quarter of that time: at the fifth, what was not held would be free.
    await until(lambda: sum(map(held, proxy.seen)) >= 5)

    assert high.waiting() == (0, 1)
    worker.host.gate.set()

    await until(lambda: high.is_empty)
    assert deployment.item(task_id)["status"] == "completed"
    assert (worker.runs, worker.listener.component.state) == (1, State.HEALTHY)


async def test_a_bad_message_goes_to_the_dead_letters_of_the_queue_it_came_from(
    hire: Any, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    deployment.send_text("bad and normal")
    high.send_text("bad and high")

    await hire(**two_queues)
    await until(lambda: high.is_empty and deployment.is_empty)

    assert [body for body, _ in high.dead_letters()] == ["bad and high"]
    assert [body for body, _ in deployment.dead_letters()] == ["bad and normal"]


async def test_which_receive_is_the_last_is_told_by_the_queue_it_came_from(
    hire: Any, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    unknown = "/api/v1/unknown/jobs"
    last = high.send({}, api_path=unknown)
    early = deployment.send({}, api_path=unknown)

    await hire(**two_queues)
    await until(lambda: deployment.item(last).get("status") == "failed")

    assert deployment.item(last)["error_detail"]["code"] == "no_worker"
    await until(high.dead_letters)
    assert deployment.item(early) == {}


async def test_a_high_queue_that_is_away_stops_no_normal_task_and_is_told(
    hire: Any, deployment: Deployment
) -> None:
    first = deployment.send({"text": "a"})

    worker = await hire(**{HIGH_QUEUE: deployment.queue_url + "-away"})

    await until(lambda: deployment.item(first).get("status") == "completed")
    component = worker.listener.component
    assert component.state is not State.HEALTHY
    assert "high priority" in (component.reason or "")


async def test_a_high_queue_that_comes_back_is_used_again(
    hire: Any, proxy: FaultProxy, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    looks = operation("ReceiveMessage")
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=looks)
    task_id = high.send({"text": "high"})

    worker = await hire(**two_queues)

    await until(lambda: worker.listener.component.state is State.UNHEALTHY)
    await until(lambda: deployment.item(task_id).get("status") == "completed")
    assert worker.listener.component.state is State.HEALTHY


# Settings


@pytest.mark.parametrize(
    ("high_url", "reason"),
    [(f"{URL}-high.fifo", HIGH_QUEUE), (URL, "another queue"), (f"{URL}/", "another queue")],
)
async def test_a_high_queue_that_cannot_work_is_told_and_nothing_is_taken_or_sent(
    hire: Any, orchestrate: Any, high_url: str, reason: str
) -> None:
    settings = {"SQS_QUEUE_URL": URL, HIGH_QUEUE: high_url}

    worker = await hire(**settings)
    client = await orchestrate(**settings)

    health = await (await client.get("/health")).json()
    told = (worker.listener.component.reason, health["components"]["sqs"]["reason"])
    assert all(reason in each for each in told)
    assert worker.listener.component.state is State.UNHEALTHY
    assert (await client.post(PATH, json={})).status == 503


def test_two_standard_queues_are_well() -> None:
    assert problem_of(URL, f"{URL}-high") is problem_of(URL) is None


# Orchestrators


async def test_jobs_are_sent_to_the_queue_of_their_priority(
    orchestrate: Any, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    client = await orchestrate(**two_queues)

    normal = await (await client.post(PATH, json={"text": "a"})).json()
    urgent = await (await client.post(PATH, json={"text": "b", "priority": "high"})).json()

    (sent,), (sent_high,) = deployment.messages(), high.messages()
    assert (sent["task_id"], sent_high["task_id"]) == (normal["job_id"], urgent["job_id"])
    assert ("priority" in sent, sent_high["priority"]) == (False, "high")
    assert sent_high["request_body"] == urgent["parameters"]
    assert deployment.item(urgent["job_id"])["priority"] == "high"
    assert deployment.item(normal["job_id"])["priority"] == "normal"
    read = await (await client.get(urgent["urls"]["self"])).json()
    assert (normal["priority"], urgent["priority"], read["priority"]) == ("normal", "high", "high")


async def test_a_batch_is_divided_between_the_queues(
    orchestrate: Any, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    client = await orchestrate(**two_queues)
    items = [{"text": f"{n}", "priority": "high" if n % 2 else None} for n in range(20)]

    reply = await client.post(f"{PATH}:batch", json={"items": items})

    jobs = [each["job"]["job_id"] for each in (await reply.json())["results"]]
    assert sorted(ids(deployment.messages())) == sorted(jobs[::2])
    assert sorted(ids(high.messages())) == sorted(jobs[1::2])


async def test_without_a_high_queue_all_jobs_are_sent_to_the_one(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()

    jobs = [
        await (await client.post(PATH, json={"priority": priority})).json()
        for priority in ("normal", "high")
    ]

    messages = deployment.messages()
    assert ids(messages) == [job["job_id"] for job in jobs]
    assert [message.get("priority") for message in messages] == [None, "high"]


@pytest.fixture
async def other_replica(
    proxy: FaultProxy, table: TaskTable, index: TaskIndex, deployment: Deployment, high: Deployment
) -> AsyncIterator[Outbox]:
    sqs = Aws("sqs", REGION)
    queues = TaskQueues(sqs, deployment.queue_url, high_sqs=sqs, high_url=high.queue_url)
    yield Outbox(table, index, queues, None, unsent_seconds=0)
    await sqs.close()


async def test_what_was_not_sent_is_sent_again_to_the_queue_of_its_priority(
    orchestrate: Any,
    proxy: FaultProxy,
    deployment: Deployment,
    high: Deployment,
    two_queues: Any,
    other_replica: Outbox,
) -> None:
    client = await orchestrate(**two_queues)
    sends = operation("SendMessage")
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", times=2, when=sends)
    jobs = [
        await (await client.post(PATH, json={"priority": priority})).json()
        for priority in ("normal", "high")
    ]
    assert deployment.messages() == high.messages() == []

    await other_replica.sweep()

    assert ids(deployment.messages()) == [jobs[0]["job_id"]]
    assert ids(high.messages()) == [jobs[1]["job_id"]]


async def test_trouble_of_the_high_queue_stays_told_while_normal_jobs_are_sent(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate(**{HIGH_QUEUE: deployment.queue_url + "-away"})

    for priority in ("high", "normal"):
        assert (await client.post(PATH, json={"priority": priority})).status == 202

    told = (await (await client.get("/health")).json())["components"]["sqs"]
    assert "high priority" in told["reason"]
    assert (await client.get("/ready")).status == 200
    assert len(deployment.messages()) == 1


async def test_the_messages_of_both_queues_are_counted(
    orchestrate: Any, deployment: Deployment, high: Deployment, two_queues: Any
) -> None:
    for number in range(3):
        high.send_text(f"{number}")
    client = await orchestrate(**two_queues)

    async def told() -> bool:
        text = await (await client.get("/metrics")).text()
        lines = [
            f'unified_api_queue_messages{{queue="{queue}",state="visible"}} {count}'
            for queue, count in {"normal": 0.0, "high": 3.0}.items()
        ]
        return all(line in text for line in lines)

    assert await until(told)


# What others write


async def test_what_the_table_says_of_a_task_counts(
    hire: Any, orchestrate: Any, deployment: Deployment
) -> None:
    deployment.accept("theirs", priority=5)
    deployment.send_text(
        json.dumps({"task_id": "theirs", "api_path": PATH, "request_body": {}, "priority": 5})
    )

    await hire()
    await until(lambda: deployment.item("theirs")["status"] == "completed")

    client = await orchestrate()
    job = await (await client.get("/api/v1/jobs/theirs")).json()
    assert (job["priority"], deployment.item("theirs")["priority"]) == ("normal", 5)
