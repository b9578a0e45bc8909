"""Store: where accepted jobs live (SQLite). A commit has reached the disk before it returns."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .job import Job, Status
from .threads import Lane

SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
#: No job is put off for longer, so a later `due` shows that the clock was set back.
LONGEST_DELAY_SECONDS = 600.0

IN_USE = "another ComfyUI process uses this job store; give each a user folder of its own"
DAMAGED = (
    "the file of the job store is damaged; it was left as it is. Restore it from a backup, or set"
    " UNIFIED_API_RESET_STORE=1 to set it aside and begin a new one"
)
NEWER = "the job store was written by a newer version of this service; install that one again"

SCHEMA = """
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

FINAL = tuple(status.value for status in Status if status.is_final)


class StoreUnusable(Exception):
    """The job store cannot be used; the message says what to do."""


class Store:
    """Jobs by id, in order of acceptance.

    One thread writes and another reads, each on its own connection, so that reading the status
    of a job never waits for a commit. Every method may raise sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = Lane("store-writer")
        self._reader = Lane("store-reader")
        self._lock: sqlite3.Connection | None = None
        self._write_db: sqlite3.Connection | None = None
        self._read_db: sqlite3.Connection | None = None

    async def open(self, *, reset: bool = False) -> None:
        """Create or upgrade the file. Raises StoreUnusable if it is damaged or in use.

        With `reset`, a damaged file is set aside and a new one begun.
        """
        self._lock = await self._writer.run(_lock, self._path.with_suffix(".lock"))
        if not await self._writer.run(_is_sound, self._path):
            if not reset:
                raise StoreUnusable(DAMAGED)
            await self._writer.run(_set_aside, self._path)
        self._write_db = await self._writer.run(_connect, self._path)
        await self._writer.run(_migrate, self._write_db)
        self._read_db = await self._reader.run(_connect, self._path)

    async def close(self) -> None:
        for lane, db in (
            (self._reader, self._read_db),
            (self._writer, self._write_db),
            (self._writer, self._lock),
        ):
            if db is not None:
                await lane.run(db.close)
        await self._reader.close()
        await self._writer.close()

    async def insert(self, job: Job) -> bool:
        """Commit a new job. False if there is one of this id, which then stays as it is."""
        return await self._write(
            "INSERT INTO jobs (job_id, workflow, status, owner, due, document)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (job_id) DO NOTHING",
            _row(job),
        )

    async def save(self, job: Job) -> bool:
        """Commit a job's new state. False if it has a final one already, which then stays."""
        return await self._write(
            "UPDATE jobs SET status = ?, due = ?, document = ?"
            f" WHERE job_id = ? AND status NOT IN ({_marks(FINAL)})",
            (job.status.value, job.due, job.model_dump_json(), job.job_id, *FINAL),
        )

    async def adopt(self, job: Job) -> None:
        """Commit the state of a job that is kept elsewhere, whatever is known of it here."""
        await self._write(
            "INSERT INTO jobs (job_id, workflow, status, owner, due, document)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (job_id)"
            " DO UPDATE SET status = excluded.status, due = NULL, document = excluded.document",
            _row(job),
        )

    async def forget(self, job_id: str) -> None:
        """Delete a job that has not ended."""
        await self._write(
            f"DELETE FROM jobs WHERE job_id = ? AND status NOT IN ({_marks(FINAL)})",
            (job_id, *FINAL),
        )

    async def cancel(self, job_id: str, *, now: float) -> Job | None:
        """Cancel a job that nobody works on; None if there is none of this id."""
        return await self._writer.run(_cancel, self._open_writer, job_id, now)

    async def claim(self, *, now: float) -> Job | None:
        """Take the oldest job that is due, now `processing`; None if there is none."""
        return await self._writer.run(_claim, self._open_writer, now)

    async def get(self, job_id: str) -> Job | None:
        found = await self._read("SELECT document FROM jobs WHERE job_id = ?", (job_id,))
        return _job(found[0][0]) if found else None

    async def unfinished(self) -> list[Job]:
        """What somebody had begun and nobody works on, if asked at the start of the process."""
        found = await self._read(
            "SELECT document FROM jobs WHERE status = ? AND due IS NULL ORDER BY sequence",
            (Status.PROCESSING.value,),
        )
        return [_job(document) for (document,) in found]

    async def page(
        self,
        *,
        limit: int,
        status: Status | None = None,
        workflow: str | None = None,
        owner: str | None = None,
        after: int | None = None,
    ) -> list[tuple[int, Job]]:
        """Jobs with their sequence numbers, newest first, from below the number `after`."""
        wanted = {
            "status = ?": status.value if status else None,
            "workflow = ?": workflow,
            "owner = ?": owner,
            "sequence < ?": after,
        }
        given = {clause: value for clause, value in wanted.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        found = await self._read(
            f"SELECT sequence, document FROM jobs {where} ORDER BY sequence DESC LIMIT ?",
            (*given.values(), limit),
        )
        return [(sequence, _job(document)) for sequence, document in found]

    async def count_unfinished(self, owner: str) -> int:
        found = await self._read(
            f"SELECT count(*) FROM jobs WHERE owner = ? AND status NOT IN ({_marks(FINAL)})",
            (owner, *FINAL),
        )
        return int(found[0][0])

    async def is_mentioned(self, text: str) -> bool:
        """Whether a job that has not ended has this text in it."""
        found = await self._read(
            "SELECT 1 FROM jobs WHERE instr(document, ?) > 0"
            f" AND status NOT IN ({_marks(FINAL)}) LIMIT 1",
            (text, *FINAL),
        )
        return bool(found)

    async def count_waiting(self) -> int:
        found = await self._read("SELECT count(*) FROM jobs WHERE due IS NOT NULL", ())
        return int(found[0][0])

    @property
    def _open_writer(self) -> sqlite3.Connection:
        if self._write_db is None:
            raise sqlite3.ProgrammingError("the job store is not open")
        return self._write_db

    async def _write(self, sql: str, values: tuple[Any, ...]) -> bool:
        cursor = await self._writer.run(self._open_writer.execute, sql, values)
        return cursor.rowcount == 1

    async def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._read_db is None:
            raise sqlite3.ProgrammingError("the job store is not open")
        db = self._read_db
        return await self._reader.run(lambda: db.execute(sql, values).fetchall())


def _lock(path: Path) -> sqlite3.Connection:
    """An exclusive lock that the operating system drops when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise StoreUnusable(IN_USE) from error
    return lock


def _is_sound(path: Path) -> bool:
    if not path.exists():
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


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _migrate(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreUnusable(NEWER)
    if version == 0:
        db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _claim(db: sqlite3.Connection, now: float) -> Job | None:
    found = db.execute(
        "SELECT document FROM jobs WHERE due IS NOT NULL AND (due <= ? OR due > ?)"
        " ORDER BY sequence LIMIT 1",
        (now, now + LONGEST_DELAY_SECONDS),
    ).fetchone()
    if found is None:
        return None
    return _taken(db, _job(found[0]).fetching(now=now))


def _cancel(db: sqlite3.Connection, job_id: str, now: float) -> Job | None:
    found = db.execute(
        "SELECT document FROM jobs WHERE job_id = ? AND due IS NOT NULL", (job_id,)
    ).fetchone()
    if found is None:
        return None
    return _taken(db, _job(found[0]).cancelled(now=now))


def _taken(db: sqlite3.Connection, job: Job) -> Job:
    """A job that waited, in its new state."""
    db.execute(
        "UPDATE jobs SET status = ?, due = NULL, document = ? WHERE job_id = ?",
        (job.status.value, job.model_dump_json(), job.job_id),
    )
    return job


def _row(job: Job) -> tuple[Any, ...]:
    known = (job.job_id, job.workflow, job.status.value, job.owner, job.due)
    return (*known, job.model_dump_json())


def _job(document: str) -> Job:
    try:
        return Job.model_validate_json(document)
    except ValidationError as error:
        raise sqlite3.DataError("a stored job cannot be read by this version") from error


def _marks(values: tuple[Any, ...]) -> str:
    return ", ".join("?" * len(values))
