"""Messages that cannot be run: each has an outcome, and the next one is served."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy, operation
from marks import on_each_emulator
from tasks import PATH, Deployment
from unified_api.jobs.health import State
from unified_api.jobs.prompt import Lack
from unified_api.workflows import Takes

from ..unit.fake_host import FakeHost, until

UNKNOWN = "/api/v1/unknown/jobs"
#: Only `draw` cannot run then, since `edit` gives this input itself.
LACK = Lack("1", "image", "is missing")


def task(**changes: Any) -> str:
    given = {"task_id": "bad", "api_path": PATH, "request_body": {"text": "a"}, **changes}
    return json.dumps({name: value for name, value in given.items() if value is not ...})


def with_body(text: str) -> str:
    return task(request_body="BODY").replace('"BODY"', text)


BAD = {
    "not JSON": "task",
    "blank": " ",
    "an array": "[]",
    "nothing": "null",
    "a wrong type": task(request_body=[]),
    "a number as id": task(task_id=7),
    "no id": task(task_id=...),
    "no body": task(request_body=...),
    "another host": task(api_path="http://evil.example/api/v1/draw/jobs"),
    "userinfo": task(api_path="//user@evil.example/api/v1/draw/jobs"),
    "a way up": task(api_path="/api/v1/../draw/jobs"),
    "a query": task(api_path=f"{PATH}?x=1"),
    "deep": with_body("[" * 100_000),
    "a long number": with_body('{"seed": ' + "9" * 5000 + "}"),
    "not a number": with_body('{"seed": NaN}'),
    "infinite": with_body('{"seed": 1e999}'),
    "a key twice": with_body('{"seed": 1, "seed": 2}'),
    "half a character": with_body('{"text": "\\ud800"}'),
    "a newer version": task(version=2),
}


@on_each_emulator
async def test_what_is_no_task_goes_to_the_dead_letters_and_the_next_is_served(
    hire: Any, deployment: Deployment
) -> None:
    for text in BAD.values():
        deployment.send_text(text)
    good = deployment.send()

    worker = await hire()
    await until(lambda: deployment.item(good).get("status") == "completed")
    await until(lambda: deployment.is_empty)

    letters = dict(deployment.dead_letters())
    assert letters.keys() == set(BAD.values())
    assert all(reason.startswith("The message ") for reason in letters.values())
    assert letters[BAD["a newer version"]].endswith("has version 2; this worker knows 1.")
    assert (worker.runs, deployment.count()) == (1, 1)
    assert worker.listener.component.state is State.HEALTHY


async def test_an_empty_message_is_no_task_either(hire: Any, deployment: Deployment) -> None:
    deployment.send_text("")

    await hire()

    await until(lambda: deployment.is_empty)
    assert len(deployment.dead_letters()) == 1


@pytest.mark.parametrize("deployment", [None], indirect=True)
async def test_without_dead_letters_bad_messages_are_put_aside_and_that_is_told(
    hire: Any, deployment: Deployment
) -> None:
    deployment.send_text("task")
    good = deployment.send()

    worker = await hire()
    await until(lambda: deployment.item(good).get("status") == "completed")

    await until(lambda: deployment.waiting() == (0, 1))
    health = worker.listener.component
    assert health.state is State.DEGRADED
    assert "dead-letter queue" in health.reason


async def test_whoever_waits_for_a_task_that_cannot_be_read_is_told(
    hire: Any, deployment: Deployment
) -> None:
    deployment.accept("waits")
    deployment.accept("runs", status="processing")
    deployment.accept("ended", status="completed")
    for task_id in ("waits", "runs", "ended", "unheard-of"):
        deployment.send_text(task(task_id=task_id, api_path="/prompt"))

    await hire()
    await until(lambda: deployment.is_empty)

    item = deployment.item("waits")
    assert (item["status"], item["error_detail"]["code"]) == ("failed", "malformed_task")
    assert item["error_message"].startswith("The message is not a task")
    assert deployment.item("runs")["status"] == "processing"
    assert deployment.item("ended")["status"] == "completed"
    assert deployment.item("unheard-of") == {}
    assert len(deployment.dead_letters()) == 4


async def test_a_task_of_a_newer_version_waits_for_a_newer_worker(
    hire: Any, deployment: Deployment
) -> None:
    deployment.accept("newer")
    deployment.send_text(task(task_id="newer", version=2))

    await hire()
    await until(lambda: deployment.is_empty)

    assert len(deployment.dead_letters()) == 1
    assert deployment.item("newer")["status"] == "pending"


@on_each_emulator
async def test_bad_parameters_fail_their_task_at_once(hire: Any, deployment: Deployment) -> None:
    bad = {
        name: deployment.send(body)
        for name, body in {
            "text": {"text": 7},
            "size": {"size": 65},
            "unknown": {"unknown": 1},
            "output_format": {"output_format": "gif"},
        }.items()
    }

    worker = await hire()
    await until(lambda: deployment.is_empty)

    for name, task_id in bad.items():
        item = deployment.item(task_id)
        assert item["error_detail"] == {"code": "invalid_parameters", "retryable": False}
        assert name in item["error_message"]
    assert (worker.runs, deployment.dead_letters()) == (0, [])


async def test_bad_parameters_that_no_table_holds_fail_the_task(
    hire: Any, deployment: Deployment
) -> None:
    task_id = deployment.send({"text": "x" * 500_000})

    await hire()

    await until(lambda: deployment.item(task_id).get("status") == "failed")
    await until(lambda: deployment.is_empty)


async def test_a_picture_that_is_none_fails_the_task(hire: Any, deployment: Deployment) -> None:
    task_id = deployment.send(
        {"image_url": "data:image/png;base64,AAAA"}, api_path="/api/v1/edit/jobs"
    )

    await hire()
    await until(lambda: deployment.item(task_id).get("status") == "failed")

    assert deployment.item(task_id)["error_detail"]["code"] == "input_invalid"


async def test_a_task_whose_deadline_has_passed_is_not_run(
    hire: Any, deployment: Deployment
) -> None:
    late = deployment.send(deadline=time.time() - 1)
    early = deployment.send(deadline=time.time() + 60)

    worker = await hire()
    await until(lambda: deployment.item(early).get("status") == "completed")
    await until(lambda: deployment.is_empty)

    assert deployment.item(late)["error_detail"]["code"] == "deadline_exceeded"
    assert worker.runs == 1


# What another worker may be able to run


@pytest.mark.parametrize("deployment", [3], indirect=True)
@pytest.mark.parametrize("emulator", ["ministack"], indirect=True)
async def test_what_no_worker_knows_is_handed_back_and_fails_when_nobody_else_will_get_it(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    deployment.accept("foreign", job_type=UNKNOWN)
    deployment.send({}, "foreign", api_path=UNKNOWN)
    seen = []

    # Not for so short that it would be held anew.
    worker = await hire(UNIFIED_API_VISIBILITY_SECONDS="30")
    await until(lambda: seen.append(deployment.item("foreign")["status"]) or seen[-1] != "pending")
    await until(lambda: deployment.is_empty)

    item = deployment.item("foreign")
    assert (item["status"], item["error_detail"]["code"]) == ("failed", "no_worker")
    assert "GET /api/v1/workflows" in item["error_message"]
    assert deployment.dead_letters()[0][1] == item["error_message"]
    assert sum(map(operation("ChangeMessageVisibility"), proxy.seen)) == 2
    assert worker.runs == 0


async def test_what_one_worker_lacks_another_runs(
    hire: Any, deployment: Deployment, proxy: FaultProxy, tmp_path: Path
) -> None:
    host = FakeHost(tmp_path / "output")
    host.lacking = [LACK]
    poor = await hire(host=host)
    deployment.accept("shared")
    deployment.send({}, "shared")
    await until(lambda: any(map(operation("ChangeMessageVisibility"), proxy.seen)))
    assert deployment.item("shared")["status"] == "pending"
    await poor.crash()

    rich = await hire()
    await until(lambda: deployment.item("shared")["status"] == "completed")

    assert (poor.runs, rich.runs) == (0, 1)


async def test_what_one_worker_does_not_take_another_runs(
    hire: Any, deployment: Deployment, proxy: FaultProxy, tmp_path: Path
) -> None:
    host = FakeHost(tmp_path / "output")
    host.taking = {"Draw": {"size": Takes("integer", maximum=32)}}
    narrow = await hire(host=host)
    deployment.accept("shared")
    deployment.send({"size": 48}, "shared")
    await until(lambda: any(map(operation("ChangeMessageVisibility"), proxy.seen)))
    assert deployment.item("shared")["status"] == "pending"
    await narrow.crash()

    wide = await hire()
    await until(lambda: deployment.item("shared")["status"] == "completed")

    assert (narrow.runs, wide.runs) == (0, 1)
