"""What a worker takes, when it takes nothing, how it hears of cancellation, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Exchange, FaultProxy, answer, operation
from tasks import HELD, Deployment, Worker
from unified_api.jobs.health import State
from unified_api.jobs.prompt import Lack
from unified_api.sqs_bridge.listener import MOST_SHORT_TASKS
from unified_api.sqs_bridge.task_table import TaskTable

from ..unit.fake_host import FakeHost, painted, until

ALWAYS = float("inf")
#: In which a worker would have received all that there are.
ENOUGH_SECONDS = 0.5
EDIT = "/api/v1/edit/jobs"


def receives(proxy: FaultProxy) -> int:
    return sum(map(operation("ReceiveMessage"), proxy.seen))


async def holding(hire: Any, deployment: Deployment, **given: Any) -> tuple[Worker, str, str]:
    """A worker, the task that it runs until its gate opens, and the one that it holds ahead."""
    worker = await hire(**given)
    worker.host.gate.clear()
    runs = deployment.send()
    await until(lambda: worker.runs)
    ahead = deployment.send()
    await until(lambda: len(worker.host.queue) == 2)
    return worker, runs, ahead


def status(deployment: Deployment, task_id: str) -> str | None:
    return deployment.item(task_id).get("status")


# What it takes


@pytest.mark.parametrize("prefetch", [0, 1])
async def test_one_is_run_and_as_many_are_held_ahead_as_is_set(
    hire: Any, deployment: Deployment, proxy: FaultProxy, prefetch: int
) -> None:
    worker = await hire(**HELD, SQS_PREFETCH=str(prefetch))
    worker.host.gate.clear()
    task_ids = [deployment.send() for _ in range(4)]

    await until(lambda: deployment.waiting() == (3 - prefetch, 1 + prefetch))
    await until(lambda: sum(map(operation("UpdateItem"), proxy.seen)) > 4)
    assert deployment.waiting() == (3 - prefetch, 1 + prefetch)

    worker.host.gate.set()
    await until(lambda: all(status(deployment, each) == "completed" for each in task_ids))


async def learned(hire: Any, deployment: Deployment, **given: Any) -> Worker:
    """A worker that knows how short the tasks are, and now runs one that takes longer."""
    worker = await hire(**HELD, **given)
    task_id = deployment.send()
    await until(lambda: status(deployment, task_id) == "completed")
    worker.host.gate.clear()
    return worker


async def test_more_of_short_tasks_are_held_ahead(hire: Any, deployment: Deployment) -> None:
    worker = await learned(hire, deployment)

    task_ids = [deployment.send() for _ in range(6)]

    await until(lambda: deployment.waiting() == (6 - MOST_SHORT_TASKS, MOST_SHORT_TASKS))
    worker.host.gate.set()
    await until(lambda: all(status(deployment, each) == "completed" for each in task_ids))


@pytest.mark.parametrize("off", [{"SQS_PREFETCH": "0"}, {"UNIFIED_API_PREFETCH_SECONDS": "0"}])
async def test_no_more_of_short_tasks_are_held_than_is_set(
    hire: Any, deployment: Deployment, off: dict[str, str]
) -> None:
    worker = await learned(hire, deployment, **off)
    most = 1 + int(off.get("SQS_PREFETCH", "1"))

    for _ in range(6):
        deployment.send()

    await until(lambda: deployment.waiting() == (6 - most, most))
    await asyncio.sleep(ENOUGH_SECONDS)
    assert deployment.waiting() == (6 - most, most)
    worker.host.gate.set()


async def test_no_more_are_held_while_one_takes_longer_than_expected(
    hire: Any, deployment: Deployment
) -> None:
    worker = await learned(hire, deployment)
    deployment.send()
    await until(lambda: worker.runs == 2)
    await until(lambda: worker.engine.seconds_of_work is None)

    for _ in range(6):
        deployment.send()

    await until(lambda: deployment.waiting() == (5, 2))
    await asyncio.sleep(ENOUGH_SECONDS)
    assert deployment.waiting() == (5, 2)
    worker.host.gate.set()


async def test_what_is_held_ahead_has_its_pictures_already(
    hire: Any, deployment: Deployment, gallery: Any
) -> None:
    url = gallery.hang("/a.png", painted("red"))
    worker = await hire()
    worker.host.gate.clear()
    deployment.send()
    await until(lambda: worker.runs)

    deployment.send({"image_url": url}, api_path=EDIT)

    await until(lambda: gallery.asked["/a.png"])
    assert worker.runs == 1


async def test_nothing_is_taken_that_could_not_be_run_or_put_anywhere(
    hire: Any, deployment: Deployment, proxy: FaultProxy, tmp_path: Path
) -> None:
    stuck, lacking = FakeHost(tmp_path / "stuck"), FakeHost(tmp_path / "lacking")
    stuck.problem = "ComfyUI has stopped working"
    lacking.lacking = [Lack("1", None, "Everything is missing")]
    for given in (
        {"host": stuck},
        {"host": lacking},
        {"spool_bytes": 0},
        {"min_free_bytes": 2**60},
    ):
        await hire(**given)
    task_id = deployment.send()

    await some_looks()
    assert receives(proxy) == 0
    stuck.problem = None
    await until(lambda: status(deployment, task_id) == "completed")

    assert len(stuck.prompts) == 1


async def some_looks() -> None:
    """As long as a worker needs to see that it could take something."""
    begun = time.monotonic()
    await until(lambda: time.monotonic() > begun + 1.5)


async def test_nothing_is_taken_while_the_bucket_refuses(
    hire: Any, deployment: Deployment, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.spoil(answer(403, "AccessDenied"), method="HEAD", times=ALWAYS)
    host = FakeHost(tmp_path / "output")
    host.problem = "It is starting"
    worker = await hire(host=host)
    await until(lambda: worker.engine.components()["storage"].state is State.UNHEALTHY)
    host.problem = None
    deployment.send()

    await some_looks()

    assert receives(proxy) == 0


# Cancellation


async def test_a_task_is_cancelled_while_it_runs_and_while_it_is_held_ahead(
    hire: Any, deployment: Deployment, table: TaskTable
) -> None:
    worker, runs, ahead = await holding(hire, deployment)

    await table.request_cancel(ahead)
    await until(lambda: status(deployment, ahead) == "cancelled")
    assert status(deployment, runs) == "processing"
    await table.request_cancel(runs)
    await until(lambda: status(deployment, runs) == "cancelled")

    await until(lambda: deployment.is_empty)
    assert (worker.runs, deployment.dead_letters()) == (1, [])


# The end


async def test_a_drain_hands_back_at_once_what_has_not_begun_and_ends_the_rest(
    hire: Any, deployment: Deployment
) -> None:
    worker, runs, ahead = await holding(hire, deployment)

    draining = asyncio.ensure_future(worker.listener.drain())
    await until(lambda: deployment.waiting() == (1, 1))
    assert deployment.item(ahead).get("attempt", 0) == 0
    assert "lease_until" not in deployment.item(ahead)
    assert not draining.done()
    worker.host.gate.set()
    await draining

    assert status(deployment, runs) == "completed"
    assert (worker.runs, deployment.waiting()) == (1, (1, 0))


async def test_a_message_that_comes_during_a_drain_is_handed_back_at_once(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker = await hire()
    await until(lambda: receives(proxy))
    draining = asyncio.ensure_future(worker.listener.drain())

    task_id = deployment.send()
    await draining

    assert deployment.waiting() == (1, 0)
    assert deployment.item(task_id) == {}


async def test_by_force_what_runs_is_handed_back_too(hire: Any, deployment: Deployment) -> None:
    worker, runs, ahead = await holding(hire, deployment)

    await worker.listener.release()

    assert deployment.waiting() == (2, 0)
    heir = await hire()
    await until(lambda: all(status(deployment, each) == "completed" for each in (runs, ahead)))
    assert (worker.runs, heir.runs) == (1, 2)


async def test_a_task_that_was_only_drained_is_no_poison(hire: Any, deployment: Deployment) -> None:
    busy = await hire(**HELD, SQS_PREFETCH="1")
    busy.host.gate.clear()
    deployment.send()
    await until(lambda: busy.runs)
    task_id = deployment.send()
    await until(lambda: len(busy.host.queue) == 2)
    draining = asyncio.ensure_future(busy.listener.drain())
    await until(lambda: deployment.waiting()[0] == 1)
    for _ in range(8):
        deployment.receive_and_release()

    await hire(**HELD)
    await until(lambda: status(deployment, task_id) == "completed")
    busy.host.gate.set()
    await draining

    assert deployment.item(task_id)["attempt"] == 1
    assert deployment.dead_letters() == []


# What is said


async def test_a_fault_of_our_own_is_outlived_and_told(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    proxy.spoil(nonsense, method="POST", when=operation("ReceiveMessage"))
    task_id = deployment.send()

    worker = await hire()
    await until(lambda: worker.listener.component.state is State.DEGRADED)
    assert "began anew 1 times" in worker.listener.component.reason

    await until(lambda: status(deployment, task_id) == "completed")
    await until(lambda: worker.listener.component.state is State.HEALTHY)
    assert "began anew 1 times" in worker.listener.component.reason


async def nonsense(exchange: Exchange) -> None:
    await exchange.body()
    text = json.dumps({"Messages": [{"Body": "{}"}]})
    head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.0\r\n"
    await exchange.reply(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())


async def test_no_secret_is_logged(
    hire: Any, deployment: Deployment, gallery: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # of the picture server
    url = gallery.hang("/a.png", b"gone", status=403)
    task_id = deployment.send({"image_url": f"{url}?X-Amz-Signature=canary"}, api_path=EDIT)
    deployment.send({"image_url": 7, "token": "canary"}, api_path=EDIT)
    deployment.send_text('{"task_id": "canary')
    deployment.send_text('{"task_id": "a", "api_path": "https://a:canary@b/"}')

    await hire()
    await until(lambda: status(deployment, task_id) == "failed")
    await until(lambda: deployment.is_empty)

    assert caplog.records
    assert "canary" not in caplog.text
    assert "canary" not in deployment.item(task_id)["error_message"]
    assert not any("canary" in reason for _, reason in deployment.dead_letters())
