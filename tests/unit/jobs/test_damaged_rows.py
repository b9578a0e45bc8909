"""Rows that somebody else wrote, whose columns say anything: each is shown, and harms no other."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from unified_api.jobs.errors import UnknownJob
from unified_api.jobs.job import Job, Status
from unified_api.jobs.selection import Selection
from unified_api.jobs.store import Store

from ...common.hostile import shown

NOW = 1_700_000_000.0
NO_TEXT = "CAST(x'ff' AS TEXT)"
#: A picture's bytes where a text is meant, and a text that is none.
DAMAGE = {
    "document of bytes": "document = x'ff'",
    "document that is no text": f"""document = '{{"a": "' || {NO_TEXT} || '"}}'""",
    "workflow of bytes": "workflow = x'ff00'",
    "workflow that is no text": f"workflow = {NO_TEXT}",
    "owner of bytes": "owner = x'ff00'",
    "status of its own": "status = 'weird'",
    "another status": "document = json_set(document, '$.status', 'completed')",
    "another id": "document = json_set(document, '$.job_id', 'a')",
    "a way up as id": "document = json_set(document, '$.job_id', '../../a')",
    "another owner": "document = json_set(document, '$.owner', 'studio')",
    "a file elsewhere": "document = json_set(document, '$.extension', '../../a')",
    "an id with a slash": "job_id = 'a/b'",
    "no id": "job_id = ''",
    "an id of bytes": "job_id = x'ff'",
    "an id that is no text": f"job_id = {NO_TEXT}",
}
#: What can be read, and must not be in the way.
ODD = {"rank of words": "rank = 'high'", "due of words": "due = 'soon'"}
#: With the index on it, SQLite takes nothing but JSON.
UNINDEXED = ("DROP INDEX jobs_by_creation", "DROP INDEX jobs_by_deadline")


def damage(path, job_id, change):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in UNINDEXED if change == DAMAGE["document of bytes"] else ():
            db.execute(statement)
        db.execute(f"UPDATE jobs SET {change} WHERE job_id = ?", (job_id,))


async def listed(store):
    """The ids on all pages, one job on each."""
    seen, after = [], None
    while page := await store.page(limit=1, after=after):
        ((after, job),) = page
        seen.append(shown(job)["job_id"])
    return seen


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
async def store(path):
    store = Store(path)
    await store.open()
    for number, job_id in enumerate("abcd"):
        await store.insert(
            Job(job_id=job_id, workflow="draw", parameters={}, created_at=NOW + number)
        )
    yield store
    await store.close()


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
async def test_a_damaged_row_is_listed_in_its_place_read_and_deleted(store, path, change):
    damage(path, "c", change)

    seen = await listed(store)

    assert (seen[0], *seen[2:]) == ("d", "b", "a")
    job = await store.get(seen[1])
    assert shown(job)["error_detail"]["code"] == "unreadable_record"
    await store.remove_unreadable(seen[1])
    assert await listed(store) == ["d", "b", "a"]
    assert await store.get(seen[1]) is None


@pytest.mark.parametrize("change", [*DAMAGE.values(), *ODD.values()], ids=[*DAMAGE, *ODD])
async def test_a_damaged_row_is_put_aside_and_those_behind_it_are_taken_up(store, path, change):
    damage(path, "b", change)

    claimed = [await store.claim(now=NOW + 9) for _ in range(5)]

    taken = [job.job_id for job in claimed if job and job.status is Status.PROCESSING]
    assert {"a", "c", "d"} <= set(taken)
    assert claimed[-1] is None
    assert all(job.is_over for job in claimed if job and job.job_id not in taken)


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("change", [*DAMAGE.values(), *ODD.values()], ids=[*DAMAGE, *ODD])
async def test_a_damaged_row_keeps_no_engine_from_working(bench, change, is_running):
    bench.host.gate.clear()
    engine = await bench.open(fetch_ahead=1)
    ids = [(await engine.submit("draw", {})).job.job_id for _ in range(4)]
    await bench.until(lambda: bench.host.prompts)
    await bench.crash(engine)
    damage(bench.store_path, ids[0 if is_running else 2], change)
    bench.host.gate.set()

    engine = await bench.open(fetch_ahead=1)

    new = (await engine.submit("draw", {})).job
    for job_id in (ids[1], ids[3], new.job_id):
        assert (await bench.ended(engine, Job.unreadable(job_id, {}))).status is Status.COMPLETED


async def test_a_row_whose_id_names_nothing_is_deleted_by_its_number(bench):
    engine = await bench.open()
    job = (await engine.submit("draw", {})).job
    await bench.ended(engine, job)
    damage(bench.store_path, job.job_id, "job_id = 'a/b'")

    (row,) = (await engine.list(limit=9)).jobs
    await engine.delete(row[0].job_id)

    assert row[0].job_id == "record:1"
    with pytest.raises(UnknownJob):
        await engine.get("record:1")


@pytest.mark.parametrize("name", ["record:1", "record:9", "record:", f"record:{'9' * 19}"])
async def test_a_number_is_no_other_name_for_a_sound_job(store, name):
    assert await store.get(name) is None


@pytest.mark.parametrize("status", ["pending", "processing", "completed", "cancelled"])
async def test_the_status_that_a_row_tells_is_shown(store, path, status):
    damage(path, "c", f"document = '{{}}', status = '{status}'")

    job = await store.get("c")

    assert (job.status.value, job.is_over) == (status, True)
    assert [each.job_id for _, each in await store.page(Selection(status=job.status), limit=9)] == [
        each for each in "dcba" if each == "c" or status == "pending"
    ]


async def test_the_time_of_a_row_is_shown_where_it_can_be_read(store, path):
    damage(path, "c", "document = json_set(document, '$.parameters', 7)")

    assert (await store.get("c")).created_at == NOW + 2


@pytest.mark.parametrize("created_at", [1e20, -1e100, "'soon'", 5, 9e9])
async def test_a_row_whose_time_is_wrong_keeps_no_other_out_of_a_list_by_time(
    store, path, created_at
):
    damage(path, "c", f"document = json_set(document, '$.created_at', {created_at})")

    async def seen(**narrowed):
        return {job.job_id for _, job in await store.page(Selection(**narrowed), limit=9)} - {"c"}

    assert await seen(created_after=NOW) == {"a", "b", "d"}
    assert await seen(created_before=NOW + 99) == {"a", "b", "d"}
    assert await seen(created_after=NOW + 1, created_before=NOW + 99) == {"b", "d"}
