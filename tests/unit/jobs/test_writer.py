"""Many writes at a time on a real file of SQLite: each for itself, few commits for all."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest
from unified_api.jobs.threads import Lane
from unified_api.jobs.writer import Writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.sqlite3"


@pytest.fixture
def db(path):
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
    yield db
    db.close()


@pytest.fixture
async def lane():
    lane = Lane("writer")
    yield lane
    await lane.close()


@pytest.fixture
def writer(lane, db):
    return Writer(lane, lambda: db)


@pytest.fixture
def hold(lane):
    """Keep the lane busy until the event is set."""
    held = threading.Event()
    lane.begin(held.wait)
    yield held
    held.set()


@pytest.fixture
def commits(db):
    said = []
    db.set_trace_callback(lambda sql: said.append(sql) if sql == "COMMIT" else None)
    return said


def insert(db, number):
    db.execute("INSERT INTO numbers VALUES (?)", (number,))
    return number


def insert_and_fail(db, number):
    insert(db, number)
    raise ValueError(number)


def kept(path):
    """As another process finds it."""
    with closing(sqlite3.connect(path)) as other:
        return [number for (number,) in other.execute("SELECT number FROM numbers ORDER BY number")]


async def test_what_comes_while_the_disk_is_busy_is_committed_together(writer, hold, commits, path):
    writes = [asyncio.ensure_future(writer.run(insert, number)) for number in range(50)]
    await asyncio.sleep(0.01)
    hold.set()

    assert await asyncio.gather(*writes) == list(range(50))
    assert kept(path) == list(range(50))
    assert len(commits) == 1


async def test_an_answer_comes_after_the_commit(writer, path):
    for number in range(5):
        await writer.run(insert, number)
        assert kept(path)[-1] == number


async def test_what_one_raises_undoes_its_own_changes_only(writer, hold, path):
    works = [(insert, 1), (insert_and_fail, 2), (insert, 3), (insert, 3), (insert, 4)]
    writes = [asyncio.ensure_future(writer.run(*work)) for work in works]
    await asyncio.sleep(0.01)
    hold.set()

    told = await asyncio.gather(*writes, return_exceptions=True)

    assert [type(each) for each in told] == [int, ValueError, int, sqlite3.IntegrityError, int]
    assert kept(path) == [1, 3, 4]


async def test_nobody_is_told_of_success_when_all_was_rolled_back(writer, hold, path, db):
    """As SQLite does it by itself when the disk is full."""
    works = [(insert, 1), (lambda db, _: db.execute("ROLLBACK"), 2), (insert, 3)]
    writes = [asyncio.ensure_future(writer.run(*work)) for work in works]
    await asyncio.sleep(0.01)
    hold.set()

    told = await asyncio.gather(*writes, return_exceptions=True)

    assert [isinstance(each, sqlite3.Error) for each in told] == [True, True, True]
    assert kept(path) == []
    assert await writer.run(insert, 4) == 4


async def test_a_file_that_is_locked_is_told_to_all(writer, hold, path, db):
    db.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = [asyncio.ensure_future(writer.run(insert, number)) for number in range(3)]
    await asyncio.sleep(0.01)
    hold.set()

    told = await asyncio.gather(*writes, return_exceptions=True)

    assert {type(each) for each in told} == {sqlite3.OperationalError}
    other.execute("COMMIT")
    other.close()
    assert await writer.run(insert, 9) == 9


async def test_what_is_cancelled_before_its_turn_is_not_done(writer, hold, path):
    writes = [asyncio.ensure_future(writer.run(insert, number)) for number in range(3)]
    await asyncio.sleep(0.01)
    writes[1].cancel()
    await asyncio.sleep(0.01)
    hold.set()

    await asyncio.gather(*writes, return_exceptions=True)

    assert kept(path) == [0, 2]
