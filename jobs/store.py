"""Store: where accepted jobs live (SQLite). A commit has reached the disk before it returns."""

from __future__ import annotations

import json
import logging
import math
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..workflows import is_file
from .counted_log import CountedLog
from .errors import DeadlineExceeded
from .job import JOB_ID, RANKS, Job, Priority, Status
from .line import Waiting
from .notify import outbox
from .notify.notices import Notice, notices_of
from .notify.outbox import Outbox, marks
from .private import close_files_in, make_private_file, make_private_folder
from .selection import ALL, Selection
from .threads import Lane, count_threads
from .writer import Writer

#: Once for each record, not for each request that meets it.
unreadable = CountedLog(logging.getLogger(__name__), seconds=math.inf)

WRITER_THREAD = "unified-api-store-writer"
BUSY_SECONDS = 10.0
#: No job is put off for longer, so a later `due` shows that the clock was set back.
LONGEST_DELAY_SECONDS = 600.0
#: Above every sequence number.
NEWEST = 2**63 - 1

LOADED_TWICE = (
    "this ComfyUI has loaded the plugin twice, and the other copy uses the job store; remove one"
    " of the two folders from custom_nodes"
)
#: As SQLite says it.
LOCKED = "locked"
IN_USE = "another ComfyUI process uses this job store; give each a user folder of its own"
DAMAGED = (
    "the file of the job store is damaged; it was left as it is. Restore it from a backup, or set"
    " UNIFIED_API_RESET_STORE=1 to set it aside and begin a new one"
)
NEWER = "the job store was written by a newer version of this service; install that one again"

JOBS = """
CREATE TABLE jobs (
    sequence   INTEGER PRIMARY KEY,
    job_id     TEXT NOT NULL UNIQUE,
    workflow   TEXT NOT NULL,
    status     TEXT NOT NULL,
    owner      TEXT,
    due        REAL,
    document   TEXT NOT NULL
);
CREATE INDEX jobs_waiting ON jobs (sequence) WHERE due IS NOT NULL;
CREATE INDEX jobs_by_status ON jobs (status, sequence);
CREATE INDEX jobs_by_workflow ON jobs (workflow, sequence);
CREATE INDEX jobs_by_owner ON jobs (owner, sequence) WHERE owner IS NOT NULL;
"""
GIVE_UP_AT = "json_extract(document, '$.give_up_at')"
RUN_MS = "json_extract(document, '$.timings.run_ms')"
CREATED_AT = "json_extract(document, '$.created_at')"
TIMES = f"""
CREATE INDEX jobs_by_deadline ON jobs ({GIVE_UP_AT}) WHERE due IS NOT NULL;
CREATE INDEX jobs_by_creation ON jobs ({CREATED_AT});
"""
#: Before this service was there, and after now: of these times only damaged records are, and the
#: jobs of a clock that was wrong.
FIRST_JOB, NOW = 1_577_836_800, "strftime('%s', 'now')"
#: Between which numbers the jobs of some time are, so that not all are read for them. Who was
#: created a minute earlier has the lower number.
AFTER_EARLIER = (
    f"sequence > ifnull((SELECT sequence FROM jobs WHERE {CREATED_AT} BETWEEN {FIRST_JOB} AND"
    f" ? - 60 ORDER BY {CREATED_AT} DESC LIMIT 1), 0)"
)
BEFORE_LATER = (
    f"sequence < ifnull((SELECT sequence FROM jobs WHERE {CREATED_AT} BETWEEN ? + 60 AND"
    f" {NOW} + 60 ORDER BY {CREATED_AT} LIMIT 1), {NEWEST})"
)
RANKED = """
ALTER TABLE jobs ADD COLUMN rank INTEGER NOT NULL DEFAULT 1;
DROP INDEX jobs_waiting;
CREATE INDEX jobs_waiting ON jobs (rank, sequence) WHERE due IS NOT NULL;
"""
#: In these words, or SQLite does not see that the index below fits.
UNFINISHED = "status IN ('pending', 'processing')"
#: For every filter of a list an index that ends with the order of the list.
INDEXED = f"""
CREATE INDEX jobs_unfinished ON jobs (sequence) WHERE {UNFINISHED};
CREATE INDEX jobs_by_owner_and_status ON jobs (owner, status, sequence);
CREATE INDEX jobs_by_owner_and_workflow ON jobs (owner, workflow, sequence);
CREATE INDEX jobs_by_workflow_and_status ON jobs (workflow, status, sequence);
CREATE INDEX jobs_by_all ON jobs (owner, workflow, status, sequence);
"""
#: The digest of the idempotency key that a job was submitted with.
IDEMPOTENT = """
ALTER TABLE jobs ADD COLUMN idempotency TEXT;
CREATE UNIQUE INDEX jobs_by_idempotency ON jobs (idempotency) WHERE idempotency IS NOT NULL;
"""
#: What makes each version out of the one before.
VERSIONS = (JOBS, outbox.SCHEMA, TIMES, RANKED, INDEXED + outbox.INDEXED, IDEMPOTENT)

