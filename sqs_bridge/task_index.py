"""TaskIndex: lists of tasks, by status or owner, and time. Indexes lag behind the table a little.

A table may lack the index by owner, or not have filled it yet. What is asked of an owner is then
read from the index by status, which takes more queries.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

from ..jobs.counted_log import CountedLog
from ..jobs.job import Status
from ..jobs.selection import ALL, Selection
from .aws import Aws, AwsFailed
from .dynamodb import LARGEST, from_wire, spoken, to_wire
from .message import API_PATH, api_path_of
from .task_item import UNSENT
from .task_pages import Cursor, Place, Reading, Stream, TaskPage

log = logging.getLogger(__name__)

INDEX = "status-created_at-index"
OWNER_INDEX = "owner-created_at-index"
#: How a table says that it has no such index, or not yet, or that nobody has allowed its use.
UNUSABLE = {"ValidationException", "ResourceNotFoundException", "AccessDeniedException"}
#: For so long it is not asked again whether it has one.
WITHOUT_OWNERS_SECONDS = 60.0
#: Queries that one page of a list may take.
MOST_QUERIES = 20
#: Where the first query did not suffice, a second has many tasks.
MANY_MORE = 10

OF_STATUS = "#status = :status"
OF_OWNER = "#owner = :owner"
NOT_AFTER = f"{OF_STATUS} AND #created_at <= :last"
BETWEEN = "#created_at BETWEEN :first AND :last"
IS_OVERDUE = "#give_up_at <= :now"
IS_UNSENT = "#enqueue = :unsent"
IS_UNFINISHED = "#status IN (:pending, :processing)"

UNFINISHED = (Status.PENDING, Status.PROCESSING)
COUNT = {"Select": "COUNT"}


class _Part(NamedTuple):
    """What a stream is read from, and what of it is wanted."""

    name: str
    index_name: str
    key: dict[str, str]
    narrowed: dict[str, str]


class NoOwnerIndex(Exception):
    """The table cannot be asked by owner now."""


class TaskIndex:
    """Every method may raise AwsFailed."""

    def __init__(
        self,
        dynamodb: Aws,
        table_name: str,
        *,
        most_queries: int = MOST_QUERIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most_queries` are for one page, at least one for each status."""
        self._dynamodb = dynamodb
        self._table_name = table_name
        self._most_queries = most_queries
        self._clock = clock
        #: Until then the index by owner is not used.
        self._without_owners_until = -math.inf
        self._once = CountedLog(log, seconds=math.inf)

    async def page(
        self, selection: Selection = ALL, *, limit: int, after: Cursor | None = None
    ) -> TaskPage:
        """Newest first, from behind a cursor. A page may be short; the last has no cursor.

        When it was created counts to the second.
        """
        job_type = selection.workflow and api_path_of(selection.workflow)
        if job_type is not None and not API_PATH.fullmatch(job_type):
            return TaskPage([], None)
        with suppress(NoOwnerIndex):
            return await self._read(self._by_owner(selection, job_type, limit), limit, after)
        return await self._read(self._by_status(selection, job_type, limit), limit, after)

    async def unsent(self, *, first: float, last: float) -> list[str]:
        """The ids of tasks created between these times whose message may not have been sent."""
        values = {"first": int(first), "last": int(last), "unsent": UNSENT}
        condition = f"{OF_STATUS} AND {BETWEEN}"
        return await self._ids(Status.PENDING, condition, IS_UNSENT, values)

    async def count_unfinished(self, owner: str) -> int:
        """How many tasks of an owner have not ended."""
        # It may have few tasks among many that wait, or few that wait among many. Who is first
        # with one of the ways need not go the other to its end.
        ways = (self._count_by_owner(owner), self._count_by_status(owner))
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            for first in asyncio.as_completed(tasks):
                with suppress(NoOwnerIndex):
                    return await first
            raise AssertionError("one of the ways does not need the index")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def unfinished(self, *, last: float) -> list[str]:
        """The ids of tasks created no later than `last` that have not ended."""
        values = {"last": int(last)}
        return [
            task_id
            for status in UNFINISHED
            for task_id in await self._ids(status, NOT_AFTER, "", values)
        ]

    async def overdue(self, *, now: float) -> list[str]:
        """The ids of tasks that wait though they were to have begun by now."""
        return await self._ids(Status.PENDING, OF_STATUS, IS_OVERDUE, {"now": now})

    async def count_pending(self, *, most: int) -> int:
        """How many tasks wait. It stops counting at `most` or soon after."""
        asked = self._asked(INDEX, OF_STATUS, "", {"status": Status.PENDING.value})
        count = 0
        async for answer in self._answers({**asked, **COUNT}):
            count += int(answer["Count"])
            if count >= most:
                break
        return count

    async def _read(self, streams: list[Stream], limit: int, after: Cursor | None) -> TaskPage:
        reading = Reading(streams, after or Cursor(), limit=limit)
        return await reading.page(queries=self._most_queries)

    def _by_owner(self, selection: Selection, job_type: str | None, limit: int) -> list[Stream]:
        """Raises NoOwnerIndex."""
        if selection.owner is None:
            raise NoOwnerIndex()
        status = selection.status and selection.status.value
        narrowed = {"status": status, "job_type": job_type}
        part = _Part("owner", OWNER_INDEX, {"owner": selection.owner}, _given(narrowed))
        return [self._stream(part, selection, limit)]

    def _by_status(self, selection: Selection, job_type: str | None, limit: int) -> list[Stream]:
        narrowed = _given({"owner": selection.owner, "job_type": job_type})
        wanted = [selection.status] if selection.status else list(Status)
        parts = [_Part(each.value, INDEX, {"status": each.value}, narrowed) for each in wanted]
        return [self._stream(part, selection, limit) for part in parts]

    def _stream(self, part: _Part, selection: Selection, limit: int) -> Stream:
        condition, filter_ = f"{_are(part.key)} AND {BETWEEN}", _are(part.narrowed)
        values: dict[str, Any] = {**part.key, **part.narrowed}
        after = selection.created_after
        first = -LARGEST if after is None else Decimal(max(0, int(after)))

        async def query(last: Decimal, place: Place | None) -> Any:
            # Between bounds the wrong way round, or from a place beyond them, nobody can be asked.
            bounds = {"first": min(first, last, place.created_at if place else last), "last": last}
            asked = self._asked(part.index_name, condition, filter_, {**values, **bounds})
            start = {"ExclusiveStartKey": to_wire({**part.key, **place._asdict()})} if place else {}
            # What is filtered is read nevertheless, so as much as there may be is read at once.
            many = (limit + 1) * (MANY_MORE if place else 1)
            return await self._query({**asked, **({} if filter_ else {"Limit": many}), **start})

        return Stream(part.name, query)

    async def _count_by_owner(self, owner: str) -> int:
        """Raises NoOwnerIndex."""
        values = {"owner": owner, **{status.value: status.value for status in UNFINISHED}}
        asked = self._asked(OWNER_INDEX, OF_OWNER, IS_UNFINISHED, values)
        return sum([int(each["Count"]) async for each in self._answers({**asked, **COUNT})])

    async def _count_by_status(self, owner: str) -> int:
        values = [{"status": status.value, "owner": owner} for status in UNFINISHED]
        asked = [self._asked(INDEX, OF_STATUS, OF_OWNER, each) for each in values]
        return sum(
            [
                int(answer["Count"])
                for each in asked
                async for answer in self._answers({**each, **COUNT})
            ]
        )

    async def _ids(
        self, status: Status, condition: str, filter_: str, values: dict[str, Any]
    ) -> list[str]:
        asked = self._asked(INDEX, condition, filter_, {**values, "status": status.value})
        answers = [answer async for answer in self._answers(asked)]
        return [from_wire(item)["task_id"] for answer in answers for item in answer["Items"]]

    def _asked(
        self, index: str, condition: str, filter_: str, values: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments of a query, newest first."""
        return {
            "TableName": self._table_name,
            "IndexName": index,
            "KeyConditionExpression": condition,
            "ScanIndexForward": False,
            **spoken(values, condition, filter_),
            **({"FilterExpression": filter_} if filter_ else {}),
        }

    async def _answers(self, asked: dict[str, Any]) -> AsyncIterator[Any]:
        """The answer to a query, part by part."""
        while True:
            answer = await self._query(asked)
            yield answer
            if "LastEvaluatedKey" not in answer:
                return
            asked = {**asked, "ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def _query(self, asked: dict[str, Any]) -> Any:
        """Raises NoOwnerIndex if it is one by owner."""
        if asked["IndexName"] != OWNER_INDEX:
            return await self._dynamodb.call("query", **asked)
        if self._clock() < self._without_owners_until:
            raise NoOwnerIndex()
        try:
            # Nobody depends on it: that it is not there is no trouble.
            return await self._dynamodb.peek("query", **asked)
        except AwsFailed as failure:
            if not _is_of_index(failure):
                raise
            self._do_without_owners(failure)
            raise NoOwnerIndex() from failure

    def _do_without_owners(self, failure: AwsFailed) -> None:
        message = "lists of one owner take more queries: %s: %s"
        self._once.log(logging.WARNING, message, OWNER_INDEX, failure, kind=OWNER_INDEX)
        self._without_owners_until = self._clock() + WITHOUT_OWNERS_SECONDS


def _is_of_index(failure: AwsFailed) -> bool:
    """Whether nothing but the index is the matter."""
    message = str(failure.answer.get("Error", {}).get("Message", ""))
    return failure.reason in UNUSABLE and "index" in message.lower()


def _given(values: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _are(values: dict[str, str]) -> str:
    """'#a = :a AND #b = :b'"""
    return " AND ".join(f"#{name} = :{name}" for name in values)
