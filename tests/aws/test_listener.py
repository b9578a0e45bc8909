"""Tasks from the queue as the running system sends them, and their fair share of the GPU."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from marks import on_each_emulator
from tasks import PATH, Deployment, Worker
from unified_api.jobs.health import State
from unified_api.sqs_bridge.task_table import TaskTable

from ..unit.fake_host import SlowHost, painted, until


@on_each_emulator
async def test_a_task_of_the_running_system_is_told_as_its_readers_expect(
    hire: Any, deployment: Deployment
) -> None:
    task_id = "1b671a64-40d5-491e-99b0-da01ff1f3341"
    deployment.accept(task_id)
    created_at = deployment.item(task_id)["created_at"]
    body = {"text": "a", "seed": None, "size": None, "bold": None, "output_format": None}
    deployment.send(body, task_id)

    await hire()
    await until(lambda: deployment.item(task_id)["status"] == "completed")

    item, types = deployment.item(task_id), deployment.types(task_id)
    assert item["result_s3_uri"].endswith(f"draw/{task_id}.png")
    assert (item["job_type"], item["created_at"]) == (PATH, created_at)
    assert item["updated_at"] > created_at
    expected = {"status": "S", "job_type": "S", "created_at": "N", "updated_at": "N"}
    expected |= {"result_s3_uri": "S", "comfy_job_id": "S"}
    assert expected.items() <= types.items()
    assert "error_message" not in item
    await until(lambda: deployment.is_empty)


async def test_a_status_only_moves_forward(hire: Any, deployment: Deployment) -> None:
    task_id = "forward"
    deployment.accept(task_id)
    worker = await hire(host=None)
    worker.host.gate.clear()
    seen = [deployment.item(task_id)["status"]]
    deployment.send({}, task_id)

    def moved(status: str) -> bool:
        seen.append(deployment.item(task_id)["status"])
        return seen[-1] == status

    await until(lambda: moved("processing"))
    await until(lambda: moved("processing") and worker.runs)
    worker.host.gate.set()
    await until(lambda: moved("completed"))

    assert list(dict.fromkeys(seen)) == ["pending", "processing", "completed"]
    assert seen == sorted(seen, key=["pending", "processing", "completed"].index)


async def test_a_task_that_nobody_accepted_is_run_too(hire: Any, deployment: Deployment) -> None:
    task_id = deployment.send({"text": "a", "seed": 7})

    await hire()

    await until(lambda: deployment.item(task_id).get("status") == "completed")
    assert deployment.item(task_id)["job_type"] == PATH


async def test_a_picture_in_the_message_is_used_by_every_worker(
    hire: Any, deployment: Deployment
) -> None:
    uri = f"data:image/png;base64,{b64encode(painted('red')).decode()}"
    task_id = deployment.send({"image_url": uri}, api_path="/api/v1/edit/jobs")
    first = await hire(SQS_PREFETCH="0")
    first.host.gate.clear()
    await until(lambda: first.runs)
    await first.crash()

    second = await hire()

    await until(lambda: deployment.item(task_id)["status"] == "completed")
    assert second.runs == 1


@pytest.mark.parametrize("fetch_ahead", [64, 2])
async def test_the_queue_and_the_port_take_turns(
    hire: Any, deployment: Deployment, tmp_path: Path, fetch_ahead: int
) -> None:
    worker = await hire(host=SlowHost(tmp_path / "output"), fetch_ahead=fetch_ahead)
    for n in range(50):
        await worker.engine.submit("draw", {"text": f"http {n}"})
    for n in range(4):
        deployment.send({"text": f"queue {n}"})

    await until(lambda: worker.runs == 54)

    order = [prompt.graph["1"]["inputs"]["text"].split()[0] for prompt in worker.host.prompts]
    assert order[-1] == "http"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"SQS_QUEUE_URL": "https://sqs.example/1/tasks.fifo"}, "FIFO"),
        ({"S3_BUCKET": ""}, "S3_BUCKET"),
    ],
)
async def test_settings_that_cannot_work_are_told_and_nothing_is_taken(
    hire: Any, deployment: Deployment, proxy: Any, given: Any, reason: str
) -> None:
    deployment.send()

    worker: Worker = await hire(**given)

    health = worker.listener.component
    assert (health.state, reason in (health.reason or "")) == (State.UNHEALTHY, True)
    await worker.listener.drain()
    assert not proxy.seen
    assert deployment.waiting() == (1, 0)


async def test_a_cancelled_task_is_not_run(
    hire: Any, deployment: Deployment, table: TaskTable
) -> None:
    deployment.accept("unwanted")
    await table.request_cancel("unwanted")
    deployment.send({}, "unwanted")

    worker = await hire()

    await until(lambda: deployment.is_empty)
    assert (worker.runs, deployment.item("unwanted")["status"]) == (0, "cancelled")