#: The order in which waiting jobs are taken up.
TURNS = "rank, sequence"
COLUMNS = ("job_id", "workflow", "status", "owner", "due", "rank", "document", "idempotency")
INSERT = f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({marks(COLUMNS)})"
#: Of a job that is kept elsewhere: what is new of it.
RENEWED = ", ".join(
    f"{name} = excluded.{name}"
    for name in ("workflow", "status", "owner", "due", "rank", "document")
)
#: Only such jobs are kept elsewhere.
IS_SHARED = "json_extract(jobs.document, '$.is_shared')"

#: What a job is made of, or shown by where that cannot be read.
STORED = "sequence, document, job_id, workflow, status, owner"
PUT_ASIDE = "UPDATE jobs SET status = ?, due = NULL WHERE sequence = ?"
#: Names a record whose own id names nothing, by its sequence number.
RECORD_ID = re.compile(r"record:(\d{1,18})", re.ASCII)

#: So many jobs are read together where many are.
JOBS_AT_ONCE = 100
UPLOADS = f"""
SELECT sequence, (
    SELECT json_group_array(value) FROM json_tree(document, '$.parameters')
    WHERE type = 'text' AND value GLOB 'upload:*'
)
FROM jobs INDEXED BY jobs_unfinished
WHERE {UNFINISHED} AND sequence > ? ORDER BY sequence LIMIT ?
"""

Connect = Callable[[Path], sqlite3.Connection]


class StoreUnusable(Exception):
    """The job store cannot be used; the message says what to do."""


