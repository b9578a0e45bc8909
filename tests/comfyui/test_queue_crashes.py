"""kill -9 of those who work on queued tasks: nothing is lost, nothing is published twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfy_process import wait_until
from fleet import CDN, RESULTS, Fleet
from kill_points import ORCHESTRATOR_POINTS, QUEUE_POINTS, one_in_every_run
from queue_kills import kill_orchestrator, kill_worker, raise_zombie

pytestmark = pytest.mark.timeout(300)

AGAIN = "S4 rendered, not uploaded"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Killed and started again by each test; how it is left, the next one finds it."""
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=2) as fleet:
        yield fleet


def check_one_result(fleet: Fleet, task_id: str, *, tag: str, executions: int) -> None:
    job = fleet.finished(task_id)
    fleet.settle()

    assert job["status"] == "completed", job["error"]
    assert fleet.runs(tag) == [f"{tag} {job['parameters']['seed']}"] * executions
    assert job["attempt"] == executions
    assert fleet.published(task_id) == [f"{RESULTS}/{task_id}.png"]
    assert job["result_url"] == f"https://{CDN}/{RESULTS}/{task_id}.png"
    assert fleet.watch.setbacks == {}
    assert fleet.dead_letters == 0


@pytest.mark.parametrize("point", one_in_every_run(QUEUE_POINTS))
def test_another_worker_takes_up_what_a_killed_one_left(fleet: Fleet, point: str) -> None:
    where, executions, _ = QUEUE_POINTS[point]

    task_id = kill_worker(fleet, where, tag=point[:2], elsewhere=True)

    check_one_result(fleet, task_id, tag=point[:2], executions=executions)


@pytest.mark.full
def test_what_a_killed_worker_had_rendered_it_publishes_when_it_is_back(fleet: Fleet) -> None:
    where, _, executions = QUEUE_POINTS[AGAIN]

    task_id = kill_worker(fleet, where, tag="again", elsewhere=False)

    check_one_result(fleet, task_id, tag="again", executions=executions)
    left = [worker.base / "output" / "unified_api" / task_id for worker in fleet.workers]
    wait_until(lambda: not any(folder.exists() for folder in left))


def test_a_worker_that_wakes_up_when_another_runs_its_task_changes_nothing(fleet: Fleet) -> None:
    task_id = raise_zombie(fleet, tag="Z")

    check_one_result(fleet, task_id, tag="Z", executions=2)
    assert fleet.fence(task_id) == 2


@pytest.mark.parametrize("point", one_in_every_run(ORCHESTRATOR_POINTS))
def test_what_a_killed_orchestrator_accepted_is_run_once(fleet: Fleet, point: str) -> None:
    task_id = kill_orchestrator(fleet, ORCHESTRATOR_POINTS[point], tag=point[:2])

    check_one_result(fleet, task_id, tag=point[:2], executions=1)
