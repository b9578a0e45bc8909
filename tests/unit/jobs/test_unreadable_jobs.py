"""Records in the job store that cannot be read: each is shown as such, and harms no other."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from unified_api.jobs.errors import UnknownJob, UnreadableRecord
from unified_api.jobs.job import Job, Status
from unified_api.jobs.store import Store

from ...common.hostile import NUMBERS, OBJECTS, TEXTS, TIMES, shown

DAMAGE = {
    **dict.fromkeys(("created_at", "deadline", "give_up_at", "started_at", "finished_at"), TIMES),
    **dict.fromkeys(("attempt", "timings", "rendered", "outputs", "due"), NUMBERS),
    **dict.fromkeys(("workflow", "owner", "error", "extension", "status", "stage"), TEXTS),
    **dict.fromkeys(("parameters", "metadata", "webhook", "error_detail"), OBJECTS),
}

#: SQLite takes no infinity in what it has indexed as JSON.
CASES = [
    (field, value)
    for field, values in DAMAGE.items()
    for value in values
    if value != {"a": float("inf")}
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
async def store(path):
    store = Store(path)
    await store.open()
    yield store
    await store.close()


def change(path, job_id, document):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE jobs SET document = ? WHERE job_id = ?", (document, job_id))


async def submitted(bench, engine, count):
    """The ids of jobs of which the first runs until the gate opens."""
    bench.host.gate.clear()
    ids = [(await engine.submit("draw", {})).job.job_id for _ in range(count)]
    await bench.until(lambda: bench.host.prompts)
    return ids


async def completed(bench, engine, job_id):
    async def is_completed():
        return (await engine.get(job_id))[0].status is Status.COMPLETED

    await bench.until(is_completed)


async def settled(bench):
    """An engine, and the id of its one job, which is completed."""
    engine = await bench.open()
    job_id = (await engine.submit("draw", {})).job.job_id
    await completed(bench, engine, job_id)
    await bench.crash(engine)
    return await bench.open(), job_id


def damaged(job, field, value):
    """The document of a job with something else in a field."""
    return json.dumps({**json.loads(job.model_dump_json()), field: value})


@pytest.mark.parametrize("number", range(len(CASES)))
async def test_whatever_a_record_says_every_list_is_shown(store, path, number):
    field, value = CASES[number]
    jobs = [Job(job_id=each, workflow="draw", parameters={}, created_at=1.0) for each in "abc"]
    for job in jobs:
        await store.insert(job)
    change(path, "b", damaged(jobs[1], field, value))

    seen, after = [], None
    while page := await store.page(limit=1, after=after):
        ((after, job),) = page
        seen.append(shown(job)["job_id"])

    assert seen == ["c", "b", "a"]
    assert shown(await store.get("b"))["job_id"] == "b"


async def test_a_record_that_cannot_be_read_is_shown_as_such(store, path):
    await store.insert(
        Job(job_id="b", workflow="draw", parameters={}, created_at=1.0, owner="studio")
    )
    change(path, "b", "{}")

    job = shown(await store.get("b"))

    assert (job["status"], job["workflow"]) == ("pending", "draw")
    assert job["error_detail"]["code"] == "unreadable_record"
    assert job["error"] == str(UnreadableRecord())
    assert (await store.get("b")).owner == "studio"


@pytest.mark.parametrize("column", ["document", "workflow", "owner"])
async def test_bytes_that_are_no_text_keep_no_other_from_being_read(store, path, column):
    for each in "abc":
        job = Job(job_id=each, workflow="draw", parameters={}, created_at=1.0, owner="studio")
        await store.insert(job)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        damage = f"replace(CAST({column} AS BLOB), 'd', x'ff')"
        db.execute(f"UPDATE jobs SET {column} = CAST({damage} AS TEXT) WHERE job_id = 'b'")

    seen = [shown(job)["job_id"] for _, job in await store.page(limit=9)]

    assert seen == ["c", "b", "a"]
    assert shown(await store.get("b"))["job_id"] == "b"


async def test_a_record_is_logged_once_however_often_it_is_read(store, path, caplog):
    await store.insert(Job(job_id="only-here", workflow="draw", parameters={}, created_at=1.0))
    change(path, "only-here", "{}")

    for _ in range(5):
        await store.get("only-here")

    assert sum("only-here" in line for line in caplog.messages) == 1


async def test_it_is_never_run_and_those_behind_it_are(bench):
    engine = await bench.open(fetch_ahead=1)
    ids = await submitted(bench, engine, 5)
    change(bench.store_path, ids[3], "{}")

    bench.host.gate.set()

    await completed(bench, engine, ids[4])
    job, _ = await engine.get(ids[3])
    assert (job.status, job.is_readable) == (Status.FAILED, False)
    assert len(bench.host.prompts) == 4
    assert [job.job_id for job, _ in (await engine.list(limit=9)).jobs] == ids[::-1]
    newest, progress = await engine.get(ids[4])
    assert (newest.status, progress.queue_position) == (Status.COMPLETED, None)


@pytest.mark.parametrize("is_run", [True, False])
async def test_it_keeps_no_engine_from_starting(bench, is_run):
    engine = await bench.open(fetch_ahead=1)
    ids = await submitted(bench, engine, 3)
    await bench.crash(engine)
    change(bench.store_path, ids[0 if is_run else 2], "{}")

    bench.host.gate.set()
    engine = await bench.open()

    await completed(bench, engine, ids[1])
    assert engine.is_ready
    assert (await engine.submit("draw", {})).job.status is Status.PENDING


@pytest.mark.parametrize("status", ["completed", "pending", "processing"])
async def test_it_can_be_deleted(bench, status):
    engine, job_id = await settled(bench)
    with closing(sqlite3.connect(bench.store_path, isolation_level=None)) as db:
        db.execute("UPDATE jobs SET document = '{}', status = ?", (status,))

    await engine.delete(job_id)

    with pytest.raises(UnknownJob):
        await engine.get(job_id)
    assert (await engine.list(limit=9)).jobs == []


async def test_cancelling_it_shows_it_as_it_is(bench):
    engine = await bench.open(fetch_ahead=1)
    ids = await submitted(bench, engine, 5)
    change(bench.store_path, ids[4], "{}")

    job, _ = await engine.cancel(ids[4])

    assert not job.is_readable
    assert await engine.count_unfinished("") == 0
    bench.host.gate.set()


async def test_watching_it_ends_at_once(bench):
    engine, job_id = await settled(bench)
    change(bench.store_path, job_id, "{}")

    seen = [job async for job, _ in engine.watch(job_id)]

    assert [job.is_readable for job in seen] == [False]


async def test_run_times_that_are_none_are_left_out(store, path):
    job = Job(job_id="a", workflow="draw", parameters={}, created_at=1.0)
    await store.insert(job)
    ended = job.fetching(now=1.0).completed((), now=2.0, publish_ms=1)
    await store.save(ended)
    change(path, "a", damaged(ended, "timings", {"run_ms": "long"}))

    assert await store.run_times(most=9) == []
