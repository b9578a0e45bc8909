"""Writes: conditional writes to the task table, many in one call where many are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from .aws import CANCELLED, CONDITION_FAILED, Aws, AwsFailed
from .dynamodb import Item, from_wire
from .together import Together

Write = dict[str, Any]

#: Few, since whoever else writes one of the items meanwhile is told to try again.
MOST_AT_ONCE = 10
IN_TRANSACTIONS = {"put_item": "Put", "update_item": "Update"}


class Written(NamedTuple):
    """Whether a write counted, and the item that was in its way, or that was asked to return."""

    counted: bool
    item: Item | None = None


class Writes:
    """Writes of one kind: the arguments of the operation, but for the table. Each has a condition.

    Methods raise AwsFailed. A write may then have been made nevertheless.
    """

    def __init__(
        self, dynamodb: Aws, table_name: str, operation: Literal["put_item", "update_item"]
    ) -> None:
        self._dynamodb = dynamodb
        self._table = {"TableName": table_name}
        self._operation = operation
        #: As `alone`, but writes that are made at the same time share calls, and return no item
        #: if they count.
        self.together: Together[Write, Written] = Together(self._write_all, fit=_fit)

    async def alone(self, write: Write) -> Written:
        wanted = {**self._table, **write, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            answer = await self._dynamodb.call(self._operation, **wanted)
        except AwsFailed as failure:
            if failure.reason != CONDITION_FAILED:
                raise
            return Written(False, _item(failure.answer.get("Item")))
        return Written(True, _item(answer.get("Attributes")))

    async def all_or_none(self, writes: Sequence[Write]) -> AwsFailed | None:
        """Make all of them or none. Why none was made: a condition, or somebody else's write."""
        try:
            await self._transact(writes)
        except AwsFailed as failure:
            if failure.reason != CANCELLED:
                raise
            return failure
        return None

    async def _write_all(self, writes: Sequence[Write]) -> Sequence[Written | BaseException]:
        if len(writes) > 1 and await self._count_together(writes):
            return [Written(True)] * len(writes)
        return await asyncio.gather(*map(self.alone, writes), return_exceptions=True)

    async def _count_together(self, writes: Sequence[Write]) -> bool:
        """False if all were refused, perhaps for the sake of one."""
        try:
            await self._transact(writes)
        except AwsFailed as failure:
            if not failure.answer:
                raise
            return False
        return True

    async def _transact(self, writes: Sequence[Write]) -> None:
        kind = IN_TRANSACTIONS[self._operation]
        items = [{kind: {**self._table, **write}} for write in writes]
        await self._dynamodb.call("transact_write_items", TransactItems=items)


def _fit(writes: Sequence[Write]) -> bool:
    """A transaction never has an item twice."""
    ids = {(write.get("Key") or write["Item"])["task_id"]["S"] for write in writes}
    return len(ids) == len(writes) <= MOST_AT_ONCE


def _item(wire: Item | None) -> Item | None:
    return from_wire(wire) if wire else None
