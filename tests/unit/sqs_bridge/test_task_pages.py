"""Pages of tasks, from indexes that are played here: bounded, in order, and every task once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unified_api.jobs.errors import InvalidQuery
from unified_api.jobs.job import Status
from unified_api.sqs_bridge.dynamodb import Item, to_wire
from unified_api.sqs_bridge.task_pages import Cursor, Place, Reading, Stream

FEW = [Status.PENDING, Status.FAILED]
MOMENTS = st.integers(1, 4).map(Decimal) | st.sampled_from([Decimal("2.5"), Decimal("3.000001")])
TABLES = st.lists(st.tuples(st.sampled_from(FEW), MOMENTS), max_size=40)


class Table:
    """Items, and the index of them by status; a query reads no more than some of them."""

    def __init__(self, items: list[tuple[Status, Decimal]], *, at_once: int) -> None:
        self.items = [
            {
                "task_id": f"t{number}",
                "status": status.value,
                "created_at": moment,
                "job_type": "/api/v1/draw/jobs",
            }
            for number, (status, moment) in enumerate(items)
        ]
        self.at_once = at_once
        self.queries = 0
        self.asked: list[Any] = []

    async def query(self, status: str, last: Decimal, place: Place | None) -> Mapping[str, Any]:
        self.queries += 1
        rows = [each for each in self.items if each["status"] == status]
        rows = sorted((each for each in rows if each["created_at"] <= last), key=rank)
        if place:
            start = rank({"created_at": place.created_at, "task_id": place.task_id})
            rows = [each for each in rows if rank(each) > start]
        page, rest = rows[: self.at_once], rows[self.at_once :]
        reached = {"LastEvaluatedKey": to_wire(key_of(page[-1]))} if rest else {}
        return {"Items": [to_wire(each) for each in page], **reached}

    def streams(self) -> list[Stream]:
        def of(status: str) -> Stream:
            return Stream(status, lambda last, place: self.query(status, last, place))

        return [of(status.value) for status in FEW]

    async def pages(self, *, limit: int, queries: int) -> list[list[Item]]:
        pages, after = [], str(Cursor())
        while after:
            assert len(pages) < 200, "it does not end"
            before = self.queries
            reading = Reading(self.streams(), Cursor.parse(after), limit=limit)
            found = await reading.page(queries=queries)
            assert self.queries - before <= queries
            assert len(found.records) <= limit
            pages.append([record.item for record in found.records])
            after = str(found.next) if found.next else ""
        return pages


def rank(item: Item) -> Any:
    # Another order within a moment than that of lists.
    return -item["created_at"], item["task_id"][::-1]


def key_of(item: Item) -> Item:
    return {name: item[name] for name in ("status", "created_at", "task_id")}


@given(TABLES, st.integers(1, 7), st.integers(1, 9), st.integers(2, 5))
@example([(Status.PENDING, Decimal(1))] * 30, 1, 1, 2)
@example([(status, Decimal(1)) for status in FEW * 15], 3, 4, 2)
def test_every_task_is_listed_once_and_seconds_are_in_order(
    items: list[tuple[Status, Decimal]], at_once: int, limit: int, queries: int
) -> None:
    table = Table(items, at_once=at_once)

    pages = asyncio.run(table.pages(limit=limit, queries=queries))

    listed = [item for page in pages for item in page]
    ids = [item["task_id"] for item in listed]
    assert sorted(ids) == sorted(item["task_id"] for item in table.items)
    seconds = [int(item["created_at"]) for item in listed]
    assert seconds == sorted(seconds, reverse=True)


async def test_with_enough_queries_pages_are_full_and_in_the_order_of_their_numbers() -> None:
    items = [(FEW[number % 2], Decimal(f"{number}.5") / 7) for number in range(7, 47)]
    table = Table(items, at_once=1000)

    pages = await table.pages(limit=6, queries=20)

    assert [len(page) for page in pages] == [6] * 6 + [4]
    moments = [item["created_at"] for page in pages for item in page]
    assert moments == sorted(moments, reverse=True)


async def test_a_page_that_would_take_too_many_queries_is_short_and_goes_on() -> None:
    items = [(FEW[number % 2], Decimal(number)) for number in range(100)]
    table = Table(items, at_once=2)

    reading = Reading(table.streams(), Cursor(), limit=50)
    records, after = await reading.page(queries=4)

    assert [int(record.job.created_at) for record in records] == [99, 98, 97, 96, 95, 94]
    assert str(after) == "94000000"


async def test_no_more_is_read_than_the_page_needs() -> None:
    items = [(FEW[number % 2], Decimal(number)) for number in range(100)]
    table = Table(items, at_once=11)

    await Reading(table.streams(), Cursor(), limit=10).page(queries=20)

    assert table.queries == 2


@pytest.mark.parametrize("text", ["0", "1", "1700000000000000", "9" * 18])
def test_a_number_is_a_cursor(text: str) -> None:
    assert str(Cursor.parse(text)) == text


@pytest.mark.parametrize("task_id", ["t1", "任务 1", "a.b/c?d=e&f", "x" * 1024])
def test_a_cursor_within_a_second_is_fit_for_a_query(task_id: str) -> None:
    cursor = Cursor(8_000_000, "failed", Place(Decimal("7.25"), task_id))

    assert Cursor.parse(str(cursor)) == cursor
    assert set(str(cursor)) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "x",
        "9" * 19,
        "8000000.",
        "8000000.failed",
        "8000000.failed.!",
        "8000000.failed.////",
        "8000000.failed.A",
        "8000000.failed._w",
        f"8000000.failed.{Place(Decimal(9), 't1').encode()}",
        f"8000000.failed.{Place(Decimal(7), 't' * 3000).encode()}",
        "١٢",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery):
        Cursor.parse(text)


@given(
    st.text() | st.from_regex(r"[0-9]{1,19}(\.[a-z]{1,9}\.[A-Za-z0-9_=-]{0,40})?", fullmatch=True)
)
def test_no_text_breaks_the_reading_of_cursors(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidQuery:
        return
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    ("moment", "sequence"), [(5.5, 5_500_000), (-3.0, 0), (1e300, 8_000_000), (8.0, 8_000_000)]
)
def test_a_cursor_can_be_moved_back_in_time(moment: float, sequence: int) -> None:
    cursor = Cursor(8_000_000, "failed", Place(Decimal(7), "t1"))

    moved = cursor.not_after(moment)

    assert moved.sequence == sequence
    assert (moved == cursor) == (sequence == 8_000_000)
