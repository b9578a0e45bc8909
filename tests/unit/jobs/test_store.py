"""The job store on a real file: order, finality, and what survives."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from unified_api.jobs.errors import ExecutionFailed
from unified_api.jobs.job import Job, Status
from unified_api.jobs.selection import Selection
from unified_api.jobs.store import (
    JOBS_AT_ONCE,
    LONGEST_DELAY_SECONDS,
    VERSIONS,
    Store,
    StoreUnusable,
)

HERE = Path(__file__).parent
ENOUGH = 25


def job(job_id, **fields):
    given = {"workflow": "draw", "parameters": {"seed": 1}, "created_at": 1.0, **fields}
    return Job(job_id=job_id, **given)


def ids(jobs):
    return [each.job_id for each in jobs]


def told_before_a_kill(path):
    """The jobs that another process told to be safe."""
    command = [sys.executable, str(HERE / "insert_forever.py"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        told = [process.stdout.readline().strip() for _ in range(ENOUGH)]
        process.kill()
        return told + process.stdout.read().split("\n")[:-1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "jobs.sqlite3"


@pytest.fixture
async def stores():
    opened = []
    yield opened
    for store in opened:
        await store.close()


@pytest.fixture
def open_store(path, stores):
    async def start(**how):
        store = Store(path)
        stores.append(store)
        await store.open(**how)
        return store

    return start


@pytest.fixture
def close(stores):
    async def stop(store):
        stores.remove(store)
        await store.close()

    return stop


@pytest.fixture
async def store(open_store):
    return await open_store()


async def test_a_stored_job_is_read_back_as_it_was(store):
    first = job("a", parameters={"seed": 2**64 - 1, "text": "镜头"})

    await store.insert(first)

    assert await store.get("a") == first
    assert await store.get("b") is None


async def test_an_id_is_stored_once_and_the_first_job_of_it_stays(store):
    first = job("a")

    assert await store.insert(first)
    assert not await store.insert(job("a", workflow="edit"))
    assert await store.get("a") == first


async def test_jobs_are_claimed_in_the_order_of_their_arrival_and_each_once(store):
    for each in ("c", "a", "b"):
        await store.insert(job(each))

    claimed = [await store.claim(now=10.0) for _ in range(4)]

    assert ids(claimed[:3]) == ["c", "a", "b"]
    assert claimed[3] is None
    assert {each.status for each in claimed[:3]} == {Status.PROCESSING}
    assert await store.get("c") == claimed[0]


async def test_jobs_of_high_priority_are_claimed_first_and_among_themselves_the_oldest(store):
    for each in ("n1", "h1", "n2", "h2"):
        await store.insert(job(each, priority="high" if each < "n" else "normal"))

    claimed = [await store.claim(now=10.0) for _ in range(4)]

    assert ids(claimed) == ["h1", "h2", "n1", "n2"]


async def test_normal_jobs_can_be_left_for_later(store):
    await store.insert(job("normal"))
    assert await store.claim(now=10.0, least="high") is None

    await store.insert(job("high", priority="high"))

    assert ids([await store.claim(now=10.0, least="high")]) == ["high"]


async def test_a_job_of_high_priority_that_is_not_due_holds_nobody_back(store):
    await store.insert(job("high", priority="high", due=20.0))
    await store.insert(job("normal"))

    assert ids([await store.claim(now=10.0)]) == ["normal"]


async def test_a_job_of_high_priority_that_is_put_back_is_first_again(store):
    await store.insert(job("high", priority="high"))
    begun = await store.claim(now=1.0)
    await store.insert(job("normal"))

    await store.save(begun.running(now=1.0).put_back(due=2.0))

    assert ids([await store.claim(now=2.0)]) == ["high"]


async def test_a_job_is_not_claimed_before_it_is_due(store):
    await store.insert(job("late", due=20.0))
    await store.insert(job("now", due=10.0))

    assert ids([await store.claim(now=10.0)]) == ["now"]
    assert await store.claim(now=19.9) is None
    assert ids([await store.claim(now=20.0)]) == ["late"]


async def test_a_clock_that_was_set_back_does_not_hold_a_job_for_years(store):
    await store.insert(job("a", due=10.0 + LONGEST_DELAY_SECONDS + 1))

    assert ids([await store.claim(now=10.0)]) == ["a"]


async def test_a_job_put_back_is_claimed_again_in_its_old_place(store):
    await store.insert(job("a"))
    await store.insert(job("b"))
    first = await store.claim(now=1.0)

    await store.save(first.running(now=1.0).put_back(due=2.0))

    again = await store.claim(now=2.0)
    assert (again.job_id, again.attempt) == ("a", 1)


async def test_a_final_job_stays_as_it_is(store):
    await store.insert(job("a"))
    begun = await store.claim(now=1.0)
    done = begun.completed((), now=2.0, publish_ms=0)
    assert await store.save(done)

    late = begun.failed(ExecutionFailed(), now=3.0)

    assert not await store.save(late)
    assert not await store.save(begun)
    assert await store.get("a") == done


async def test_saving_an_unknown_job_changes_nothing(store):
    assert not await store.save(job("a"))
    assert await store.get("a") is None


async def test_a_job_that_waits_can_be_cancelled_and_is_not_claimed_any_more(store):
    await store.insert(job("a"))

    cancelled = await store.cancel("a", now=5.0)

    assert (cancelled.status, cancelled.finished_at) == (Status.CANCELLED, 5.0)
    assert await store.get("a") == cancelled
    assert await store.claim(now=9.0) is None


async def test_a_job_that_was_taken_up_is_not_cancelled_by_the_store(store):
    await store.insert(job("a"))
    claimed = await store.claim(now=2.0)

    assert await store.cancel("a", now=5.0) is None
    assert await store.get("a") == claimed


async def test_a_job_that_is_kept_elsewhere_takes_the_place_of_what_was_known(store):
    failed = job("a").shared().failed(ExecutionFailed(), now=2.0)
    await store.adopt(failed)
    again = job("a").shared()

    assert await store.adopt(again)

    assert await store.get("a") == again
    assert await store.claim(now=9.0) is None


async def test_a_job_is_forgotten_unless_it_has_ended(store):
    ended = job("b", due=None).failed(ExecutionFailed(), now=2.0)
    for each in (job("a").shared(), ended):
        await store.adopt(each)
        await store.forget(each.job_id)

    assert (await store.get("a"), await store.get("b")) == (None, ended)


async def test_waiting_jobs_are_told_in_the_order_in_which_they_are_claimed(store):
    for each in ("n1", "h1", "n2", "h2"):
        await store.insert(job(each, priority="high" if each < "n" else "normal"))
    await store.claim(now=10.0)

    told = [waiting.job_id for waiting in await store.waiting()]

    assert told == ids([await store.claim(now=10.0) for _ in range(3)])
    assert await store.waiting() == []


async def test_the_run_times_of_the_last_completed_jobs_are_told_newest_first(store):
    for number in range(4):
        await store.insert(job(f"j{number}"))
        begun = (await store.claim(now=1.0)).running(now=1.0)
        rendered = begun.publishing((), run_ms=number)
        is_failed = number == 1
        await store.save(
            rendered.failed(ExecutionFailed(), now=2.0)
            if is_failed
            else rendered.completed((), now=2.0, publish_ms=0)
        )

    assert await store.run_times(most=2) == [("draw", 3), ("draw", 2)]
    assert await store.run_times(most=9) == [("draw", 3), ("draw", 2), ("draw", 0)]


async def test_unfinished_is_what_was_begun_and_nobody_will_claim(store):
    for each in ("a", "b", "c", "d"):
        await store.insert(job(each))
    begun = [await store.claim(now=1.0) for _ in range(3)]
    await store.save(begun[0].completed((), now=2.0, publish_ms=0))
    await store.save(begun[1].put_back(due=9.0))

    assert ids(await store.unfinished()) == ["c"]


async def test_a_page_shows_the_newest_first_and_goes_on_behind_its_cursor(store):
    for number in range(5):
        await store.insert(job(f"{number}"))

    first = await store.page(limit=2)
    second = await store.page(limit=9, after=first[-1][0])

    assert [each.job_id for _, each in first] == ["4", "3"]
    assert [each.job_id for _, each in second] == ["2", "1", "0"]


async def test_a_page_is_narrowed_by_status_and_workflow(store):
    await store.insert(job("done"))
    await store.save((await store.claim(now=1.0)).completed((), now=2.0, publish_ms=0))
    await store.insert(job("waiting"))
    await store.insert(job("other", workflow="edit"))

    async def shown(**narrowed):
        return [each.job_id for _, each in await store.page(Selection(**narrowed), limit=9)]

    assert await shown(status=Status.COMPLETED) == ["done"]
    assert await shown(status=Status.FAILED) == []
    assert await shown(workflow="draw") == ["waiting", "done"]
    assert await shown(workflow="draw", status=Status.PENDING) == ["waiting"]


async def test_everything_is_there_after_it_was_closed_and_opened(store, close, open_store):
    await store.insert(job("a"))
    await store.insert(job("b"))
    done = (await store.claim(now=1.0)).completed((), now=2.0, publish_ms=0)
    await store.save(done)
    await close(store)

    again = await open_store()

    assert await again.get("a") == done
    assert ids([await again.claim(now=1.0)]) == ["b"]


async def test_a_second_copy_of_the_plugin_in_a_process_is_told(store, close, open_store):
    with pytest.raises(StoreUnusable, match="loaded the plugin twice"):
        await open_store()

    await store.insert(job("a"))
    await close(store)
    assert ids([await (await open_store()).get("a")]) == ["a"]


async def test_a_store_that_knew_no_priorities_is_taken_on(path, open_store):
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(f"{''.join(VERSIONS[:3])} PRAGMA user_version = 3;")
        for each in (job("a"), job("b")):
            document = each.model_dump_json(exclude={"priority"})
            db.execute(
                "INSERT INTO jobs (job_id, workflow, status, due, document)"
                " VALUES (?, 'draw', 'pending', 0, ?)",
                (each.job_id, document),
            )

    store = await open_store()
    await store.insert(job("high", priority="high"))

    claimed = [await store.claim(now=10.0) for _ in range(3)]
    assert [(each.job_id, each.priority) for each in claimed] == [
        ("high", "high"),
        ("a", "normal"),
        ("b", "normal"),
    ]


async def test_a_store_of_a_newer_version_is_left_alone(store, close, open_store, path):
    await close(store)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(StoreUnusable, match="newer version"):
        await open_store()

    assert path.read_bytes() == before


async def test_a_damaged_store_is_left_alone_unless_it_may_be_reset(open_store, path):
    path.parent.mkdir()
    damaged = b"This was a database once." * 100
    path.write_bytes(damaged)

    with pytest.raises(StoreUnusable, match="UNIFIED_API_RESET_STORE"):
        await open_store()

    assert path.read_bytes() == damaged


async def test_a_reset_sets_the_damaged_store_aside_and_begins_a_new_one(open_store, path):
    path.parent.mkdir()
    damaged = b"This was a database once." * 100
    path.write_bytes(damaged)

    store = await open_store(reset=True)

    await store.insert(job("a"))
    assert damaged in [each.read_bytes() for each in path.parent.glob("*damaged*")]


async def test_a_reset_leaves_a_sound_store_alone(store, close, open_store):
    await store.insert(job("a"))
    await close(store)

    again = await open_store(reset=True)

    assert await again.get("a")


async def test_a_store_that_is_not_open_says_so(path, stores):
    store = Store(path)
    stores.append(store)

    with pytest.raises(sqlite3.Error, match="not open"):
        await store.insert(job("a"))
    with pytest.raises(sqlite3.Error, match="not open"):
        await store.get("a")


async def test_a_commit_that_was_told_survives_a_kill(path, open_store):
    told = told_before_a_kill(path)

    store = await open_store()

    kept = [await store.get(job_id) for job_id in told]
    assert len(told) >= ENOUGH
    assert None not in kept


async def test_the_uploads_in_use_are_those_of_jobs_that_have_not_ended(store):
    waiting, running, ended, nested, last = (f"upload:{digit * 64}.png" for digit in "12345")
    await store.insert(job("ended", parameters={"image": ended}))
    await store.cancel("ended", now=2.0)
    await store.insert(job("running", parameters={"image": running}))
    await store.claim(now=2.0)
    await store.insert(job("waiting", parameters={"image": waiting, "text": "upload it"}))
    await store.insert(job("nested", parameters={"all": [{"image": nested}]}))
    for number in range(JOBS_AT_ONCE):
        await store.insert(job(f"without {number}"))
    await store.insert(job("last", parameters={"image": last}))

    assert await store.uploads_in_use() == {waiting, running, nested, last}


async def test_a_key_is_stored_with_its_job_once_and_goes_with_it(store):
    assert await store.insert(job("a"), key="k")
    assert not await store.insert(job("b"), key="k")

    assert (await store.of_key("k")).job_id == "a"
    assert await store.get("b") is None
    await store.cancel("a", now=2.0)
    await store.remove(["a"])
    assert await store.of_key("k") is None
    assert await store.insert(job("c"), key="k")


async def test_jobs_without_a_key_are_as_many_as_one_likes(store):
    assert [await store.insert(job(each)) for each in "abc"] == [True] * 3


@pytest.mark.parametrize("state", ["waiting", "running", "ended"])
async def test_a_job_that_was_submitted_here_is_never_replaced_or_forgotten(store, state):
    await store.insert(job("a"), key="k")
    if state != "waiting":
        await store.claim(now=1.0)
    if state == "ended":
        await store.save((await store.get("a")).completed((), now=2.0, publish_ms=0))
    before = await store.get("a")

    assert not await store.adopt(job("a", parameters={"seed": 2}).shared(table="t"))
    await store.forget("a")

    assert await store.get("a") == before == await store.of_key("k")
    assert (await store.claim(now=9.0) is not None) == (state == "waiting")


async def test_a_job_that_is_kept_elsewhere_is_never_replaced_by_one_submitted_here(store):
    guest = job("a").shared(table="t")
    await store.adopt(guest)

    assert not await store.insert(job("a"))

    assert await store.get("a") == guest


async def test_a_task_of_another_table_takes_nothing_of_the_earlier_one_with_it(store):
    await store.adopt(job("a", owner="ann").shared(table="one"))

    await store.adopt(job("a", owner="bob", workflow="edit").shared(table="two"))

    assert await store.page(Selection(owner="ann"), limit=9) == []
    assert await store.page(Selection(workflow="draw"), limit=9) == []
    ((_, found),) = await store.page(Selection(owner="bob", workflow="edit"), limit=9)
    assert found.table == "two"
