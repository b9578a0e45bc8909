"""Hostile messages and items: every list goes on, on the orchestrator and on the worker."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from tasks import PATH, Deployment
from unified_api.jobs.errors import UnreadableRecord
from yarl import URL

from ..common.hostile import DEEP, OBJECTS, TEXTS, TIMES
from ..unit.fake_host import until

API = "/api/v1"
MESSAGES = [
    {field: value}
    for field in ("request_body", "deadline", "priority", "task_id", "version")
    for value in (*TIMES, *TEXTS, *OBJECTS)
    if value is not None
]
#: At the beginning of all lists, and at their end.
FAR_AWAY: list[dict[str, Any]] = [
    *({"created_at": Decimal(each)} for each in ("9E+125", "1E+20", "1000000000000", "-1")),
    *({"created_at": Decimal(each)} for each in ("-1E+100", "-1E-120", "1E-120")),
]
#: What a table takes of them.
ITEMS: list[dict[str, Any]] = [
    *FAR_AWAY,
    {"created_at": 253_402_300_800},
    {"started_at": 10**30},
    {"finished_at": "soon"},
    {"status": "completed", "outputs": [{"name": 7}]},
    {"status": "completed", "result_s3_uri": "javascript:alert(1)"},
    {"request": json.dumps({"parameters": DEEP})},
    {"request": '{"created_at": 1e999}'},
    {"request": '{"parameters": {"a": "\\ud800"}}'},
    {"request": "[]"},
    {"request": 7},
    {"job_type": ["x"]},
    {"attempt": -1},
    {"fence": "many", "percent": "all"},
    {"status": "processing", "lease_until": "soon"},
    {"status": "processing", "lease_until": Decimal("1E+120")},
    {"request": '{"parameters": {}, "rendered": []}'},
    {"request": '{"parameters": {}, "extension": "../../x"}'},
    {"timings": {"run_ms": 10**30}},
    {"error_detail": "text"},
]


async def all_pages(client: Any) -> list[dict[str, Any]]:
    """Every job of every page of one."""
    jobs: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        reply = await client.get(f"{API}/jobs?limit=1{cursor and f'&after={cursor}'}")
        assert reply.status == 200, await reply.text()
        page = await reply.json()
        jobs += page["data"]
        cursor = page["next_cursor"]
    return jobs


@pytest.fixture
async def client(orchestrate: Any, bucket_name: str) -> Any:
    return await orchestrate(S3_BUCKET=bucket_name)


async def test_every_item_is_listed_read_and_deleted(client: Any, deployment: Deployment) -> None:
    now = int(time.time())
    plain = {"status": "pending", "job_type": PATH, "created_at": now, "owner": "studio"}
    ids = [str(uuid4()) for _ in (*ITEMS, None)]
    for task_id, item in zip(ids, [*ITEMS, {}], strict=True):
        deployment.put(task_id=task_id, **{**plain, **item})

    seen = await all_pages(client)

    assert {job["job_id"] for job in seen} == set(ids)
    assert len(seen) == len(ids)
    for task_id in ids[:-1]:
        reply = await client.get(f"{API}/jobs/{task_id}")
        job = await reply.json()
        assert (reply.status, job["job_id"]) == (200, task_id)
        if (job["error_detail"] or {}).get("code") == UnreadableRecord.code:
            assert (await client.delete(f"{API}/jobs/{task_id}")).status == 204
            assert (await client.get(f"{API}/jobs/{task_id}")).status == 404
    left = await all_pages(client)
    codes = {(job["error_detail"] or {}).get("code") for job in left}
    assert UnreadableRecord.code not in codes
    assert ids[-1] in {job["job_id"] for job in left}


@pytest.mark.parametrize("told", ["1E+100", "-1E+100"])
async def test_many_tasks_of_no_time_are_listed_page_by_page(
    client: Any, deployment: Deployment, told: str
) -> None:
    """With cursors between them, and those of a time behind or before them."""
    odd = [f"odd-{number}" for number in range(60)]
    for task_id in odd:
        deployment.put(task_id=task_id, status="failed", job_type=PATH, created_at=Decimal(told))
    deployment.put(task_id="plain", status="failed", job_type=PATH, created_at=int(time.time()))

    seen = [job["job_id"] for job in await all_pages(client)]

    assert sorted(seen) == sorted([*odd, "plain"])
    assert seen.index("plain") == (60 if told == "1E+100" else 0)


@pytest.mark.parametrize("task_id", ["a/b c", "镜头", "a:b", "%2e", "x" * 1500])
async def test_a_task_of_any_id_is_read_cancelled_and_deleted(
    client: Any, deployment: Deployment, task_id: str
) -> None:
    deployment.accept(task_id)
    (job,) = await all_pages(client)

    assert job["job_id"] == task_id
    path = URL(job["urls"]["self"], encoded=True)
    assert (await (await client.get(path)).json())["job_id"] == task_id
    assert (await client.post(URL(job["urls"]["cancel"], encoded=True))).status == 200
    assert (await client.delete(path)).status == 204
    assert await all_pages(client) == []


@pytest.mark.parametrize("job_id", ["idempotency%2Fa", "%00" * 2049, "x" * 2049])
async def test_what_is_no_task_is_not_looked_for(
    client: Any, deployment: Deployment, job_id: str
) -> None:
    deployment.put(task_id="idempotency/a", job_id="b")

    for ask in (client.get, client.delete):
        reply = await ask(URL(f"{API}/jobs/{job_id}", encoded=True))
        assert (reply.status, (await reply.json())["code"]) == (404, "unknown_job")
    assert deployment.item("idempotency/a")["job_id"] == "b"


async def test_the_message_of_a_task_that_has_ended_is_deleted_whatever_its_item_says(
    hire: Any, deployment: Deployment
) -> None:
    deployment.accept("ended", status="completed", started_at="soon")
    deployment.send({}, "ended")

    worker = await hire()
    await until(lambda: deployment.is_empty)

    assert (worker.runs, deployment.dead_letters()) == (0, [])
    assert deployment.item("ended")["status"] == "completed"


async def test_a_list_is_well_as_soon_as_the_item_is_gone(
    client: Any, deployment: Deployment
) -> None:
    deployment.put(task_id="odd", status="odd", job_type=PATH, created_at=7)
    assert (await client.get(f"{API}/jobs/odd")).status == 200

    key = {"task_id": {"S": "odd"}}
    deployment.emulator.dynamodb.delete_item(TableName=deployment.table, Key=key)

    assert await all_pages(client) == []


async def test_no_message_breaks_a_list(hire: Any, client: Any, deployment: Deployment) -> None:
    worker = await hire()
    for message in MESSAGES:
        body = {"task_id": str(uuid4()), "api_path": PATH, "request_body": {}, **message}
        deployment.send_text(json.dumps(body))
    task_id = deployment.send()

    async def is_done() -> bool:
        return bool(deployment.item(task_id).get("status") == "completed")

    await until(is_done)
    await until(lambda: deployment.is_empty)

    assert task_id in {job["job_id"] for job in await all_pages(client)}
    listed = [job async for job in _every_job(worker.engine)]
    assert all(json.dumps(job.parameters) for job in listed)


async def _every_job(engine: Any) -> Any:
    after, is_first = None, True
    while after is not None or is_first:
        page, is_first = await engine.list(limit=1, after=after), False
        after = page.next_cursor
        for job, _ in page.jobs:
            yield job
