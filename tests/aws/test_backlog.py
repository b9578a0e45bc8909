"""About how many tasks wait, on both emulators."""

from __future__ import annotations

import pytest
from fault_proxy import Exchange, FaultProxy, operation, refuse_operation
from marks import on_each_emulator
from tasks import PATH, Deployment, new_job
from unified_api.sqs_bridge.aws import AwsFailed
from unified_api.sqs_bridge.backlog import Backlog
from unified_api.sqs_bridge.task_index import TaskIndex
from unified_api.sqs_bridge.task_table import TaskTable

pytestmark = on_each_emulator

#: An answer to a query holds no more.
PART_BYTES = 2**20


async def waiting(table: TaskTable, count: int) -> None:
    for _ in range(count):
        await table.put_new(new_job())


async def test_only_what_waits_is_counted(table: TaskTable, index: TaskIndex) -> None:
    await waiting(table, 4)
    claimed = new_job()
    await table.put_new(claimed)
    await table.claim(claimed, owner="gpu-1", lease_seconds=60)

    assert await index.count_pending(most=100) == 4


async def test_no_items_are_brought_to_count_them(
    table: TaskTable, index: TaskIndex, proxy: FaultProxy
) -> None:
    await waiting(table, 2)
    answers = []

    async def listen(exchange: Exchange) -> None:
        answer = await exchange.forward(await exchange.body())
        answers.append(answer)
        await exchange.reply(answer)

    proxy.spoil(listen, method="POST", when=operation("Query"))

    assert await index.count_pending(most=100) == 2
    assert PATH.encode() not in answers[0]


async def test_counting_stops_when_there_are_enough(
    index: TaskIndex, deployment: Deployment, proxy: FaultProxy
) -> None:
    for n in range(10):
        big = "x" * (PART_BYTES // 3)
        deployment.put(task_id=f"{n}", status="pending", job_type=PATH, created_at=n, big=big)

    assert await index.count_pending(most=100) == 10
    parts = sum(map(operation("Query"), proxy.seen))
    assert 1 <= await index.count_pending(most=1) < 10
    assert parts > 1
    assert sum(map(operation("Query"), proxy.seen)) == parts + 1


async def test_what_is_accepted_counts_until_the_next_count(
    table: TaskTable, index: TaskIndex
) -> None:
    backlog = Backlog(index, most=3)
    await waiting(table, 1)
    await backlog.count()
    backlog.add()
    assert not backlog.is_full

    backlog.add()
    assert backlog.is_full

    await backlog.count()
    assert not backlog.is_full


async def test_a_count_that_fails_changes_nothing(
    table: TaskTable, index: TaskIndex, proxy: FaultProxy
) -> None:
    backlog = Backlog(index, most=2)
    await waiting(table, 1)
    await backlog.count()
    backlog.add()
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=operation("Query"))

    with pytest.raises(AwsFailed):
        await backlog.count()

    assert backlog.is_full
