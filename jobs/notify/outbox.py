"""Outbox: what receivers are still to be told, and how telling them went. In the job store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
#: Who waits for a notice: the server's own receiver, or the owner of a job, who may be nobody.
TENANT = (
    "CASE target WHEN 'server' THEN 'server'"
    " ELSE 'key ' || ifnull(json_extract(document, '$.owner'), '') END"
)
#: Of no version: what an older one writes fits it as well.
BY_TENANT = f"""
CREATE INDEX IF NOT EXISTS outbox_by_tenant ON outbox ({TENANT}, due, sequence, site);
"""
#: Each tenant there is, found by a step for each rather than by reading all notices.
TENANTS = f"""
WITH RECURSIVE tenants(tenant) AS (
    SELECT ''
    UNION ALL
    SELECT (
        SELECT {TENANT} FROM outbox WHERE {TENANT} > tenants.tenant ORDER BY {TENANT} LIMIT 1
    )
    FROM tenants WHERE tenants.tenant IS NOT NULL
)
"""
LISTED = "(SELECT value FROM json_each(?))"


class Due(NamedTuple):
    """A notice that could be sent now."""

    sequence: int
    tenant: str
    site: str

    @property
    def receiver(self) -> str:
        """The site as this tenant uses it."""
        return f"{self.tenant}\n{self.site}"


class Condition(NamedTuple):
    """Some SQL, and the values in it."""

    sql: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Filter:
    """Which notices are looked for: not these, and for these receivers alone if they are named."""

    but_sequences: frozenset[int] = frozenset()
    but_tenants: frozenset[str] = frozenset()
    but_sites: frozenset[str] = frozenset()
    but_receivers: frozenset[str] = frozenset()
    only_receivers: frozenset[str] | None = None

    def takes(self, due: Due) -> bool:
        return (
            due.sequence not in self.but_sequences
            and due.tenant not in self.but_tenants
            and due.site not in self.but_sites
            and due.receiver not in self.but_receivers
            and (self.only_receivers is None or due.receiver in self.only_receivers)
        )

    def of_tenants(self, tenant: str) -> Condition:
        """In SQL, where `tenant` is how the tenant is called there."""
        return _all_of({f"{tenant} NOT IN": self.but_tenants})

    def of_notices(self, tenant: str) -> Condition:
        receiver = f"{tenant} || char(10) || site"
        only = self.only_receivers
        return _all_of(
            {
                "sequence NOT IN": self.but_sequences,
                "site NOT IN": self.but_sites,
                f"{receiver} NOT IN": self.but_receivers,
                **({} if only is None else {f"{receiver} IN": only}),
            }
        )


ANY = Filter()


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

    async def due(self, wanted: Filter = ANY, *, now: float) -> list[Due]:
        """Of each tenant, the notice that is wanted and due for longest."""
        notices, tenants = wanted.of_notices("tenant"), wanted.of_tenants("tenant")
        found = await self._read(
            f"{TENANTS} SELECT sequence, tenant, site FROM tenants JOIN outbox ON sequence ="
            f" (SELECT sequence FROM outbox WHERE {TENANT} = tenant AND due <= ?"
            f" AND {notices.sql} ORDER BY due, sequence LIMIT 1) WHERE {tenants.sql}",
            (now, *notices.values, *tenants.values),
        )
        return [Due(*each) for each in found] or await self._of_the_future(wanted, now)

    async def get(self, sequence: int) -> Notice | None:
        found = await self._read(
            f"SELECT {', '.join(Notice._fields)} FROM outbox WHERE sequence = ?", (sequence,)
        )
        return Notice(*found[0]) if found else None

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

    async def _of_the_future(self, wanted: Filter, now: float) -> list[Due]:
        """One that was tried in the future: that shows that the clock was set back."""
        tenants, notices = wanted.of_tenants(TENANT), wanted.of_notices(TENANT)
        found = await self._read(
            f"SELECT sequence, {TENANT}, site FROM outbox WHERE tried_at > ? AND {tenants.sql}"
            f" AND {notices.sql} ORDER BY tried_at, sequence LIMIT 1",
            (now, *tenants.values, *notices.values),
        )
        return [Due(*each) for each in found]


def post(db: sqlite3.Connection, notices: Iterable[Notice]) -> None:
    """Put notices into the outbox; one that is there already, or was, is not told again."""
    db.executemany(
        "INSERT INTO outbox (webhook_id, target, job_id, event, site, document, tries, tried_at,"
        " due) SELECT :webhook_id, :target, :job_id, :event, :site, :document, 0, :tried_at,"
        " :tried_at WHERE NOT EXISTS (SELECT 1 FROM tellings WHERE job_id = :job_id"
        " AND webhook_id = :webhook_id AND target = :target) ON CONFLICT DO NOTHING",
        [notice._asdict() for notice in notices],
    )


def _all_of(lists: Mapping[str, Collection[int | str]]) -> Condition:
    """{'site NOT IN': [...]}; an empty list of what is not wanted is left out, as it costs time."""
    given = {test: list(values) for test, values in lists.items() if values or "NOT" not in test}
    sql = " AND ".join(["true", *(f"{test} {LISTED}" for test in given)])
    return Condition(sql, tuple(map(json.dumps, given.values())))


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
