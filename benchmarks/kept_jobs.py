"""What 100,000 kept jobs cost: reading the status of a job while old things are deleted, accepting
jobs, lists, the start, and the disk.

`python -m benchmarks.kept_jobs` in the project's folder, by the Python that the tests use, after
`./install.sh test` has fetched a ComfyUI. Two ComfyUI processes on the CPU, one with an empty job
store and one with a full one, are asked by turns. All jobs belong to one key whose number of jobs
is limited, so that they are counted at each submit. A job that never ends keeps ComfyUI busy; what
is submitted behind it waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import aiohttp
from unified_api.jobs.job import RANKS, Job, Output, Status
from unified_api.jobs.store import COLUMNS, INSERT, Store

from tests.comfyui.comfy_process import ComfyProcess

from .bench import NODE, VERSION
from .measure import middle, percentile
from .report import machine, row

KEPT = 100_000
#: Of these, those whose time is over.
OVER = 5_000
OLD_INPUTS = 1_000
DAY_SECONDS = 86_400.0
OLDEST_DAYS, RETENTION_DAYS = 8.0, 7.0
STARTS = 3
ROUNDS = 5
SUBMITS, CONNECTIONS = 200, 8
LISTS = 50
#: One reader that takes its time, as a poller does.
READ_PAUSE_SECONDS = 0.01
READS = 500
KEY = "uak_benchmark"
SLUG = "waits"
LIST = f"/api/v1/jobs?workflow={SLUG}&status=failed&limit=20"
DEFINITION = {
    "graph.json": {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
        },
        "2": {"class_type": "GpuTime", "inputs": {"image": ["1", 0], "milliseconds": 0, "seed": 0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    },
    "workflow.json": {
        "title": "Waits",
        "description": "Takes its time.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "milliseconds": {"type": "integer", "minimum": 0, "default": 0},
                "seed": {"type": "integer", "minimum": 0},
            },
        },
        "bindings": {
            name: [{"node": "2", "class_type": "GpuTime", "input": name}]
            for name in ("milliseconds", "seed")
        },
        "outputs": {"image": {"node": "3", "class_type": "SaveImage"}},
    },
}


@dataclass
class Times:
    """Seconds, but `accepted`: jobs a second in each round."""

    starts: list[float] = field(default_factory=list)
    cleaning_reads: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    lists: list[float] = field(default_factory=list)


class Side:
    """A ComfyUI process and what was measured of it."""

    def __init__(self, name: str, folder: Path) -> None:
        digest = sha256(KEY.encode()).hexdigest()
        self.name = name
        self.times = Times()
        self.comfy = ComfyProcess(
            VERSION,
            folder / name,
            nodes=(str(NODE),),
            GPU_TIME_RUNS=str(folder / f"{name}.txt"),
            UNIFIED_API_KEYS=f"bench:submit+read+cancel:{digest}",
            UNIFIED_API_MAX_JOBS_PER_KEY="1000000",
            UNIFIED_API_RETENTION_DAYS=str(RETENTION_DAYS),
        )
        self.comfy.define(SLUG, {file: json.dumps(content) for file, content in DEFINITION.items()})

    @property
    def store(self) -> Path:
        return self.comfy.user_folder / "jobs.sqlite3"

    @property
    def inputs(self) -> Path:
        return self.comfy.base / "input" / "unified_api"

    def start(self) -> None:
        began = time.monotonic()
        self.comfy.start()
        self.times.starts.append(time.monotonic() - began)

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self.comfy.url, headers={"Authorization": f"Bearer {KEY}"}, raise_for_status=True
        )


def kept_jobs(count: int, *, days: tuple[float, float]) -> Iterator[Job]:
    """Jobs that ended between so many and so many days ago, the oldest first; one in 20 failed."""
    now, (first, last) = time.time(), days
    for number in range(count):
        created = now - DAY_SECONDS * (first + (last - first) * number / count)
        yield Job(
            job_id=str(uuid4()),
            workflow=SLUG,
            status=Status.COMPLETED if number % 20 else Status.FAILED,
            stage=None,
            owner="bench",
            due=None,
            parameters={"milliseconds": 0, "seed": number},
            metadata={"shot": number, "text": "a rainy evening " * 30},
            created_at=created,
            finished_at=created + 30,
            outputs=(
                Output(
                    name="image",
                    content_type="image/png",
                    size=1_400_000,
                    width=1024,
                    height=1024,
                    sha256=sha256(str(number).encode()).hexdigest(),
                ),
            ),
        )


def fill(side: Side) -> str:
    """Keep jobs and old inputs; the id of a job that stays."""
    side.store.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_create(side.store))
    job_id = ""
    with closing(sqlite3.connect(side.store)) as database, database:
        spans = ((OVER, (OLDEST_DAYS, RETENTION_DAYS)), (KEPT - OVER, (RETENTION_DAYS - 0.5, 0.1)))
        for count, days in spans:
            for job in kept_jobs(count, days=days):
                known = {**dict(job), "rank": RANKS[job.priority]}
                known |= {"document": job.model_dump_json(), "status": job.status.value}
                database.execute(INSERT, [known[column] for column in COLUMNS])
                job_id = job.job_id
    side.inputs.mkdir(parents=True)
    for number in range(OLD_INPUTS):
        path = side.inputs / f"{sha256(str(number).encode()).hexdigest()}.png"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (time.time() - 2 * DAY_SECONDS,) * 2)
    return job_id


async def _create(path: Path) -> None:
    store = Store(path)
    await store.open()
    await store.close()


def is_clean(side: Side) -> bool:
    """Whether what was old is gone."""
    if any(side.inputs.glob("*.png")):
        return False
    with closing(sqlite3.connect(side.store)) as database:
        return bool(database.execute("SELECT count(*) FROM jobs").fetchone()[0] <= KEPT - OVER)


async def read_while_cleaning(side: Side, job_id: str) -> None:
    """Right after the start, when old things are deleted; then as often in peace."""
    async with side.session() as session:
        while not await asyncio.to_thread(is_clean, side):
            side.times.cleaning_reads += await reads(session, job_id, count=READS // 10)
        side.times.reads += await reads(session, job_id, count=READS)


async def reads(session: aiohttp.ClientSession, job_id: str, *, count: int) -> list[float]:
    return [await seconds_of(session, f"/api/v1/jobs/{job_id}") for _ in range(count)]


async def seconds_of(session: aiohttp.ClientSession, path: str) -> float:
    await asyncio.sleep(READ_PAUSE_SECONDS)
    began = time.monotonic()
    async with session.get(path) as reply:
        await reply.read()
    return time.monotonic() - began


async def submit(session: aiohttp.ClientSession, **body: object) -> str:
    async with session.post(f"/api/v1/{SLUG}/jobs", json=body) as reply:
        return str((await reply.json())["job_id"])


async def accept(session: aiohttp.ClientSession, side: Side) -> None:
    left = iter(range(SUBMITS))

    async def submit_all() -> None:
        for number in left:
            await submit(session, seed=number)

    began = time.monotonic()
    await asyncio.gather(*(submit_all() for _ in range(CONNECTIONS)))
    side.times.accepted.append(SUBMITS / (time.monotonic() - began))


async def by_turns(empty: Side, full: Side) -> None:
    """Accept and list, with ComfyUI busy all the while."""
    sides = (empty, full)
    async with empty.session() as first, full.session() as second:
        sessions = dict(zip((side.name for side in sides), (first, second), strict=True))
        for session in sessions.values():
            await submit(session, milliseconds=3_600_000)
        for _ in range(ROUNDS):
            for side in sides:
                await accept(sessions[side.name], side)
        for side in sides:
            session = sessions[side.name]
            side.times.lists += [await seconds_of(session, LIST) for _ in range(LISTS)]


async def read_without_kept_jobs(side: Side) -> None:
    async with side.session() as session:
        job_id = await submit(session)
        side.times.reads += await reads(session, job_id, count=READS)


def run(folder: Path) -> str:
    empty, full = Side("empty", folder), Side("full", folder)
    try:
        job_id = fill(full)
        for side in (empty, full):
            side.start()
        asyncio.run(read_while_cleaning(full, job_id))
        asyncio.run(read_without_kept_jobs(empty))
        asyncio.run(by_turns(empty, full))
        for _ in range(STARTS - 1):
            for side in (empty, full):
                side.comfy.kill()
                side.start()
        return report({side.name: side.times for side in (empty, full)}, full.store)
    finally:
        empty.comfy.kill()
        full.comfy.kill()


def report(found: Mapping[str, Times], store: Path) -> str:
    columns = ("job store", "start", "status p50, p99", "during clean-up", "accepted", "list p50")
    title = f"### {KEPT:,} kept jobs, {OVER:,} of them and {OLD_INPUTS:,} inputs to be deleted"
    accepted = {name: sorted(times.accepted)[ROUNDS // 2] for name, times in found.items()}
    lines = [row(columns), row(["---"] * len(columns))]
    for name, times in found.items():
        share = accepted[name] / accepted["empty"]
        lines.append(
            row(
                [
                    name,
                    f"{middle(times.starts) / 1000:.1f} s",
                    _spread(times.reads),
                    _spread(times.cleaning_reads),
                    f"{accepted[name]:.0f}/s ({share:.2f})",
                    f"{middle(times.lists):.1f} ms",
                ]
            )
        )
    size = f"On disk: {store.stat().st_size / 1e6:.0f} MB."
    return "\n".join([title, "", machine(), "", *lines, "", size, ""])


def _spread(seconds: list[float]) -> str:
    return f"{middle(seconds):.1f}, {percentile(seconds, 99):.1f} ms" if len(seconds) > 1 else ""


def main() -> None:
    with TemporaryDirectory() as folder:
        sys.stdout.write(run(Path(folder)) + "\n")


if __name__ == "__main__":
    main()
