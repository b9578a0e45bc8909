"""Ids come from two sources, HTTP and queues: what has one id is never taken for the other."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from bucket_objects import keys, stored
from fault_proxy import Exchange, FaultProxy, nothing, operation
from marks import on_each_emulator
from tasks import Deployment, Worker, deploy
from unified_api.jobs.job import Job
from unified_api.jobs.s3.results import S3Results

from ..unit.fake_host import until

REASON = "The task has the id of a job of the worker's own. Send it again with another id."
SPACE = UUID("6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11")
INSERT = "INSERT INTO jobs (job_id, workflow, status, due, document) VALUES (?, ?, ?, ?, ?)"
SPELLINGS = {
    "as it is": str,
    "in capitals": str.upper,
    "without dashes": lambda job_id: job_id.replace("-", ""),
}


async def submitted(worker: Worker, text: str = "mine") -> Job:
    job, _, _ = await worker.engine.submit("draw", {"text": text})
    return job


async def completed(worker: Worker) -> Job:
    job = await submitted(worker)
    done: Job = await worker.home.ended(worker.engine, job)
    assert done.status == "completed"
    return done


async def now(worker: Worker, job: Job) -> Job:
    return (await worker.engine.get(job.job_id))[0]


def change(worker: Worker, sql: str, *values: Any) -> None:
    """Of the file of a worker's job store."""
    with closing(sqlite3.connect(worker.home.store_path, timeout=10, isolation_level=None)) as db:
        db.execute(sql, values)


# A task with the id of a job that was submitted here


@on_each_emulator
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
async def test_a_task_with_the_id_of_a_completed_job_is_refused(
    hire: Any, deployment: Deployment, spell: Any
) -> None:
    worker = await hire()
    mine = await completed(worker)
    task_id = deployment.send({"text": "planted"}, spell(mine.job_id))

    await until(lambda: deployment.is_empty)

    assert [reason for _, reason in deployment.dead_letters()] == [REASON]
    assert await now(worker, mine) == mine
    assert worker.runs == 1
    assert deployment.item(task_id) == {}


async def test_a_task_with_the_id_of_a_job_that_waits_is_refused_and_the_job_runs(
    hire: Any, deployment: Deployment
) -> None:
    worker = await hire()
    worker.host.gate.clear()
    jobs = [await submitted(worker, f"mine {n}") for n in range(6)]
    deployment.send({"text": "planted"}, jobs[0].job_id)
    deployment.send({"text": "planted"}, jobs[-1].job_id)

    await until(lambda: deployment.is_empty)
    worker.host.gate.set()

    for job in jobs:
        done = await worker.home.ended(worker.engine, job)
        assert (done.status, done.parameters["text"]) == ("completed", job.parameters["text"])
    assert len(deployment.dead_letters()) == 2


async def test_whoever_waits_for_a_refused_task_is_told(hire: Any, deployment: Deployment) -> None:
    worker = await hire()
    waits, held, ended = [await completed(worker) for _ in range(3)]
    deployment.accept(waits.job_id)
    lease = {"lease_owner": "gpu-2:x", "lease_until": int(time.time()) + 600}
    deployment.accept(held.job_id, status="processing", **lease)
    deployment.accept(ended.job_id, status="cancelled")
    for job in (waits, held, ended):
        deployment.send({}, job.job_id)

    await until(lambda: deployment.is_empty)

    item = deployment.item(waits.job_id)
    assert (item["status"], item["error_detail"]["code"]) == ("failed", "id_taken")
    assert item["error_message"] == REASON
    assert deployment.item(held.job_id)["status"] == "processing"
    assert deployment.item(ended.job_id)["status"] == "cancelled"
    assert len(deployment.dead_letters()) == 3
    for job in (waits, held, ended):
        assert await now(worker, job) == job


async def test_each_queue_of_a_worker_refuses_such_a_task(
    hire: Any, deployment: Deployment
) -> None:
    high = replace(deploy(deployment.emulator), table=deployment.table)
    worker = await hire(UNIFIED_API_SQS_HIGH_QUEUE_URL=high.queue_url)
    mine = await completed(worker)
    for queue in (deployment, high):
        queue.send({}, mine.job_id)

    await until(lambda: deployment.is_empty and high.is_empty)

    for queue in (deployment, high):
        assert [reason for _, reason in queue.dead_letters()] == [REASON]
    assert await now(worker, mine) == mine


