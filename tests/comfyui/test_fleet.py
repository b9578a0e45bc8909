"""Several real workers and the orchestrator on one queue, and a worker's own port beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from comfy_process import wait_until
from fleet import CDN, RESULTS, Fleet, Worker

pytestmark = pytest.mark.timeout(400)

#: In the full run, and in the short one.
MANY_TASKS, FEW_TASKS = 60, 12
#: Of all tasks; a message may come again while its task is being claimed.
RUN_TWICE = 0.1
WORKERS = 3
#: Each worker runs one and holds one ahead.
TAKEN = 2 * WORKERS
ENDLESS = {"seconds": 120.0, "steps": 1000}
#: Much less than the endless last.
CANCEL_SECONDS = 40
SHORT = {"seconds": 0.3}
MANY, FEW = 15, 8
#: So many of the many end after the last of the few, if both take turns. (One would be luck.)
LEFT_BEHIND = 3


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=WORKERS) as fleet:
        yield fleet


def held(workers: list[Worker]) -> int:
    return sum(worker.prompts_held() for worker in workers)


def test_each_of_many_tasks_that_are_sent_twice_has_one_result(fleet: Fleet, is_full: bool) -> None:
    fleet.staff(WORKERS)
    number = MANY_TASKS if is_full else FEW_TASKS

    tasks = [fleet.submit_twice(tag="many", seconds=0.1) for _ in range(number)]

    for task_id in tasks:
        job = fleet.finished(task_id, seconds=200)
        key = f"{RESULTS}/{task_id}.png"
        assert job["status"] == "completed", job["error"]
        assert job["result_url"] == f"https://{CDN}/{key}"
        assert fleet.published(task_id) == [key]
    fleet.settle()
    assert number <= len(fleet.runs("many")) <= number * (1 + RUN_TWICE)
    assert len(set(fleet.runs("many"))) == number
    assert all(worker.runs("many") for worker in fleet.workers)
    assert fleet.watch.setbacks == {}
    assert fleet.dead_letters == 0


def test_a_task_that_runs_is_cancelled_wherever_it_runs(fleet: Fleet) -> None:
    workers = fleet.staff(WORKERS)
    task_id = fleet.submit(tag="unwanted", **ENDLESS)
    wait_until(lambda: fleet.runs("unwanted"))

    fleet.orchestrator.cancel(task_id)

    assert fleet.finished(task_id, seconds=CANCEL_SECONDS)["status"] == "cancelled"
    wait_until(lambda: held(workers) == 0, seconds=CANCEL_SECONDS)
    assert fleet.finished(fleet.submit(tag="next"))["status"] == "completed"
    fleet.settle()
    assert fleet.published(task_id) == []
    assert len(fleet.runs("unwanted")) == 1


def test_a_task_that_waits_is_cancelled_and_never_run(fleet: Fleet) -> None:
    workers = fleet.staff(WORKERS)
    before = [fleet.submit(**ENDLESS) for _ in range(TAKEN)]
    wait_until(lambda: all(fleet.watch.status(task_id) == "processing" for task_id in before))
    task_id = fleet.submit(tag="waits")

    assert fleet.orchestrator.cancel(task_id)["status"] == "cancelled"

    for other in before:
        fleet.orchestrator.cancel(other)
    assert {fleet.finished(other)["status"] for other in before} == {"cancelled"}
    fleet.settle()
    wait_until(lambda: held(workers) == 0)
    assert fleet.runs("waits") == []
    assert fleet.watch.setbacks == {}


@contextmanager
def gate(worker: Worker) -> Iterator[None]:
    """Nothing that is submitted in the block ends before the end of the block."""
    job_id = worker.submit("probe", ENDLESS)
    worker.wait_for_node(job_id)
    yield
    worker.post(f"/api/v1/jobs/{job_id}/cancel")


def test_queued_tasks_take_turns_with_a_backlog_at_the_workers_own_port(fleet: Fleet) -> None:
    (worker,) = fleet.staff(1)

    with gate(worker):
        jobs = [worker.submit("probe", SHORT) for _ in range(MANY)]
        tasks = [fleet.submit(**SHORT) for _ in range(FEW)]

    last = max(fleet.finished(task_id)["finished_at"] for task_id in tasks)
    ends = [worker.finished(job_id)["finished_at"] for job_id in jobs]
    assert sum(end > last for end in ends) >= LEFT_BEHIND


def test_jobs_at_the_workers_own_port_take_turns_with_a_backlog_of_tasks(fleet: Fleet) -> None:
    (worker,) = fleet.staff(1)

    with gate(worker):
        tasks = [fleet.submit(**SHORT) for _ in range(MANY)]
        jobs = [worker.submit("probe", SHORT) for _ in range(FEW)]

    last = max(worker.finished(job_id)["finished_at"] for job_id in jobs)
    ends = [fleet.finished(task_id)["finished_at"] for task_id in tasks]
    assert sum(end > last for end in ends) >= LEFT_BEHIND
