"""Lists of one owner among many tasks: few queries, with the index by owner or without."""

from __future__ import annotations

import json
import math
import time
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from emulators import Emulator
from fault_proxy import Exchange, Fault, FaultProxy
from marks import on_each_emulator
from tasks import LONG_AGO, PATH, Deployment, make_old_table, new_job
from unified_api.deploy.aws.create import create_table
from unified_api.jobs.job import Job, Status
from unified_api.jobs.selection import Selection
from unified_api.sqs_bridge.aws import Aws, AwsFailed
from unified_api.sqs_bridge.dynamodb import to_wire
from unified_api.sqs_bridge.task_index import OWNER_INDEX, WITHOUT_OWNERS_SECONDS, TaskIndex
from unified_api.sqs_bridge.task_item import new_item
from unified_api.sqs_bridge.task_pages import Cursor

MANY, FEW = 1500, 5
MINE = Selection(owner="ci")
KEYS = f"ci:submit+read:{sha256(b'secret').hexdigest()}"
KEY = {"Authorization": "Bearer secret"}
#: What DynamoDB says of an index that it does not have, is filling, or does not let one use.
REFUSALS = {
    "absent": (
        "ValidationException",
        f"The table does not have the specified index: {OWNER_INDEX}",
    ),
    "being filled": (
        "ValidationException",
        f"Cannot read from backfilling global secondary index: {OWNER_INDEX}",
    ),
    "not allowed": (
        "AccessDeniedException",
        f"User is not authorized to perform: dynamodb:Query on table/t/index/{OWNER_INDEX}",
    ),
}


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(emulator: Emulator, table: str, jobs: list[Job]) -> None:
    """As an orchestrator writes them, but all at once."""
    requests = [{"PutRequest": {"Item": to_wire(new_item(job))}} for job in jobs]
    for start in range(0, len(requests), 25):
        emulator.dynamodb.batch_write_item(RequestItems={table: requests[start : start + 25]})


def jobs_of(
    owner: str | None, count: int, *, since: float = LONG_AGO + 0.01, **given: Any
) -> list[Job]:
    """Seven in a second, each at a moment of its own."""
    moments = [since + n / 7 for n in range(count)]
    return [new_job(owner=owner, created_at=moment, **given) for moment in moments]


def refuse(code: str, message: str) -> Fault:
    """What asks for the index by owner; the rest passes."""

    async def fault(exchange: Exchange) -> None:
        body = await exchange.body()
        if OWNER_INDEX.encode() not in body:
            await exchange.reply(await exchange.forward(body))
            return
        text = json.dumps({"__type": f"com.amazonaws#{code}", "message": message})
        head = "HTTP/1.1 400 Injected\r\nConnection: close\r\n"
        kind = "Content-Type: application/x-amz-json-1.0\r\n"
        await exchange.reply(f"{head}{kind}Content-Length: {len(text)}\r\n\r\n{text}".encode())

    return fault


@pytest.fixture
def asked(proxy: FaultProxy) -> list[dict[str, Any]]:
    """The queries, one after the other."""
    found: list[dict[str, Any]] = []

    async def note(exchange: Exchange) -> None:
        body = await exchange.body()
        if exchange.header("x-amz-target").endswith(".Query"):
            found.append(json.loads(body))
        await exchange.reply(await exchange.forward(body))

    proxy.spoil(note, method="POST", times=math.inf)
    return found


def indexes(asked: list[dict[str, Any]]) -> list[str]:
    return [query["IndexName"] for query in asked]


async def listed(index: TaskIndex, selection: Selection, *, limit: int = 20) -> list[str]:
    """The ids on all pages."""
    found: list[str] = []
    after: Cursor | None = Cursor()
    while after:
        records, after = await index.page(selection, limit=limit, after=after)
        found += [record.job.job_id for record in records]
    return found


@on_each_emulator
@pytest.mark.parametrize(
    "narrowed", [{}, {"workflow": "draw"}, {"status": Status.PENDING}, {"created_after": LONG_AGO}]
)
async def test_few_tasks_of_an_owner_are_found_among_many_by_few_queries(
    emulator: Emulator,
    deployment: Deployment,
    index: TaskIndex,
    asked: list[dict[str, Any]],
    narrowed: dict[str, Any],
) -> None:
    mine = jobs_of("ci", FEW)
    fill(emulator, deployment.table, [*jobs_of("mallory", MANY), *mine])

    found = await listed(index, Selection(owner="ci", **narrowed))

    assert found == [job.job_id for job in reversed(mine)]
    assert indexes(asked) == [OWNER_INDEX]


