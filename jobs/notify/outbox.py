"""Outbox: what receivers are still to be told, and how telling them went. In the job store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from ..job import Event, Value
from .notices import Notice, Target

#: So many tries are remembered, the latest.
MOST_REMEMBERED = 50_000

SCHEMA = """
CREATE TABLE outbox (
    sequence   INTEGER PRIMARY KEY,
    webhook_id TEXT NOT NULL,
    target     TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    event      TEXT NOT NULL,
    site       TEXT NOT NULL,
    tries      INTEGER NOT NULL,
    tried_at   REAL NOT NULL,
    due        REAL NOT NULL,
    document   TEXT NOT NULL,
    UNIQUE (webhook_id, target)
);
CREATE TABLE tellings (
    sequence   INTEGER PRIMARY KEY,
    job_id     TEXT NOT NULL,
    webhook_id TEXT NOT NULL,
    target     TEXT NOT NULL,
    event      TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    at         REAL NOT NULL,
    status     INTEGER,
    error      TEXT
);
CREATE INDEX tellings_by_job ON tellings (job_id, sequence);
"""
INDEXED = """
CREATE INDEX outbox_by_due ON outbox (due, sequence, site);
CREATE INDEX outbox_by_try ON outbox (tried_at, sequence, site);
"""


class Telling(Value):
    """One try to tell a receiver of an event. Without an `error` he knows of it."""

    webhook_id: str
    target: Target
    event: Event
    attempt: int
    at: float
    #: What he answered, if he did.
    status: int | None
    error: str | None


class Outbox:
    """`read` makes a query, `write` works on the connection that writes.

    Methods may raise sqlite3.Error.
    """

    def __init__(
        self,
        read: Callable[[str, tuple[Any, ...]], Awaitable[list[tuple[Any, ...]]]],
        write: Callable[..., Awaitable[None]],
    ) -> None:
        self._read = read
        self._write = write
        #: Set when there is more to be told.
        self.news = asyncio.Event()

    async def next(
        self, *, now: float, but: Collection[int], sites: Collection[str]
    ) -> Notice | None:
        """The notice due for longest, but not one of these, nor for one of these sites."""
        # What was tried in the future shows that the clock was set back.
        for column, is_due in (("due", "due <= ?"), ("tried_at", "tried_at > ?")):
            found = await self._read(
                f"SELECT {', '.join(Notice._fields)} FROM outbox WHERE {is_due}"
                f" AND sequence NOT IN ({marks(but)}) AND site NOT IN ({marks(sites)})"
                f" ORDER BY {column}, sequence LIMIT 1",
                (now, *but, *sites),
            )
            if found:
                return Notice(*found[0])
        return None

    async def record(self, notice: Notice, telling: Telling, *, due: float | None) -> None:
        """Commit how a try went, and when the next is due; None ends it."""
        await self._write(_record, notice, telling, due)

    async def of(self, job_id: str) -> list[Telling]:
        """The tries for a job that are remembered, oldest first."""
        columns = tuple(Telling.model_fields)
        found = await self._read(
            f"SELECT {', '.join(columns)} FROM tellings WHERE job_id = ? ORDER BY sequence",
            (job_id,),
        )
        return [Telling(**dict(zip(columns, row, strict=True))) for row in found]


def post(db: sqlite3.Connection, notices: Iterable[Notice]) -> None:
    """Put notices into the outbox; one that is there already, or was, is not told again."""
    db.executemany(
        "INSERT INTO outbox (webhook_id, target, job_id, event, site, document, tries, tried_at,"
        " due) SELECT :webhook_id, :target, :job_id, :event, :site, :document, 0, :tried_at,"
        " :tried_at WHERE NOT EXISTS (SELECT 1 FROM tellings WHERE job_id = :job_id"
        " AND webhook_id = :webhook_id AND target = :target) ON CONFLICT DO NOTHING",
        [notice._asdict() for notice in notices],
    )


def marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _record(db: sqlite3.Connection, notice: Notice, telling: Telling, due: float | None) -> None:
    values = {"job_id": notice.job_id, **telling.model_dump()}
    db.execute(
        f"INSERT INTO tellings ({', '.join(values)}) VALUES ({marks(values)})",
        tuple(values.values()),
    )
    db.execute(
        "DELETE FROM tellings WHERE sequence <= (SELECT max(sequence) FROM tellings) - ?",
        (MOST_REMEMBERED,),
    )
    if due is None:
        db.execute("DELETE FROM outbox WHERE sequence = ?", (notice.sequence,))
    else:
        db.execute(
            "UPDATE outbox SET tries = ?, tried_at = ?, due = ? WHERE sequence = ?",
            (telling.attempt, telling.at, due, notice.sequence),
        )
