"""Lists of tasks by the index, on both emulators."""

from __future__ import annotations

import random
import time
from typing import Any

from fault_proxy import FaultProxy
from marks import on_each_emulator
from tasks import LONG_AGO, PATH, Deployment, new_job
from unified_api.jobs.job import Status
from unified_api.jobs.selection import Selection
from unified_api.sqs_bridge.claim import Claim
from unified_api.sqs_bridge.task_index import TaskIndex
from unified_api.sqs_bridge.task_pages import Cursor
from unified_api.sqs_bridge.task_table import TaskTable

pytestmark = on_each_emulator


async def paged(index: TaskIndex, limit: int, **narrowed: Any) -> list[list[str]]:
    """The ids of all pages."""
    pages: list[list[str]] = []
    after: Cursor | None = Cursor()
    while after:
        records, after = await index.page(Selection(**narrowed), limit=limit, after=after)
        pages.append([record.job.job_id for record in records])
    return pages


async def test_pages_are_in_order_within_a_second_and_across_status(
    table: TaskTable, index: TaskIndex
) -> None:
    moments = [LONG_AGO + 0.01 + n / 7 for n in range(20)]
    jobs = [new_job(f"{n:02}", created_at=moment) for n, moment in enumerate(moments)]
    for job in random.sample(jobs, len(jobs)):
        await table.put_new(job)
    for job in jobs[::3]:
        await table.claim(job, owner="gpu-1", lease_seconds=60)
    for job in jobs[::4]:
        await table.request_cancel(job.job_id)

    pages = await paged(index, limit=3)

    assert [job_id for page in pages for job_id in page] == [job.job_id for job in jobs][::-1]
    assert [len(page) for page in pages] == [3] * 6 + [2]


async def test_tasks_of_another_program_in_the_same_second_are_all_listed_once(
    index: TaskIndex, deployment: Deployment
) -> None:
    ids = {f"t{n}" for n in range(15)}
    for task_id in ids:
        deployment.put(task_id=task_id, status="completed", job_type=PATH, created_at=1000)

    pages = await paged(index, limit=4, status=Status.COMPLETED)

    assert sorted(job_id for page in pages for job_id in page) == sorted(ids)


async def test_a_list_is_narrowed(table: TaskTable, index: TaskIndex) -> None:
    mine = new_job(owner="ci")
    other = new_job(owner="other", workflow="edit")
    for job in (mine, other):
        await table.put_new(job)

    async def listed(**narrowed: Any) -> list[str]:
        return [job_id for page in await paged(index, limit=5, **narrowed) for job_id in page]

    assert await listed(owner="ci") == [mine.job_id]
    assert await listed(workflow="edit") == [other.job_id]
    assert await listed(workflow="edit", owner="ci") == []
    assert await listed(workflow="\ud800") == []
    assert await listed(status=Status.FAILED) == []


async def test_few_of_many_are_found(table: TaskTable, index: TaskIndex) -> None:
    for n in range(30):
        await table.put_new(new_job(owner="ci" if n == 3 else None, created_at=LONG_AGO + n))

    assert len((await index.page(Selection(owner="ci"), limit=2)).records) == 1


async def test_a_page_is_read_without_the_rest(
    table: TaskTable, index: TaskIndex, proxy: FaultProxy
) -> None:
    for n in range(30):
        await table.put_new(new_job(created_at=LONG_AGO + n))
    before = proxy.count("POST")

    await index.page(limit=2)

    assert proxy.count("POST") - before <= len(Status) + 2


async def test_an_unreadable_item_hides_no_other(
    table: TaskTable, index: TaskIndex, deployment: Deployment
) -> None:
    job = new_job()
    await table.put_new(job)
    deployment.put(task_id="odd", status="pending", created_at=int(time.time()))

    found = await paged(index, limit=5)

    assert [sorted(page) for page in found] == [sorted(["odd", job.job_id])]


async def test_what_is_not_sent_is_found_by_its_age(table: TaskTable, index: TaskIndex) -> None:
    old, sent, claimed, new = (new_job(created_at=LONG_AGO + t) for t in (0, 1, 2, 1000))
    for job in (old, sent, claimed, new):
        await table.put_new(job)
    await table.mark_sent(sent.job_id)
    await table.claim(claimed, owner="gpu-1", lease_seconds=60)

    assert await index.unsent(first=0, last=LONG_AGO + 500) == [old.job_id]
    assert await index.unsent(first=LONG_AGO + 1, last=LONG_AGO + 500) == []


async def test_an_owner_s_unfinished_tasks_are_counted(table: TaskTable, index: TaskIndex) -> None:
    jobs = [new_job(owner=owner) for owner in ("ci", "ci", "ci", "other")]
    for job in jobs:
        await table.put_new(job)
    assert isinstance(await table.claim(jobs[0], owner="gpu-1", lease_seconds=60), Claim)
    await table.request_cancel(jobs[1].job_id)

    assert await index.count_unfinished("ci") == 2