@on_each_emulator
async def test_a_list_over_http_takes_few_queries(
    emulator: Emulator, deployment: Deployment, orchestrate: Any, asked: list[dict[str, Any]]
) -> None:
    since = time.time() - 600
    jobs = [*jobs_of("mallory", MANY, since=since), *jobs_of("ci", FEW, since=since)]
    fill(emulator, deployment.table, jobs)
    client = await orchestrate(UNIFIED_API_KEYS=KEYS)

    async def read(query: str) -> Any:
        asked.clear()
        page = await (await client.get(f"/api/v1/jobs?{query}", headers=KEY)).json()
        # The second in which a page ends is read to its end.
        assert 1 <= indexes(asked).count(OWNER_INDEX) <= 2
        return page

    whole = await read("")
    page = await read("limit=3")
    last = await read(f"limit=3&after={page['next_cursor']}")

    assert whole["data"] == [*page["data"], *last["data"]]
    assert [len(each["data"]) for each in (whole, page, last)] == [5, 3, 2]
    assert [each["has_more"] for each in (whole, page, last)] == [False, True, False]


@on_each_emulator
@pytest.mark.parametrize(
    "narrowed",
    [{}, {"workflow": "edit"}, {"status": Status.PENDING}, {"created_after": LONG_AGO + 1}],
)
async def test_with_the_index_and_without_lists_are_the_same(
    emulator: Emulator, deployment: Deployment, dynamodb: Aws, narrowed: dict[str, Any]
) -> None:
    old = make_old_table(emulator)
    jobs = [*jobs_of("ci", 9), *jobs_of("ci", 9, since=LONG_AGO + 0.02, workflow="edit")]
    for table in (old, deployment.table):
        fill(emulator, table, [*jobs, *jobs_of("other", 9), *jobs_of(None, 9)])

    found = [
        await listed(TaskIndex(dynamodb, table), Selection(owner="ci", **narrowed), limit=4)
        for table in (old, deployment.table)
    ]

    assert found[0] == found[1]
    assert found[0]


@on_each_emulator
async def test_without_the_index_each_page_takes_a_bounded_number_of_queries(
    emulator: Emulator, dynamodb: Aws, asked: list[dict[str, Any]]
) -> None:
    table = make_old_table(emulator)
    mine = jobs_of("ci", FEW)
    fill(emulator, table, [*jobs_of("mallory", MANY), *mine])
    index = TaskIndex(dynamodb, table, most_queries=6)

    found: list[str] = []
    after: Cursor | None = Cursor()
    while after:
        before = len(asked)
        records, after = await index.page(MINE, limit=2, after=after)
        # One more shows that there is no such index.
        assert len(asked) - before <= 6 + 1
        found += [record.job.job_id for record in records]

    assert found == [job.job_id for job in reversed(mine)]
    assert indexes(asked).count(OWNER_INDEX) == 1


