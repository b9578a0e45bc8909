"""kill -9 at each point of a job's life: nothing accepted is lost, nothing is published twice."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests
from comfy_process import ComfyProcess, wait_until
from conftest import NEWEST
from forked import ForkedComfy
from kill_points import BEFORE_THE_COMMIT, POINTS, one_in_every_run
from picture_server import PictureServer


@pytest.fixture(scope="module")
def comfy(
    tmp_path_factory: pytest.TempPathFactory, allowed: dict[str, str]
) -> Iterator[ComfyProcess]:
    """One that is killed and started again by each test; how it is left, the next one finds it."""
    base = tmp_path_factory.mktemp("crashes")
    process = ForkedComfy(NEWEST, base, nodes=("fault_points",), **allowed)
    yield process.start()
    process.kill()


def submit_and_die(comfy: ComfyProcess, point: str, tag: str) -> None:
    comfy.post("/fault_point", data=point)
    with suppress(requests.ConnectionError):
        comfy.post("/api/v1/probe/jobs", json={"tag": tag})
    comfy.exit_status()


@pytest.mark.parametrize("point", one_in_every_run(POINTS))
def test_a_kill_loses_and_doubles_nothing(comfy: ComfyProcess, point: str) -> None:
    where, executions = POINTS[point]
    tag = point.split(maxsplit=1)[0]
    submit_and_die(comfy, where, tag)
    published = {path: path.stat().st_mtime_ns for path in comfy.user_folder.glob("results/*/*")}

    comfy.start()
    (job_id,) = comfy.jobs_tagged(tag)
    job = comfy.finished(job_id)

    assert job["status"] == "completed", job["error"]
    assert comfy.runs(tag) == [f"{tag} {job['parameters']['seed']}"] * executions
    assert job["attempt"] == executions
    assert (comfy.user_folder / "results" / job_id).is_dir()
    assert all(path.stat().st_mtime_ns == when for path, when in published.items())
    assert comfy.get(job["result_url"].removeprefix(comfy.url)).ok
    wait_until(lambda: not (comfy.base / "output" / "unified_api" / job_id).exists())


def test_a_kill_before_the_commit_leaves_nothing(comfy: ComfyProcess) -> None:
    submit_and_die(comfy, BEFORE_THE_COMMIT, "H0")

    comfy.start()

    assert comfy.jobs_tagged("H0") == []


def test_a_job_that_kills_the_process_is_given_up_and_its_neighbour_completes(
    comfy: ComfyProcess,
) -> None:
    poison = comfy.submit("probe", {"tag": "poison", "ending": "abort", "seconds": 3, "steps": 60})
    innocent = comfy.submit("probe", {"tag": "innocent"})

    for _ in range(2):
        comfy.exit_status()
        comfy.start()
    comfy.exit_status()
    comfy.start()

    given_up = comfy.finished(poison)
    assert given_up["status"] == "failed"
    assert given_up["error_detail"]["code"] == "crash_loop"
    assert len(comfy.runs("poison")) == given_up["attempt"] == 3
    assert comfy.finished(innocent)["status"] == "completed"
    assert comfy.get("/health").json()["components"]["comfyui"]["status"] == "healthy"


def test_jobs_of_all_stages_survive_one_kill(comfy: ComfyProcess, pictures: PictureServer) -> None:
    done = comfy.finished(comfy.submit("probe", {"tag": "done"}))
    running = comfy.submit("probe", {"tag": "running", "seconds": 3, "steps": 30})
    fetching = comfy.submit("probe", {"image_url": pictures.url(seconds=3)})
    waiting = [comfy.submit("probe") for _ in range(5)]
    comfy.wait_for_run("running")
    before = {job: comfy.job(job)["parameters"] for job in (running, fetching, *waiting)}

    comfy.kill()
    comfy.start()
    after = {job: comfy.finished(job) for job in before}

    assert comfy.job(done["job_id"]) == done
    assert {job["status"] for job in after.values()} == {"completed"}
    assert {job: after[job]["parameters"] for job in after} == before
    assert after[running]["attempt"] == 2
    assert len(comfy.runs("running")) == 2
