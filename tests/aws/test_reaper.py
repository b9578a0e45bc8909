"""Tasks that no worker can run any more end, and no others."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fault_proxy import FaultProxy, lose_answer, operation
from marks import on_each_emulator
from tasks import DAY, LONG_AGO, PATH, Deployment, new_job
from unified_api.jobs.errors import DeadlineExceeded, ExecutionFailed
from unified_api.jobs.job import Job, Status, Webhook
from unified_api.sqs_bridge.claim import Claim, Terminal
from unified_api.sqs_bridge.reaper import Lost, Reaper
from unified_api.sqs_bridge.task_index import TaskIndex
from unified_api.sqs_bridge.task_table import TaskTable

from ..unit.fake_host import until

pytestmark = on_each_emulator

LEASE = 120.0


@pytest.fixture
def ends() -> list[tuple[str, Status]]:
    """What the reaper told of the tasks that it ended."""
    return []


@pytest.fixture
def reaper(table: TaskTable, index: TaskIndex, clock: Any, ends: Any) -> Reaper:
    def ended(*end: Any) -> None:
        ends.append(end)

    return Reaper(table, index, task_seconds=14 * DAY, ended=ended, clock=clock)


async def claimed(table: TaskTable, job: Job) -> Claim:
    claim = await table.claim(job, owner="gpu-1", lease_seconds=LEASE)
    assert isinstance(claim, Claim)
    return claim


async def test_a_task_that_waited_for_too_long_is_lost(
    table: TaskTable, reaper: Reaper, deployment: Deployment, clock: Any
) -> None:
    job = new_job(created_at=clock.now - 14 * DAY - 1)
    await table.put_new(job)

    await reaper.reap()

    record = await table.get(job.job_id)
    assert record is not None
    assert (record.job.status, record.job.error) == (Status.FAILED, str(Lost()))
    assert record.job.error_detail is not None
    assert record.job.error_detail.code == "lost"
    assert (record.job.stage, record.job.finished_at, record.is_sent) == (None, clock.now, True)
    assert deployment.item(job.job_id)["expires_at"] == int(clock.now + 7 * DAY)
    assert isinstance(await table.claim(job, owner="gpu-1", lease_seconds=LEASE), Terminal)


async def test_a_task_whose_worker_died_is_lost_when_it_is_too_old(
    table: TaskTable, reaper: Reaper, deployment: Deployment, clock: Any
) -> None:
    claim = await claimed(table, new_job(created_at=clock.now))
    clock.now += 14 * DAY + 1

    await reaper.reap()

    item = deployment.item(claim.job.job_id)
    assert item["status"] == "failed"
    assert item.keys().isdisjoint({"lease_owner", "lease_until", "stage"})
    ended = claim.job.failed(ExecutionFailed(), now=clock.now)
    assert not await table.finish(claim, ended)


async def test_a_task_that_may_still_be_run_is_left_alone(
    table: TaskTable, reaper: Reaper, deployment: Deployment, clock: Any
) -> None:
    young, old = new_job(created_at=clock.now - 13.9 * DAY), new_job(created_at=LONG_AGO)
    await table.put_new(young)
    await table.put_new(old)
    await claimed(table, old)
    before = [deployment.item(job.job_id) for job in (young, old)]

    await reaper.reap()

    assert [deployment.item(job.job_id) for job in (young, old)] == before


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_an_end_is_not_changed(
    table: TaskTable, reaper: Reaper, deployment: Deployment, status: str
) -> None:
    deployment.put(task_id="t", status=status, job_type=PATH, created_at=1000)
    before = deployment.item("t")

    await reaper.reap()

    # An index that lags may still call it pending.
    assert not await table.abandon("t", Lost())
    assert deployment.item("t") == before


async def test_a_task_that_was_claimed_meanwhile_is_left_to_its_worker(
    table: TaskTable, deployment: Deployment
) -> None:
    claim = await claimed(table, new_job(created_at=LONG_AGO))
    before = deployment.item(claim.job.job_id)

    assert not await table.abandon(claim.job.job_id, Lost())

    assert deployment.item(claim.job.job_id) == before


@pytest.mark.parametrize("status", ["pending", "processing"])
async def test_tasks_of_another_program_end_too(
    table: TaskTable, reaper: Reaper, deployment: Deployment, status: str, ends: Any
) -> None:
    deployment.put(task_id="t", status=status, job_type=PATH, created_at=1000)
    deployment.put(task_id="odd", status=status, created_at=1000)

    await reaper.reap()

    assert {deployment.item(task_id)["status"] for task_id in ("t", "odd")} == {"failed"}
    assert sorted(ends) == [("", Status.FAILED), ("draw", Status.FAILED)]
    assert await table.get("t") is not None


async def test_no_update_makes_a_task(table: TaskTable, deployment: Deployment) -> None:
    assert not await table.abandon("nobody", Lost())

    assert deployment.count() == 0


async def test_an_end_that_was_not_answered_is_an_end(
    table: TaskTable, reaper: Reaper, deployment: Deployment, proxy: FaultProxy
) -> None:
    await table.put_new(new_job("t", created_at=LONG_AGO))
    proxy.spoil(lose_answer, method="POST", when=operation("UpdateItem"))

    await reaper.reap()

    assert deployment.item("t")["status"] == "failed"


async def test_the_orchestrator_looks_for_them(orchestrate: Any, deployment: Deployment) -> None:
    deployment.put(task_id="t", status="pending", job_type=PATH, created_at=1000)

    client = await orchestrate()

    async def ended() -> Any:
        job = await (await client.get("/api/v1/jobs/t")).json()
        return job["status"] == "failed" and job

    assert (await until(ended))["error_detail"]["code"] == "lost"


@pytest.mark.parametrize("is_old", [True, False])
async def test_a_task_that_cannot_be_written_keeps_no_other_from_its_end(
    reaper: Reaper, deployment: Deployment, clock: Any, ends: Any, caplog: Any, is_old: bool
) -> None:
    """An attribute of another type than ours is refused, each time."""
    then = int(LONG_AGO) if is_old else int(clock.now)
    overdue = {} if is_old else {"give_up_at": then - 1}
    for number in range(4):
        spoilt = {"fence": "many"} if number == 2 else {}
        # Each of its own: a refusal is logged once for each task.
        task_id = f"spoilt-{number}-{uuid4()}"
        deployment.accept(task_id, created_at=then + number, **overdue, **spoilt)

    for _ in range(2):
        await (reaper.reap() if is_old else reaper.give_up())

    assert ends == [("draw", Status.FAILED)] * 3
    assert len([line for line in caplog.messages if "cannot be written" in line]) == 1


# Tasks that are to have begun by a time


async def test_a_task_that_was_to_have_begun_is_given_up(
    table: TaskTable, reaper: Reaper, deployment: Deployment, clock: Any, ends: Any
) -> None:
    job = new_job(created_at=clock.now, give_up_at=clock.now + 90.5)
    await table.put_new(job)
    await reaper.give_up()
    assert deployment.item(job.job_id)["status"] == "pending"
    clock.now += 91

    for _ in range(2):
        await reaper.give_up()

    record = await table.get(job.job_id)
    assert record is not None
    # As an engine does with one of its own.
    end = job.failed(DeadlineExceeded(), now=clock.now)
    assert (record.job.status, record.job.error) == (end.status, end.error)
    assert record.job.error_detail == end.error_detail
    assert (record.job.finished_at, record.job.stage, record.is_sent) == (clock.now, None, True)
    assert ends == [("draw", Status.FAILED)]


async def test_no_other_task_is_given_up(
    table: TaskTable, reaper: Reaper, deployment: Deployment, clock: Any
) -> None:
    over = {"created_at": clock.now, "give_up_at": clock.now - 1}
    runs, returned, ended = (new_job(**over) for _ in range(3))
    await claimed(table, runs)
    await table.hand_back(await claimed(table, returned), reason="drained")
    claim = await claimed(table, ended)
    await table.finish(claim, claim.job.cancelled(now=clock.now))
    await table.put_new(early := new_job(created_at=clock.now))
    task_ids = [job.job_id for job in (runs, returned, ended, early)]
    before = list(map(deployment.item, task_ids))

    await reaper.give_up()

    # An index that lags may still say that they wait.
    for task_id in task_ids[:3]:
        assert not await table.give_up(task_id)
    assert list(map(deployment.item, task_ids)) == before


async def test_the_orchestrator_gives_up_what_no_worker_takes(
    orchestrate: Any, table: TaskTable, clock: Any
) -> None:
    await table.put_new(new_job("t", created_at=clock.now - 2, give_up_at=clock.now - 1))

    client = await orchestrate()

    async def ended() -> Any:
        job = await (await client.get("/api/v1/jobs/t")).json()
        return job["status"] == "failed" and job

    assert (await until(ended))["error_detail"]["code"] == "deadline_exceeded"


async def test_the_worker_that_gets_its_message_tells_of_it(
    table: TaskTable, reaper: Reaper, deployment: Deployment, clock: Any, hire: Any
) -> None:
    hook = Webhook(url="http://127.0.0.1:9/")
    job = new_job(created_at=clock.now - 2, give_up_at=clock.now - 1, webhook=hook)
    await table.put_new(job)
    await reaper.give_up()
    deployment.send({}, job.job_id)

    worker = await hire()

    # Nobody may be sent anything there, but each try is noted.
    (telling,) = await until(lambda: worker.engine.deliveries(job.job_id))
    assert telling.event == "job.failed"
    await until(lambda: deployment.is_empty)
    assert worker.runs == 0
