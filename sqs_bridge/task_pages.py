"""Pages of tasks, newest first, each read with a bounded number of queries.

A page is put together from streams: one of an owner's tasks, or one for each status. Where that
takes too many queries, the page ends with what is certain by then, and its cursor goes on from
there; such a page may be short, or empty.

The order is that of sequence numbers. Within a second an index has an order of its own, so a
second counts once it was read to its end. Of a second for which all the queries do not suffice,
the streams are shown one after the other, each in the order of the index.
"""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from heapq import nlargest
from typing import Any, NamedTuple

from ..jobs.errors import InvalidQuery
from ..jobs.job import Status
from ..jobs.selection import WRONG_CURSOR
from .dynamodb import LARGEST, Item, from_wire
from .task_item import END_OF_TIME, MICROSECONDS, Record, listed_second, record_of

STATUSES = frozenset(status.value for status in Status)
#: The last moment of a second, for those who tell fractions.
ALMOST_A_SECOND = Decimal("0.999999999")
#: '1700000000000000', and within a second '1700000001000000.failed.MTcwMDAwMDAwMCB0MQ'.
CURSOR = re.compile(
    r"(?P<sequence>[0-9]{1,18})(?:\.(?P<stream>[a-z]+)\.(?P<place>[A-Za-z0-9_-]{0,3200}))?"
)
#: A number of DynamoDB, and an id.
PLACE = re.compile(
    r"(?P<created_at>-?[0-9]{1,126}(\.[0-9]{1,130})?) (?P<task_id>.+)", re.DOTALL | re.ASCII
)


