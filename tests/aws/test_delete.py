"""Tasks that are deleted: what goes, what stays so that nothing runs them, and who is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from bucket_objects import keys
from fault_proxy import FaultProxy, answer, lose_answer, operation, refuse_operation
from marks import on_each_emulator
from tasks import DAY, LONG_AGO, PATH, Deployment, new_job
from unified_api.jobs.errors import UnknownJob
from unified_api.jobs.job import Job
from unified_api.jobs.offer import Offer
from unified_api.jobs.s3.results import S3Results
from unified_api.jobs.settings import Settings
from unified_api.routes.listener import application
from unified_api.routes.service import Surface
from unified_api.sqs_bridge.bridge import Bridge
from unified_api.sqs_bridge.claim import Claim, Terminal
from unified_api.sqs_bridge.dispatcher import Dispatcher
from unified_api.sqs_bridge.task_table import TaskTable
from unified_api.workflows import Catalog

from ..unit.fake_host import painted, until

API = "/api/v1"
ALWAYS = float("inf")
#: All that may stay of a task.
REMAINS = {
    *("task_id", "status", "job_type", "created_at", "updated_at", "expires_at"),
    *("fence", "deleted", "nonce"),
}

Complete = Callable[..., Awaitable[str]]


@pytest.fixture
def complete(table: TaskTable, results: S3Results, rendered_job: Callable[..., Job]) -> Complete:
    """A task that a worker has completed, with so many pictures in the bucket; its id."""

    async def run(pictures: int = 1, **given: Any) -> str:
        job = new_job(**{"parameters": {"text": "a secret"}, **given})
        claim = await table.claim(job, owner="gpu-1", lease_seconds=60)
        assert isinstance(claim, Claim)
        colors = [f"#0000{number:02x}" for number in range(pictures)]
        files = rendered_job(*colors).rendered
        running = claim.job.running(now=time.time()).publishing(files, run_ms=1)
        outputs = await results.publish(running)
        done = running.completed(outputs, now=time.time(), publish_ms=1)
        assert await table.finish(claim, done, result_url="https://cdn.example/a.png")
        return job.job_id

    return run


@pytest.fixture
async def client(orchestrate: Any, bucket_name: str) -> Any:
    return await orchestrate(S3_BUCKET=bucket_name)


async def delete(client: Any, job_id: str) -> tuple[int, str | None]:
    """The status, and the code of a refusal."""
    reply = await client.delete(f"{API}/jobs/{job_id}")
    return reply.status, None if reply.status == 204 else (await reply.json())["code"]


async def read(client: Any, path: str) -> tuple[int, Any]:
    reply = await client.get(f"{API}{path}")
    return reply.status, await reply.json()


GONE = (404, "unknown_job")


# What goes


@on_each_emulator
async def test_a_deleted_job_is_known_to_nobody(client: Any, complete: Complete) -> None:
    job_id, other = await complete(), await complete()

    assert await delete(client, job_id) == (204, None)

    for path in (f"/jobs/{job_id}", f"/draw/jobs/{job_id}", f"/jobs/{job_id}/events"):
        assert (await read(client, path))[0] == 404
    assert (await client.post(f"{API}/jobs/{job_id}/cancel")).status == 404
    for query in ("", "?status=completed", "?workflow=draw"):
        _, page = await read(client, f"/jobs{query}")
        assert [job["job_id"] for job in page["data"]] == [other]
    assert await delete(client, job_id) == GONE


@pytest.mark.parametrize("pictures", [1, 3, 20])
async def test_its_objects_go_and_no_others(
    client: Any, complete: Complete, aws: Any, bucket_name: str, pictures: int
) -> None:
    upload = {"image_url": BytesIO(painted("red"))}
    assert (await client.post(f"{API}/edit/jobs", data=upload)).status == 202
    await complete(pictures)
    others = keys(aws, bucket_name)
    assert len(others) > pictures
    job_id = await complete(pictures)
    assert len(keys(aws, bucket_name)) > len(others)

    assert await delete(client, job_id) == (204, None)

    assert keys(aws, bucket_name) == others


async def test_no_more_stays_than_that_it_has_ended(
    client: Any, complete: Complete, deployment: Deployment
) -> None:
    job_id = await complete(metadata={"who": "secret"}, owner="secret")
    before = deployment.item(job_id)

    await delete(client, job_id)

    item = deployment.item(job_id)
    assert item.keys() == REMAINS
    assert "secret" not in str(item)
    # What the programs that share the table look at is as it was.
    for name in ("task_id", "status", "job_type", "created_at"):
        assert item[name] == before[name]
    assert item["status"] == "completed"
    assert item["expires_at"] >= time.time() + 14 * DAY - 60


async def test_pages_are_full_although_many_are_deleted(client: Any, complete: Complete) -> None:
    job_ids = [await complete(created_at=LONG_AGO + n) for n in range(8)]
    for job_id in job_ids[2:7]:
        await delete(client, job_id)

    _, page = await read(client, "/jobs?limit=2")
    _, rest = await read(client, f"/jobs?limit=2&after={page['next_cursor']}")

    assert [job["job_id"] for job in page["data"]] == [job_ids[7], job_ids[1]]
    assert [job["job_id"] for job in rest["data"]] == [job_ids[0]]
    assert not rest["has_more"]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_task_of_another_program_is_deleted_and_nothing_else(
    client: Any, deployment: Deployment, aws: Any, bucket_name: str, status: str
) -> None:
    aws.put_object(Bucket=bucket_name, Key="shared/logo.png", Body=b"")
    link = f"s3://{bucket_name}/shared/logo.png"
    deployment.accept("t", status=status, result_s3_uri=link, theirs="secret")

    assert await delete(client, "t") == (204, None)

    assert "secret" not in str(deployment.item("t"))
    assert deployment.item("t")["status"] == status
    assert keys(aws, bucket_name) == ["shared/logo.png"]


# What is not deleted


async def test_a_job_that_has_not_ended_stays(
    client: Any, table: TaskTable, deployment: Deployment
) -> None:
    waits, runs = new_job(), new_job()
    await table.put_new(waits)
    await table.claim(runs, owner="gpu-1", lease_seconds=60)
    before = [deployment.item(job.job_id) for job in (waits, runs)]

    for job in (waits, runs):
        assert await delete(client, job.job_id) == (409, "job_not_finished")
        record = await table.get(job.job_id)
        assert record is not None
        assert not await table.remove(record)

    assert [deployment.item(job.job_id) for job in (waits, runs)] == before


@pytest.mark.parametrize("job_id", ["nobody", "%00", "a" * 200])
async def test_a_job_that_nobody_knows_cannot_be_deleted(
    client: Any, deployment: Deployment, job_id: str
) -> None:
    assert await delete(client, job_id) == GONE
    assert deployment.count() == 0


async def test_a_job_whose_objects_cannot_be_deleted_stays(
    client: Any, complete: Complete, proxy: FaultProxy
) -> None:
    job_id = await complete()
    await until(lambda: is_ready(client))
    proxy.spoil(answer(403, "AccessDenied"), method="DELETE", times=ALWAYS)

    assert await delete(client, job_id) == (503, "storage_unavailable")

    assert (await read(client, f"/jobs/{job_id}"))[0] == 200
    # That one thing is not allowed does not make the rest unwell.
    _, health = await read(client, "/health")
    assert health["components"]["storage"]["status"] == "healthy"
    proxy.heal()
    assert await delete(client, job_id) == (204, None)


async def is_ready(client: Any) -> bool:
    return bool((await client.get("/ready")).status == 200)


async def test_a_deletion_that_broke_off_between_objects_and_task_is_done_again(
    client: Any, complete: Complete, proxy: FaultProxy, aws: Any, bucket_name: str
) -> None:
    job_id = await complete(3)
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=operation("PutItem"))

    assert await delete(client, job_id) == (503, "storage_unavailable")
    assert keys(aws, bucket_name) == []
    assert (await read(client, f"/jobs/{job_id}"))[0] == 200

    assert await delete(client, job_id) == (204, None)


async def test_a_deletion_that_was_not_answered_is_one(
    client: Any, complete: Complete, proxy: FaultProxy
) -> None:
    job_id = await complete()
    proxy.spoil(lose_answer, method="POST", when=operation("PutItem"))

    assert await delete(client, job_id) == (204, None)


async def test_of_many_who_delete_a_job_one_does(client: Any, complete: Complete) -> None:
    job_id = await complete()

    told = await asyncio.gather(*(delete(client, job_id) for _ in range(5)))

    assert sorted(told, key=str) == [(204, None)] + [GONE] * 4


async def test_without_a_bucket_only_jobs_without_results_are_deleted(
    orchestrate: Any, complete: Complete, table: TaskTable, aws: Any, bucket_name: str
) -> None:
    client = await orchestrate()
    job_id, unwanted = await complete(), new_job()
    await table.put_new(unwanted)
    await table.request_cancel(unwanted.job_id)

    assert await delete(client, job_id) == (503, "storage_unavailable")
    assert await delete(client, unwanted.job_id) == (204, None)

    assert len(keys(aws, bucket_name)) == 1


# What comes late


async def test_a_late_message_of_a_deleted_task_runs_nothing_and_tells_nobody(
    client: Any, complete: Complete, deployment: Deployment, hire: Any
) -> None:
    deleted, kept = await complete(), await complete()
    await delete(client, deleted)
    before = deployment.item(deleted)
    for task_id in (deleted, deleted, kept):
        deployment.send({}, task_id)

    # Nobody may be sent anything there, but each try is noted.
    worker = await hire(webhook_url="http://127.0.0.1:9/", SQS_PREFETCH="0")
    await until(lambda: worker.engine.deliveries(kept))
    await until(lambda: deployment.is_empty)

    assert worker.runs == 0
    assert await worker.engine.deliveries(deleted) == []
    assert deployment.item(deleted) == before
    assert deployment.dead_letters() == []


async def test_what_a_worker_of_a_deleted_task_has_to_say_is_not_heard(
    client: Any, table: TaskTable, deployment: Deployment, clock: Any
) -> None:
    job = new_job()
    late = await table.claim(job, owner="gpu-1", lease_seconds=1)
    clock.now += 2
    claim = await table.claim(job, owner="gpu-2", lease_seconds=1)
    assert isinstance(late, Claim)
    assert isinstance(claim, Claim)
    await table.finish(claim, claim.job.cancelled(now=clock.now))
    await delete(client, job.job_id)
    before = deployment.item(job.job_id)

    assert not await table.finish(late, late.job.cancelled(now=clock.now))
    assert not await table.hand_back(late, reason="late")
    assert isinstance(await table.claim(job, owner="gpu-3", lease_seconds=60), Terminal)

    assert deployment.item(job.job_id) == before


async def test_a_job_that_is_deleted_meanwhile_is_not_there_to_be_cancelled(
    client: Any, complete: Complete, environment: dict[str, str], definitions: Path
) -> None:
    job_id = await complete()
    settings = Settings.from_env(environment)
    replica = Dispatcher(Bridge.of(settings), Offer(Catalog([definitions])), settings)
    await delete(client, job_id)

    with pytest.raises(UnknownJob):
        await replica.cancel(job_id)

    await replica.stop()


async def test_the_idempotency_key_of_a_deleted_job_makes_no_second_one(
    client: Any, deployment: Deployment
) -> None:
    key = {"Idempotency-Key": "k"}
    job = await (await client.post(PATH, json={}, headers=key)).json()
    await client.post(f"{API}/jobs/{job['job_id']}/cancel")
    await delete(client, job["job_id"])

    reply = await client.post(PATH, json={}, headers=key)

    problem = await reply.json()
    assert (reply.status, problem["code"]) == (422, "idempotency_key_reused")
    assert "deleted" in problem["detail"]
    assert len(deployment.messages()) == 1


async def test_a_task_is_deleted_where_it_is_kept(
    client: Any, deployment: Deployment, hire: Any, aiohttp_client: Any
) -> None:
    task_id = deployment.send()
    worker = await hire()
    await until(lambda: deployment.item(task_id).get("status") == "completed")
    its_own = await aiohttp_client(application(worker.engine, Surface("1")))

    reply = await its_own.delete(f"{API}/jobs/{task_id}")

    told = json.loads(await reply.text())
    assert (reply.status, told["code"]) == (409, "kept_in_table")
    assert "orchestrator" in told["detail"]
    assert await delete(client, task_id) == (204, None)