async def test_a_job_that_comes_while_its_task_is_claimed_stays_too(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker, is_stored = await hire(), threading.Event()

    async def wait(exchange: Exchange) -> None:
        await asyncio.to_thread(is_stored.wait)
        await nothing(exchange)

    is_claim = operation("UpdateItem")
    proxy.spoil(wait, method="POST", when=is_claim)
    deployment.send({"text": "planted"}, "mine")
    await until(lambda: any(map(is_claim, proxy.seen)))
    parameters = {"text": "mine", "seed": 1, "size": 8, "bold": False}
    mine = Job(job_id="mine", workflow="draw", parameters=parameters, created_at=1.0)
    change(worker, INSERT, "mine", "draw", "pending", 0.0, mine.model_dump_json())
    is_stored.set()
    await until(lambda: deployment.is_empty)

    done = await worker.home.ended(worker.engine, mine)
    assert (done.status, done.parameters, done.is_shared) == ("completed", parameters, False)
    assert deployment.item("mine")["error_detail"]["code"] == "id_taken"
    assert [reason for _, reason in deployment.dead_letters()] == [REASON]
    assert worker.runs == 1


async def test_a_task_whose_id_cannot_be_looked_up_waits_until_it_can(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker = await hire()
    change(worker, "ALTER TABLE jobs RENAME TO away")
    task_id = deployment.send()
    await until(lambda: any(map(operation("ChangeMessageVisibility"), proxy.seen)))
    assert deployment.item(task_id) == {}

    change(worker, "ALTER TABLE away RENAME TO jobs")

    await until(lambda: deployment.item(task_id).get("status") == "completed")


async def test_tasks_whose_ids_differ_by_capitals_do_not_run_at_once(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    worker = await hire()
    worker.host.gate.clear()
    task_ids = [deployment.send({}, task_id) for task_id in ("order-7", "Order-7")]
    await until(lambda: worker.host.prompts)
    await until(lambda: any(map(operation("ChangeMessageVisibility"), proxy.seen)))

    worker.host.gate.set()
    for task_id in task_ids:
        await until(lambda each=task_id: deployment.item(each).get("status") == "completed")

    assert [company for _, company in worker.host.company] == [(), ()]


# A job with the id of a task


async def test_a_submit_never_takes_the_place_of_a_task(hire: Any, deployment: Deployment) -> None:
    task_id = str(uuid5(SPACE, "ann\nk"))
    deployment.send({"text": "a task"}, task_id)
    worker = await hire()
    await until(lambda: deployment.item(task_id).get("status") == "completed")

    async def ended() -> Any:
        """The table knows the end first."""
        found, _ = await worker.engine.get(task_id)
        return found if found.status.is_final else None

    before = await until(ended)

    job, is_replay, _ = await worker.engine.submit("draw", {}, owner="ann", idempotency_key="k")

    assert (job.job_id != task_id, is_replay) == (True, False)
    assert (await worker.engine.get(task_id))[0] == before


# Results that outlive their jobs


async def test_the_result_of_a_job_is_never_that_of_a_task_of_its_id(
    hire: Any, deployment: Deployment, aws: Any, bucket_name: str
) -> None:
    worker = await hire()
    mine = await completed(worker)
    (key,) = keys(aws, bucket_name)
    content = stored(aws, bucket_name, key)
    # As retention does, which leaves the objects of a bucket to the rules of that.
    change(worker, "DELETE FROM jobs WHERE job_id = ?", mine.job_id)

    deployment.send({"text": "planted"}, mine.job_id)
    await until(lambda: deployment.item(mine.job_id).get("status") == "failed")

    item = deployment.item(mine.job_id)
    assert item["error_detail"]["code"] == "result_taken"
    assert "result_s3_uri" not in item
    assert stored(aws, bucket_name, key) == content


async def test_the_result_of_a_job_of_another_worker_is_not_that_of_a_task(
    hire: Any, deployment: Deployment
) -> None:
    first = await hire(SQS_QUEUE_URL=deploy(deployment.emulator).queue_url)
    mine = await completed(first)
    await hire()

    deployment.send({}, mine.job_id)
    await until(lambda: deployment.item(mine.job_id).get("status") == "failed")

    assert deployment.item(mine.job_id)["error_detail"]["code"] == "result_taken"
    assert await now(first, mine) == mine


async def test_tasks_of_two_tables_with_one_id_have_no_result_in_common(
    hire: Any, deployment: Deployment
) -> None:
    worker = await hire()
    deployment.send({"text": "one"}, "order-7")
    await until(lambda: deployment.item("order-7").get("status") == "completed")
    await worker.crash()
    other = deploy(deployment.emulator)

    await hire(home=worker.home, SQS_QUEUE_URL=other.queue_url, DYNAMODB_TABLE=other.table)
    other.send({"text": "two"}, "order-7")
    await until(lambda: other.item("order-7").get("status") in ("completed", "failed"))

    item = other.item("order-7")
    assert (item["status"], item["error_detail"]["code"]) == ("failed", "result_taken")


async def test_a_task_that_comes_again_after_its_item_has_gone_has_the_result_it_had(
    hire: Any, deployment: Deployment
) -> None:
    await hire()
    task_id = deployment.send({"text": "one"})
    await until(lambda: deployment.item(task_id).get("status") == "completed")
    first = deployment.item(task_id)
    key = {"task_id": {"S": task_id}}
    deployment.emulator.dynamodb.delete_item(TableName=deployment.table, Key=key)

    deployment.send({"text": "one"}, task_id)
    await until(lambda: deployment.item(task_id).get("status") == "completed")

    assert deployment.item(task_id)["outputs"] == first["outputs"]


@on_each_emulator
async def test_a_result_is_found_again_by_its_own_source_alone(
    results: S3Results, rendered_job: Any
) -> None:
    job = rendered_job("teal", "red")
    task = job.shared(table="one", rendered=job.rendered)
    published = await results.publish(task)

    assert await results.find(task) == published
    for other in (job, job.shared(table="two"), job.shared()):
        assert await results.find(other) is None


async def test_what_an_earlier_version_published_is_that_of_a_job_which_was_there_already(
    results: S3Results, rendered_job: Any, aws: Any, bucket_name: str
) -> None:
    job = rendered_job("teal")
    published = await results.publish(job)
    (key,) = keys(aws, bucket_name)
    found = aws.get_object(Bucket=bucket_name, Key=key)
    told = {name: text for name, text in found["Metadata"].items() if name != "source"}
    aws.put_object(Bucket=bucket_name, Key=key, Body=found["Body"].read(), Metadata=told)

    begun = job.model_copy(update={"created_at": time.time() - 60})
    later = job.model_copy(update={"created_at": time.time() + 3600})

    for each in (begun, begun.shared(table="one")):
        assert await results.find(each) == published
    for each in (later, later.shared(table="one")):
        assert await results.find(each) is None
