"""TaskIndex: lists of tasks, by status and time. The index lags behind the table a little."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from heapq import nlargest
from typing import Any

from ..jobs.job import Status
from .aws import Aws
from .dynamodb import Item, from_wire, spoken
from .message import API_PATH, api_path_of
from .task_item import MICROSECONDS, UNSENT, Record, record_of

log = logging.getLogger(__name__)

INDEX = "status-created_at-index"

OF_STATUS = "#status = :status"
NOT_AFTER = f"{OF_STATUS} AND #created_at <= :last"
BETWEEN = f"{OF_STATUS} AND #created_at BETWEEN :first AND :last"
OF_OWNER = "#owner = :owner"
OF_WORKFLOW = "#job_type = :job_type"
IS_OVERDUE = "#give_up_at <= :now"
IS_UNSENT = "#enqueue = :unsent"

END_OF_TIME = 10**12
UNFINISHED = (Status.PENDING, Status.PROCESSING)


class TaskIndex:
    """Every method may raise AwsFailed."""

    def __init__(self, dynamodb: Aws, table_name: str) -> None:
        self._dynamodb = dynamodb
        self._table_name = table_name

    async def page(
        self,
        *,
        limit: int,
        status: Status | None = None,
        workflow: str | None = None,
        owner: str | None = None,
        after: int | None = None,
    ) -> list[Record]:
        """Newest first, from behind the task whose sequence is `after`."""
        job_type = None if workflow is None else api_path_of(workflow)
        if job_type is not None and not API_PATH.fullmatch(job_type):
            return []
        narrowed = {"job_type": job_type, "owner": owner}
        wanted = [status] if status else list(Status)
        pages = await asyncio.gather(
            *(self._newest(each, limit=limit, after=after, narrowed=narrowed) for each in wanted)
        )
        # A task that moved on meanwhile is found under two statuses.
        found = {record.job.job_id: record for page in pages for record in page}
        return nlargest(limit, found.values(), key=lambda record: record.sequence)

    async def unsent(self, *, first: float, last: float) -> list[str]:
        """The ids of tasks created between these times whose message may not have been sent."""
        values = {"first": int(first), "last": int(last), "unsent": UNSENT}
        return [
            item["task_id"]
            async for items, _ in self._query(Status.PENDING, BETWEEN, IS_UNSENT, values)
            for item in items
        ]

    async def count_unfinished(self, owner: str) -> int:
        """How many tasks of an owner have not ended."""
        values = {"owner": owner, "last": END_OF_TIME}
        return sum(
            [
                len(items)
                for status in UNFINISHED
                async for items, _ in self._query(status, NOT_AFTER, OF_OWNER, values)
            ]
        )

    async def unfinished(self, *, last: float) -> list[str]:
        """The ids of tasks created no later than `last` that have not ended."""
        return [
            item["task_id"]
            for status in UNFINISHED
            async for items, _ in self._query(status, NOT_AFTER, "", {"last": int(last)})
            for item in items
        ]

    async def overdue(self, *, now: float) -> list[str]:
        """The ids of tasks that wait though they were to have begun by now."""
        return [
            item["task_id"]
            async for items, _ in self._query(Status.PENDING, OF_STATUS, IS_OVERDUE, {"now": now})
            for item in items
        ]

    async def count_pending(self, *, most: int) -> int:
        """How many tasks wait. It stops counting at `most` or soon after."""
        asked = self._asked(Status.PENDING, OF_STATUS, "", {})
        count = 0
        async for answer in self._answers({**asked, "Select": "COUNT"}):
            count += int(answer["Count"])
            if count >= most:
                break
        return count

    async def _newest(
        self, status: Status, *, limit: int, after: int | None, narrowed: dict[str, str | None]
    ) -> list[Record]:
        given = {name: value for name, value in narrowed.items() if value is not None}
        conditions = {"job_type": OF_WORKFLOW, "owner": OF_OWNER}
        filter_ = " AND ".join(conditions[name] for name in given)
        last = END_OF_TIME if after is None else after // MICROSECONDS
        found: list[Record] = []
        async for items, second in self._query(
            status, NOT_AFTER, filter_, {**given, "last": last}, at_once=limit
        ):
            found += [r for r in _shown(items) if after is None or r.sequence < after]
            # Within a second the index has an order of its own, so a second is read to its end.
            if sum(record.job.created_at >= second + 1 for record in found) >= limit:
                break
        return found

    async def _query(
        self,
        status: Status,
        key_condition: str,
        filter_: str,
        values: dict[str, Any],
        *,
        at_once: int | None = None,
    ) -> AsyncIterator[tuple[list[Item], int]]:
        """Newest first: some items, and the second that the reading has come to."""
        asked = self._asked(status, key_condition, filter_, values)
        async for answer in self._answers({**asked, **({"Limit": at_once} if at_once else {})}):
            reached = answer.get("LastEvaluatedKey")
            second = int(from_wire(reached)["created_at"]) if reached else 0
            yield [from_wire(item) for item in answer["Items"]], second

    def _asked(
        self, status: Status, key_condition: str, filter_: str, values: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments of a query, newest first."""
        values = {**values, "status": status.value}
        return {
            "TableName": self._table_name,
            "IndexName": INDEX,
            "KeyConditionExpression": key_condition,
            "ScanIndexForward": False,
            **spoken(values, key_condition, filter_),
            **({"FilterExpression": filter_} if filter_ else {}),
        }

    async def _answers(self, asked: dict[str, Any]) -> AsyncIterator[Any]:
        """The answer to a query, part by part."""
        while True:
            answer = await self._dynamodb.call("query", **asked)
            yield answer
            if "LastEvaluatedKey" not in answer:
                return
            asked = {**asked, "ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _shown(items: list[Item]) -> list[Record]:
    """All but those that are deleted."""
    return [record for record in map(record_of, items) if not record.is_deleted]