class Place(NamedTuple):
    """Where a task is in an index."""

    created_at: Decimal
    task_id: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Place:
        return cls(item["created_at"], item["task_id"])

    @property
    def second(self) -> int:
        """What lies beyond all times counts to the first or the last second of them."""
        return listed_second(self.created_at)

    @classmethod
    def decode(cls, text: str) -> Place | None:
        """None for an empty text. Raises ValueError."""
        if not text:
            return None
        found = PLACE.fullmatch(urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        if found is None:
            raise ValueError("not a place")
        return cls(Decimal(found["created_at"]), found["task_id"])

    def encode(self) -> str:
        """Fit for a query."""
        text = f"{self.created_at:f} {self.task_id}"
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")


class Cursor(NamedTuple):
    """From where a list goes on: with lower sequence numbers.

    If a stream is named, those before it are through with the newest second of that, and it is
    itself up to and with the task at this place.
    """

    sequence: int = (END_OF_TIME + 1) * MICROSECONDS
    stream: str = ""
    place: Place | None = None

    @property
    def second(self) -> int:
        """The newest second of which something is wanted."""
        return (self.sequence - 1) // MICROSECONDS

    def not_after(self, moment: float) -> Cursor:
        """The same, but only for what was created before then."""
        sequence = int(min(max(moment, 0), END_OF_TIME) * MICROSECONDS)
        return self if self.sequence <= sequence else Cursor(sequence)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises InvalidQuery."""
        try:
            found = CURSOR.fullmatch(text)
            if found is None:
                raise ValueError("not a cursor")
            place = Place.decode(found["place"] or "")
            cursor = cls(int(found["sequence"]), found["stream"] or "", place)
            if place and place.second != cursor.second:
                raise ValueError("not a place of this second")
        except ValueError:
            raise InvalidQuery(WRONG_CURSOR) from None
        return cursor

    def __str__(self) -> str:
        within = f".{self.stream}.{self.place.encode() if self.place else ''}"
        return f"{self.sequence}{within if self.stream else ''}"


class TaskPage(NamedTuple):
    """Some tasks. Without a cursor they are the last."""

    records: list[Record]
    next: Cursor | None


#: The answer to a query for what was created up to then, or comes after that place.
Query = Callable[[Decimal, Place | None], Awaitable[Any]]


class Stream:
    """Tasks of one partition of an index, newest first, of which more is read when it is needed."""

    def __init__(self, name: str, query: Query) -> None:
        self.name = name
        self.records: list[Record] = []
        #: What is newer was read; None if all was.
        self.second: int | None = None
        #: What is newer than this, in the order of the index, was read of that second.
        self.place: Place | None = None
        self._query = query

    def start(self, second: int, place: Place | None) -> None:
        self.second, self.place = second, place
        self._last = second + ALMOST_A_SECOND if second < END_OF_TIME else LARGEST

    async def read(self) -> None:
        """Make one query. Raises AwsFailed."""
        answer = await self._query(self._last, self.place)
        self.records += shown(map(from_wire, answer["Items"]))
        reached = answer.get("LastEvaluatedKey")
        self.place = Place.of(from_wire(reached)) if reached else None
        self.second = self.place.second if self.place else None


class Reading:
    """The reading of one page."""

    def __init__(self, streams: Sequence[Stream], cursor: Cursor, *, limit: int) -> None:
        self._streams = streams
        self._cursor = cursor
        self._limit = limit
        names = [stream.name for stream in streams]
        #: The stream within whose second the list goes on, if it does.
        self._at = names.index(cursor.stream) if cursor.stream in names else None
        for number, stream in enumerate(streams):
            is_through = self._at is not None and number < self._at
            stream.start(cursor.second - is_through, cursor.place if number == self._at else None)

    async def page(self, *, queries: int) -> TaskPage:
        """By this many queries at most, which must be as many as there are streams at least."""
        while queries and (unread := self._unread()):
            now = unread[:queries]
            queries -= len(now)
            await asyncio.gather(*(stream.read() for stream in now))
        if unread := self._unread():
            return self._certain(max(stream.second or 0 for stream in unread))
        return self._complete()

    def _unread(self) -> list[Stream]:
        """The streams that may hold what belongs on the page, the newest first."""
        found = self._newest(self._limit + 1)
        end = _second_of(found[-1]) if len(found) > self._limit else 0
        unread = [s for s in self._streams if s.second is not None and s.second >= end]
        return sorted(unread, key=lambda stream: stream.second or 0, reverse=True)

    def _complete(self) -> TaskPage:
        found = self._newest(self._limit + 1)
        page = found[: self._limit]
        if len(found) == len(page):
            return TaskPage(page, None)
        end = _second_of(page[-1])
        if self._at is not None and end == self._cursor.second:
            return self._within_second()
        # Of those that share a number, all come behind the cursor or none.
        page = [each for each in page if each.sequence != found[-1].sequence]
        return TaskPage(page, Cursor(page[-1].sequence)) if page else self._certain(end)

    def _certain(self, reached: int) -> TaskPage:
        """What is newer than the second that has been reached, by all streams."""
        if reached == self._cursor.second:
            return self._within_second()
        page = [each for each in self._newest(self._limit) if _second_of(each) > reached]
        return TaskPage(page, Cursor((reached + 1) * MICROSECONDS))

    def _within_second(self) -> TaskPage:
        page: list[Record] = []
        second = self._cursor.second
        for number, stream in enumerate(self._streams):
            place = self._cursor.place if number == self._at else None
            for record in self._wanted(stream.records):
                if _second_of(record) != second:
                    break
                if len(page) == self._limit:
                    return TaskPage(page, Cursor(self._cursor.sequence, stream.name, place))
                page.append(record)
                place = Place.of(record.item)
            if stream.second == second:
                return TaskPage(page, Cursor(self._cursor.sequence, stream.name, stream.place))
        return TaskPage(page, Cursor(second * MICROSECONDS))

    def _newest(self, limit: int) -> list[Record]:
        # A task that moved on meanwhile is found under two statuses.
        found = {
            record.job.job_id: record
            for stream in self._streams
            for record in self._wanted(stream.records)
        }
        return nlargest(limit, found.values(), key=lambda record: record.sequence)

    def _wanted(self, records: Iterable[Record]) -> Iterable[Record]:
        return (each for each in records if each.sequence < self._cursor.sequence)


def shown(items: Iterable[Item]) -> list[Record]:
    """All tasks but those that are deleted. Other services have statuses of their own."""
    tasks = (item for item in items if str(item.get("status")) in STATUSES)
    return [record for record in map(record_of, tasks) if not record.is_deleted]


def _second_of(record: Record) -> int:
    return record.sequence // MICROSECONDS