def open_database(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


class Store:
    """Jobs by id, in order of priority and acceptance.

    One thread writes and another reads, each on its own connection, so that reading the status
    of a job never waits for a commit. Every method may raise sqlite3.Error.
    """

    def __init__(self, path: Path, *, connect: Connect = open_database) -> None:
        """`connect` opens the file, once to write and once to read; tests watch queries by it."""
        self._connect = connect
        self._lane = Lane(WRITER_THREAD)
        self._writer = Writer(self._lane, lambda: self._open_writer)
        self._reader = Lane("unified-api-store-reader")
        self.outbox = Outbox(self._read, self._writer.run)
        self._path = path
        self._is_hooked = False
        self._lock: sqlite3.Connection | None = None
        self._write_db: sqlite3.Connection | None = None
        self._read_db: sqlite3.Connection | None = None

    async def open(self, *, reset: bool = False, is_hooked: bool = False) -> None:
        """Create or upgrade the file. Raises StoreUnusable if it is damaged or in use.

        With `reset`, a damaged file is set aside and a new one begun. `is_hooked` is whether
        the server has a webhook of its own, so that every job is told of.
        """
        self._is_hooked = is_hooked
        await self._lane.run(_close, self._path.parent)
        self._lock = await self._lane.run(_lock, self._path.with_suffix(".lock"))
        if not await self._lane.run(_is_sound, self._path):
            if not reset:
                raise StoreUnusable(DAMAGED)
            await self._lane.run(_set_aside, self._path)
        # What SQLite puts beside it gets the same mode.
        await self._lane.run(make_private_file, self._path)
        self._write_db = await self._lane.run(self._connect, self._path)
        await self._lane.run(_migrate, self._write_db)
        self._read_db = await self._reader.run(self._connect, self._path)
        # One text that is no UTF-8 would keep all rows beside it from being read.
        self._write_db.text_factory = self._read_db.text_factory = _decoded

    async def close(self) -> None:
        for lane, db in (
            (self._reader, self._read_db),
            (self._lane, self._write_db),
            (self._lane, self._lock),
        ):
            if db is not None:
                await lane.run(db.close)
        await self._reader.close()
        await self._lane.close()

    async def insert(self, job: Job, *, key: str | None = None) -> bool:
        """Commit a new job, and with it the digest of its idempotency key.

        False if there is one of this id or this key, which then stays as it is.
        """
        return await self._write(f"{INSERT} ON CONFLICT DO NOTHING", _row(job, key))

    async def save(self, job: Job) -> bool:
        """Commit a job's new state. False if it has a final one already, which then stays."""
        return await self._write(
            f"UPDATE jobs SET status = ?, due = ?, document = ? WHERE job_id = ? AND {UNFINISHED}",
            (job.status.value, job.due, job.model_dump_json(), job.job_id),
            self._news(job) if job.status.is_final else [],
        )

    async def adopt(self, job: Job) -> bool:
        """Commit the state of a job that is kept elsewhere, whatever is known of it here.

        False if a job of this id was submitted here, which then stays as it is.
        """
        return await self._write(
            f"{INSERT} ON CONFLICT (job_id) DO UPDATE SET {RENEWED} WHERE {IS_SHARED}",
            _row(job),
            # Of a later attempt, another machine may have told the start.
            self._news(job) if not job.attempt else [],
        )

    async def tell(self, job: Job) -> None:
        """Commit that it is told how a job ended that is kept elsewhere, unless it is already."""
        if news := self._news(job):
            await self._writer.run(outbox.post, news)
            self.outbox.news.set()

    async def forget(self, job_id: str) -> None:
        """Delete a job that is kept elsewhere and has not ended."""
        await self._write(
            f"DELETE FROM jobs WHERE job_id = ? AND {UNFINISHED} AND {IS_SHARED}", (job_id,)
        )

    async def cancel(self, job_id: str, *, now: float) -> Job | None:
        """Cancel a job that nobody works on; None if there is none of this id."""
        return await self._take(
            f"SELECT {STORED} FROM jobs WHERE job_id = ? AND due IS NOT NULL",
            (job_id,),
            lambda job: job.cancelled(now=now),
        )

    async def claim(self, *, now: float, least: Priority = "normal") -> Job | None:
        """Take the next job that is due and has this priority at least, now `processing`.

        Those of high priority are first, then the oldest. None if there is none.
        """
        return await self._take(
            f"SELECT {STORED} FROM jobs WHERE due IS NOT NULL AND rank <= ?"
            f" AND (due <= ? OR due > ?) ORDER BY {TURNS} LIMIT 1",
            (RANKS[least], now, now + LONGEST_DELAY_SECONDS),
            lambda job: job.fetching(now=now),
        )

    async def give_up(self, *, now: float) -> Job | None:
        """Fail a job that has waited for too long; None if there is none."""
        return await self._take(
            f"SELECT {STORED} FROM jobs WHERE due IS NOT NULL AND {GIVE_UP_AT} <= ? LIMIT 1",
            (now,),
            lambda job: job.failed(DeadlineExceeded(), now=now),
        )

    async def get(self, job_id: str) -> Job | None:
        if (numbered := RECORD_ID.fullmatch(job_id)) is None:
            return await self._one("job_id = ?", job_id)
        job = await self._one("sequence = ?", int(numbered[1]))
        return job if job and job.job_id == job_id else None

    async def of_key(self, key: str) -> Job | None:
        """The job that was submitted with an idempotency key, by the digest of that."""
        return await self._one("idempotency = ?", key)

    async def remove(self, job_ids: Sequence[str]) -> None:
        """Delete those of these jobs that have ended."""
        # Not "status IN" those that are final: SQLite would go through every job that has ended.
        await self._write(
            f"DELETE FROM jobs WHERE job_id IN ({marks(job_ids)}) AND NOT ({UNFINISHED})",
            tuple(job_ids),
        )

    async def unfinished(self) -> list[Job]:
        """What somebody had begun and nobody works on, if asked at the start of the process."""
        found = await self._read(
            f"SELECT {STORED} FROM jobs WHERE status = ? AND due IS NULL ORDER BY sequence",
            (Status.PROCESSING.value,),
        )
        stored = [_Stored(*each) for each in found]
        jobs = [(each.sequence, _job(each)) for each in stored]
        for sequence, job in jobs:
            if job.is_over:
                await self._write(PUT_ASIDE, (_end_of(job).value, sequence))
        return [job for _, job in jobs if not job.is_over]

    async def remove_unreadable(self, job_id: str) -> None:
        """Delete a job whose record cannot be read, whatever its status."""
        numbered = RECORD_ID.fullmatch(job_id)
        column, value = ("sequence", int(numbered[1])) if numbered else ("job_id", job_id)
        await self._write(f"DELETE FROM jobs WHERE {column} = ?", (value,))

    async def page(
        self, selection: Selection = ALL, *, limit: int, after: int | None = None
    ) -> list[tuple[int, Job]]:
        """Jobs with their sequence numbers, newest first, from below the number `after`."""
        wanted = {
            "sequence < ?": NEWEST if after is None else after,
            "status = ?": selection.status and selection.status.value,
            "workflow = ?": selection.workflow,
            "owner = ?": selection.owner,
            f"{CREATED_AT} >= ?": selection.created_after,
            AFTER_EARLIER: selection.created_after,
            f"{CREATED_AT} < ?": selection.created_before,
            BEFORE_LATER: selection.created_before,
        }
        given = {clause: value for clause, value in wanted.items() if value is not None}
        found = await self._read(
            f"SELECT {STORED} FROM jobs WHERE {' AND '.join(given)} ORDER BY sequence DESC LIMIT ?",
            (*given.values(), limit),
        )
        return [(stored.sequence, _job(stored)) for stored in map(_Stored._make, found)]

    async def from_oldest(self, *, after: int, limit: int) -> list[tuple[int, Job]]:
        """Jobs with their sequence numbers, oldest first, from above the number `after`."""
        found = await self._read(
            f"SELECT {STORED} FROM jobs WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
        return [(stored.sequence, _job(stored)) for stored in map(_Stored._make, found)]

    async def count_unfinished(self, owner: str) -> int:
        """The number of jobs of an owner that have not ended."""
        found = await self._read(
            f"SELECT count(*) FROM jobs WHERE owner = ? AND {UNFINISHED}", (owner,)
        )
        return int(found[0][0])

    async def uploads_in_use(self) -> set[str]:
        """The references ("upload:...") to uploaded files in jobs that have not ended.

        Reads a few jobs at a time, so that others can be read in between.
        """
        uploads: set[str] = set()
        reached: int | None = 0
        while reached is not None:
            found = await self._read(UPLOADS, (reached, JOBS_AT_ONCE))
            uploads.update(*(json.loads(references) for _, references in found))
            reached = found[-1][0] if found else None
        return uploads

    async def waiting(self) -> list[Waiting]:
        """The jobs that nobody works on, in the order in which they are taken up."""
        found = await self._read(
            f"SELECT job_id, workflow, rank FROM jobs WHERE due IS NOT NULL ORDER BY {TURNS}", ()
        )
        # Who cannot be ordered is taken up with the rest, and not counted.
        return [Waiting(*each) for each in found if _is_fit(*each)]

    async def run_times(self, *, most: int) -> list[tuple[str, int]]:
        """(workflow, milliseconds) of the runs of the last completed jobs, newest first."""
        found = await self._read(
            f"SELECT workflow, {RUN_MS} FROM jobs WHERE status = ? ORDER BY sequence DESC LIMIT ?",
            (Status.COMPLETED.value, most),
        )
        return [
            (workflow, run_ms)
            for workflow, run_ms in found
            if isinstance(workflow, str) and isinstance(run_ms, int) and run_ms >= 0
        ]

    @property
    def _open_writer(self) -> sqlite3.Connection:
        if self._write_db is None:
            raise sqlite3.ProgrammingError("the job store is not open")
        return self._write_db

    def _news(self, job: Job) -> list[Notice]:
        return notices_of(job, is_hooked=self._is_hooked)

    async def _write(self, sql: str, values: tuple[Any, ...], news: Sequence[Notice] = ()) -> bool:
        """Commit a change, and with it what is to be told if it changes anything."""
        is_changed = await self._writer.run(_change, sql, values, news)
        if is_changed and news:
            self.outbox.news.set()
        return is_changed

    async def _take(
        self, sql: str, values: tuple[Any, ...], step: Callable[[Job], Job]
    ) -> Job | None:
        """Commit the next state of a job that waits, if there is one.

        One that cannot be read is put aside, and returned as it is shown from then on.
        """
        taken = await self._writer.run(_take, sql, values, step, self._news)
        if taken:
            self.outbox.news.set()
        return taken

    async def _one(self, condition: str, value: str | int) -> Job | None:
        found = await self._read(f"SELECT {STORED} FROM jobs WHERE {condition}", (value,))
        return _job(_Stored(*found[0])) if found else None

    async def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._read_db is None:
            raise sqlite3.ProgrammingError("the job store is not open")
        db = self._read_db
        return await self._reader.run(lambda: db.execute(sql, values).fetchall())


def _close(folder: Path) -> None:
    """To other users, with all files in it: those of the store, and the keys."""
    make_private_folder(folder)
    close_files_in(folder)


def _lock(path: Path) -> sqlite3.Connection:
    """An exclusive lock that the operating system drops when the process dies."""
    make_private_file(path)
    lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if LOCKED not in str(error):
            # The disk refuses, so nobody knows.
            raise
        # This runs in the thread of one store; another one belongs to another copy of the plugin.
        is_ours = count_threads(WRITER_THREAD) > 1
        raise StoreUnusable(LOADED_TWICE if is_ours else IN_USE) from error
    return lock


def _is_sound(path: Path) -> bool:
    if not is_file(path):
        return True
    db = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        return bool(db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    finally:
        db.close()


def _set_aside(path: Path) -> None:
    """Keep a damaged file and what belongs to it under another name."""
    mark = f".damaged-{int(time.time())}"
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if part.exists():
            part.rename(part.with_name(part.name + mark))


def _migrate(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(VERSIONS):
        raise StoreUnusable(NEWER)
    for number, change in enumerate(VERSIONS[version:], version + 1):
        db.executescript(f"BEGIN; {change} PRAGMA user_version = {number}; COMMIT;")
    db.executescript(outbox.BY_TENANT)


def _change(
    db: sqlite3.Connection, sql: str, values: tuple[Any, ...], news: Sequence[Notice]
) -> bool:
    is_changed = db.execute(sql, values).rowcount == 1
    if is_changed:
        outbox.post(db, news)
    return is_changed


def _take(
    db: sqlite3.Connection,
    sql: str,
    values: tuple[Any, ...],
    step: Callable[[Job], Job],
    news_of: Callable[[Job], Sequence[Notice]],
) -> Job | None:
    found = db.execute(sql, values).fetchone()
    if found is None:
        return None
    stored = _Stored(*found)
    waiting = _job(stored)
    if waiting.is_over:
        db.execute(PUT_ASIDE, (_end_of(waiting).value, stored.sequence))
        return waiting.model_copy(update={"status": _end_of(waiting)})
    job = step(waiting)
    _change(
        db,
        "UPDATE jobs SET status = ?, due = NULL, document = ? WHERE job_id = ?",
        (job.status.value, job.model_dump_json(), job.job_id),
        news_of(job),
    )
    return job


def _row(job: Job, key: str | None = None) -> tuple[Any, ...]:
    known = (job.job_id, job.workflow, job.status.value, job.owner, job.due)
    return (*known, RANKS[job.priority], job.model_dump_json(), key)


class _Stored(NamedTuple):
    """A row, whose columns may hold anything if somebody else wrote it."""

    sequence: int
    document: Any
    job_id: Any
    workflow: Any
    status: Any
    owner: Any


def _job(stored: _Stored) -> Job:
    try:
        job = Job.model_validate_json(stored.document)
        if (job.job_id, job.workflow, job.status.value, job.owner) != stored[2:]:
            raise ValueError("its columns tell otherwise")
        return job
    except (TypeError, ValueError):
        job_id = stored.job_id if _is_id(stored.job_id) else f"record:{stored.sequence}"
        unreadable.log(logging.ERROR, "the record of job %s cannot be read", job_id)
        told = stored._asdict() | {"created_at": _created_at(stored.document)}
        return Job.unreadable(job_id, told)


def _created_at(document: Any) -> object:
    """If at least that can be read."""
    try:
        return json.loads(document)["created_at"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None


def _is_id(told: object) -> bool:
    return isinstance(told, str) and JOB_ID.fullmatch(told) is not None


def _is_fit(job_id: object, workflow: object, rank: object) -> bool:
    return _is_id(job_id) and isinstance(workflow, str) and isinstance(rank, int)


def _end_of(job: Job) -> Status:
    """The status of one that is over, if it is to have none that goes on."""
    return job.status if job.status.is_final else Status.FAILED


def _decoded(text: bytes) -> str:
    return text.decode(errors="surrogateescape")