@pytest.mark.parametrize("why", REFUSALS)
async def test_an_index_that_cannot_be_used_is_done_without_and_asked_for_later(
    emulator: Emulator,
    deployment: Deployment,
    dynamodb: Aws,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    mine, clock = jobs_of("ci", FEW), Time()
    fill(emulator, deployment.table, mine)
    index = TaskIndex(dynamodb, deployment.table, clock=clock)
    proxy.spoil(refuse(*REFUSALS[why]), method="POST", times=math.inf)

    assert len(await listed(index, MINE)) == FEW
    assert await index.count_unfinished("ci") == FEW
    assert dynamodb.trouble is None
    assert caplog.text.count("take more queries") == 1
    assert "query failed" not in caplog.text
    proxy.heal()
    before = len(proxy.seen)
    assert len(await listed(index, MINE)) == FEW
    assert len(proxy.seen) - before >= len(Status)
    clock.now += WITHOUT_OWNERS_SECONDS
    before = len(proxy.seen)
    assert len(await listed(index, MINE)) == FEW
    assert len(proxy.seen) - before == 1


async def test_another_failure_of_the_index_is_a_failure(
    deployment: Deployment, index: TaskIndex, proxy: FaultProxy
) -> None:
    refusal = refuse("ResourceNotFoundException", "Requested resource not found: Table")
    proxy.spoil(refusal, method="POST", times=math.inf)

    with pytest.raises(AwsFailed):
        await index.page(MINE, limit=2)


async def test_an_old_table_is_asked_by_owner_when_it_has_got_the_index(
    emulator: Emulator, dynamodb: Aws, asked: list[dict[str, Any]]
) -> None:
    table, clock = make_old_table(emulator), Time()
    mine = jobs_of("ci", FEW)
    fill(emulator, table, mine)
    index = TaskIndex(dynamodb, table, clock=clock)
    before = await listed(index, MINE)

    create_table(emulator.dynamodb, table)
    clock.now += WITHOUT_OWNERS_SECONDS
    asked.clear()

    assert await listed(index, MINE) == before
    assert indexes(asked) == [OWNER_INDEX]


@on_each_emulator
async def test_items_of_others_in_the_same_table_are_in_no_list_of_an_owner(
    emulator: Emulator, deployment: Deployment, index: TaskIndex
) -> None:
    (mine,) = jobs_of("ci", 1)
    fill(emulator, deployment.table, [mine])
    now = int(time.time())
    for number, other in enumerate(
        [
            {"job_type": "video", "status": "queued", "created_at": now},
            {"job_type": "video", "status": "queued", "created_at": now, "owner": "ci"},
            {"job_type": PATH, "status": "completed", "created_at": now},
            {"job_type": PATH, "status": "completed"},
            {"anything": 1},
        ]
    ):
        deployment.put(task_id=f"other-{number}", **other)

    assert await listed(index, MINE) == [mine.job_id]


@on_each_emulator
async def test_a_second_with_more_tasks_than_can_be_read_is_listed_in_the_end(
    emulator: Emulator, deployment: Deployment, dynamodb: Aws
) -> None:
    created = [new_job(f"t{n}", owner="ci", created_at=LONG_AGO + n / 1000) for n in range(80)]
    fill(emulator, deployment.table, created)
    index = TaskIndex(dynamodb, deployment.table, most_queries=5)

    found = await listed(index, Selection(), limit=1)

    assert sorted(found) == sorted(job.job_id for job in created)


@pytest.mark.parametrize(
    ("most_of_others", "mine_ended"), [(MANY, 0), (0, MANY)], ids=["others wait", "mine have ended"]
)
async def test_unfinished_tasks_are_counted_by_the_way_that_is_shorter(
    emulator: Emulator,
    deployment: Deployment,
    index: TaskIndex,
    asked: list[dict[str, Any]],
    most_of_others: int,
    mine_ended: int,
) -> None:
    # So large that they are not read at once.
    large = {"parameters": {"text": "x" * 8000}}
    ended = [job.cancelled(now=1.0) for job in jobs_of("ci", mine_ended, **large)]
    fill(emulator, deployment.table, [*jobs_of("mallory", most_of_others, **large), *ended])
    fill(emulator, deployment.table, jobs_of("ci", FEW))

    assert await index.count_unfinished("ci") == FEW
    # The other way takes a dozen.
    assert len(asked) <= 7


async def test_an_old_cursor_goes_on_where_it_was(
    emulator: Emulator, deployment: Deployment, orchestrate: Any
) -> None:
    jobs = jobs_of("ci", 7)
    fill(emulator, deployment.table, jobs)
    client = await orchestrate(UNIFIED_API_KEYS=KEYS)
    number = int(jobs[3].created_at * 10**6)

    page = await (await client.get(f"/api/v1/jobs?after={number}", headers=KEY)).json()

    assert [job["job_id"] for job in page["data"]] == [job.job_id for job in reversed(jobs[:3])]


@pytest.mark.parametrize(
    "after", ["", "x", "-1", "9" * 19, "1.failed", "1.failed.%21", "1.owner.AA"]
)
async def test_what_is_no_cursor_is_refused(orchestrate: Any, after: str) -> None:
    client = await orchestrate(UNIFIED_API_KEYS=KEYS)

    reply = await client.get(f"/api/v1/jobs?after={after}", headers=KEY)

    assert (reply.status, (await reply.json())["code"]) == (400, "invalid_query")


@on_each_emulator
@pytest.mark.parametrize("stream", ["owner", "pending", "failed", "other"])
async def test_a_cursor_that_was_made_up_harms_nobody(
    emulator: Emulator,
    deployment: Deployment,
    index: TaskIndex,
    asked: list[dict[str, Any]],
    stream: str,
) -> None:
    fill(emulator, deployment.table, [*jobs_of("ci", FEW), *jobs_of("mallory", FEW)])
    made_up = Cursor.parse(f"8000000.{stream}.NyBub2JvZHk")

    for selection in (MINE, Selection(owner="ci", created_after=LONG_AGO), Selection()):
        assert await index.page(selection, limit=5, after=made_up) == ([], None)

    # DynamoDB refuses others, which the emulators do not.
    for query in asked:
        values = query["ExpressionAttributeValues"]
        start = query.get("ExclusiveStartKey", {}).get("created_at", values[":last"])
        bounds = (values[":first"], start, values[":last"])
        moments = [Decimal(each["N"]) for each in bounds]
        assert moments == sorted(moments)
    asked.clear()
    assert len(await listed(index, MINE)) == FEW
    assert indexes(asked) == [OWNER_INDEX]
