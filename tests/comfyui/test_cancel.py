"""A cancelled job ends, whatever it was at, and nobody else is hit."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from comfy_process import DEFINITIONS, ComfyProcess, wait_until
from conftest import EACH_SHARED
from picture_server import PictureServer

LONG = {"seconds": 60, "steps": 1000}


@pytest.fixture(params=EACH_SHARED)
def comfy(request: pytest.FixtureRequest) -> Iterator[ComfyProcess]:
    """A shared ComfyUI, found to be idle and well again afterwards."""
    process: ComfyProcess = request.getfixturevalue(request.param)
    yield process
    wait_until(lambda: process.prompts_held() == 0)
    assert process.finished(process.submit("probe"))["status"] == "completed"
    assert process.get("/health").json()["components"]["comfyui"]["status"] == "healthy"


def cancel(comfy: ComfyProcess, job_id: str) -> dict[str, Any]:
    response = comfy.post(f"/api/v1/jobs/{job_id}/cancel")
    assert response.status_code == 200, response.text
    return dict(response.json())


def running(comfy: ComfyProcess) -> str:
    job_id = comfy.submit("probe", LONG)
    comfy.wait_for_node(job_id)
    return job_id


def test_a_job_that_fetches_is_cancelled(newest: ComfyProcess, pictures: PictureServer) -> None:
    url = pictures.url(seconds=30)
    job_id = newest.submit("probe", {"tag": "fetches", "image_url": url})
    newest.wait_for_stage(job_id, "fetching_inputs")

    assert cancel(newest, job_id)["status"] == "cancelled"
    assert newest.runs("fetches") == []


def test_a_job_that_waits_behind_another_is_cancelled_and_the_other_is_not(
    comfy: ComfyProcess,
) -> None:
    first = comfy.submit("probe", {"seconds": 2, "steps": 40})
    second = comfy.submit("probe", {"tag": "waits"})
    wait_until(lambda: comfy.prompts_held() == 2)

    assert cancel(comfy, second)["status"] == "cancelled"

    assert comfy.prompts_held() == 1
    assert comfy.finished(first)["status"] == "completed"
    assert comfy.runs("waits") == []


def test_a_job_that_waits_behind_somebody_elses_prompt_is_cancelled_and_that_is_not(
    comfy: ComfyProcess,
) -> None:
    graph = json.loads((DEFINITIONS / "probe" / "graph.json").read_text())
    graph["1"]["inputs"].update(seconds=2, steps=40)
    del graph["1"]["inputs"]["image"]
    theirs = comfy.post("/prompt", json={"prompt": graph}).json()["prompt_id"]
    ours = comfy.submit("probe", {"tag": "theirs"})
    wait_until(lambda: comfy.prompts_held() == 2)

    assert cancel(comfy, ours)["status"] == "cancelled"

    record = wait_until(lambda: comfy.get(f"/history/{theirs}").json().get(theirs))
    assert record["status"]["status_str"] == "success"
    assert comfy.runs("theirs") == []


def test_a_job_that_runs_is_interrupted(comfy: ComfyProcess) -> None:
    job_id = comfy.submit("probe", {**LONG, "tag": "runs"})
    comfy.wait_for_run("runs")

    job = cancel(comfy, job_id)

    assert (job["status"], job["stage"], job["result_url"]) == ("cancelled", None, None)
    assert len(comfy.runs("runs")) == 1
    wait_until(lambda: comfy.prompts_held() == 0, seconds=5)
    wait_until(lambda: not (comfy.base / "output" / "unified_api" / job_id).exists())


def test_a_job_that_cannot_be_interrupted_is_cancelled_and_the_next_one_waits_for_it(
    comfy: ComfyProcess,
) -> None:
    deaf = comfy.submit("no-output", {"seconds": 100})
    comfy.wait_for_node(deaf)

    assert cancel(comfy, deaf)["status"] == "cancelled"
    assert comfy.prompts_held() == 1
    comfy.wake()
    assert comfy.finished(comfy.submit("probe"))["status"] == "completed"


def test_a_second_cancellation_changes_nothing(comfy: ComfyProcess) -> None:
    job_id = running(comfy)

    first = cancel(comfy, job_id)

    assert cancel(comfy, job_id) == first == comfy.job(job_id)


def test_a_completed_job_stays_completed(comfy: ComfyProcess) -> None:
    job = comfy.finished(comfy.submit("probe"))

    assert cancel(comfy, job["job_id"]) == job
    assert comfy.get(job["result_url"].removeprefix(comfy.url)).ok


def reach(comfy: ComfyProcess, moment: str, job_id: str) -> None:
    looks: dict[str, Callable[[], Any]] = {
        "accepted": lambda: True,
        "in ComfyUI": comfy.prompts_held,
        "running": lambda: comfy.job(job_id)["stage"] == "running",
        "executing": lambda: comfy.runs(comfy.job(job_id)["parameters"]["tag"]),
    }
    wait_until(looks[moment], every=0.01)


def test_the_next_job_is_never_hit(comfy: ComfyProcess) -> None:
    moments = ["accepted", "in ComfyUI", "running", "executing"] * 5
    nexts = []
    for number, moment in enumerate(moments):
        unwanted = comfy.submit("probe", {**LONG, "tag": f"unwanted-{number}"})
        nexts.append(comfy.submit("probe"))
        reach(comfy, moment, unwanted)
        assert cancel(comfy, unwanted)["status"] == "cancelled"

    jobs = [comfy.finished(job_id) for job_id in nexts]

    assert {(job["status"], job["attempt"]) for job in jobs} == {("completed", 1)}
