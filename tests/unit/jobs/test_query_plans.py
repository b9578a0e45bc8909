"""No query of the job store reads the whole table, however many jobs are kept."""

import itertools
import re
import sqlite3

import pytest
from unified_api.jobs.job import Job, Status, Webhook
from unified_api.jobs.notify.outbox import Filter, Telling
from unified_api.jobs.retention import JOBS_AT_ONCE
from unified_api.jobs.selection import Selection
from unified_api.jobs.store import Store, open_database

#: What reads rows in another order than they are wanted, or more of them than are wanted.
#: (`tenants` and `json_each` are short lists: who has webhooks, and what to pass over.)
FINE = "jobs USING INDEX jobs_waiting|tenants|json_(tree|each)|CONSTANT"
COSTLY = re.compile(rf"SCAN (?!{FINE})|USE TEMP B-TREE")

FILTERS = {
    "status": Status.FAILED,
    "workflow": "draw",
    "owner": "studio",
    "created_after": 1.0,
    "created_before": 9.0,
}
NAMES = frozenset({"a", "b"})
FILTERS_OF_OUTBOX = [
    Filter(frozenset({7}), NAMES, NAMES, NAMES, None),
    Filter(but_tenants=NAMES, only_receivers=NAMES),
]
SELECTIONS = [
    Selection(**{name: FILTERS[name] for name in names})
    for count in range(len(FILTERS) + 1)
    for names in itertools.combinations(FILTERS, count)
]


@pytest.fixture
def statements():
    """What SQLite was asked to do, as it was told."""
    return []


@pytest.fixture
async def store(tmp_path, statements):
    def watched(path):
        database = open_database(path)
        database.set_trace_callback(statements.append)
        return database

    store = Store(tmp_path / "jobs.sqlite3", connect=watched)
    await store.open()
    statements.clear()
    yield store
    await store.close()


@pytest.fixture
def assert_quick(tmp_path, statements):
    """That nothing asked since is costly, and that something was asked."""

    def look():
        database = sqlite3.connect(tmp_path / "jobs.sqlite3")
        plans = {each: plan_of(database, each) for each in statements if is_query(each)}
        database.close()
        assert plans
        assert [(each, plan) for each, plan in plans.items() if is_costly(each, plan)] == []

    return look


def is_costly(statement, plan):
    names_jobs = " jobs " in statement and re.search(r"WHERE job_id (=|IN)", statement)
    return COSTLY.search(plan) or (names_jobs and "(job_id=?" not in plan)


def is_query(statement):
    return statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))


def plan_of(database, statement):
    return "; ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}"))


def job(**fields):
    given = {"job_id": "a", "workflow": "draw", "parameters": {}, "created_at": 1.0, **fields}
    return Job(**given)


async def life_of_a_job(store):
    hook = Webhook(url="https://example.org/hook")
    await store.insert(job(webhook=hook), key="k")
    await store.of_key("k")
    begun = await store.claim(now=2.0)
    await store.save(begun)
    await store.save(begun.cancelled(now=3.0))
    await store.tell(begun.cancelled(now=3.0))
    await store.get("a")
    await store.remove([f"{number}" for number in range(JOBS_AT_ONCE)])


async def what_else_changes(store):
    await store.adopt(job().shared())
    await store.forget("a")
    await store.insert(job(job_id="b"))
    await store.cancel("b", now=2.0)
    await store.give_up(now=2.0)


async def what_is_asked_now_and_then(store):
    await store.unfinished()
    await store.remove_unreadable("a")
    await store.from_oldest(after=0, limit=10)
    await store.count_unfinished("studio")
    await store.uploads_in_use()
    await store.waiting()
    await store.run_times(most=10)


async def webhooks(store):
    await store.insert(job(webhook=Webhook(url="https://example.org/hook")))
    await store.cancel("a", now=2.0)
    (due,) = await store.outbox.due(now=2.0)
    for wanted in FILTERS_OF_OUTBOX:
        await store.outbox.due(wanted, now=2.0)
    notice = await store.outbox.get(due.sequence)
    how = {"at": 3.0, "status": 500, "error": "HTTP 500"}
    telling = Telling(
        webhook_id=notice.webhook_id, target=notice.target, event=notice.event, attempt=1, **how
    )
    await store.outbox.record(notice, telling, due=4.0)
    await store.outbox.record(notice, telling, due=None)
    await store.outbox.of("a")


@pytest.mark.parametrize(
    "use", [life_of_a_job, what_else_changes, what_is_asked_now_and_then, webhooks]
)
async def test_no_query_scans_a_table(store, assert_quick, use):
    await use(store)

    assert_quick()


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("after", [None, 5])
async def test_no_list_scans_a_table(store, assert_quick, selection, after):
    await store.page(selection, limit=20, after=after)

    assert_quick()


async def test_all_that_a_store_can_be_asked_is_looked_at_here():
    asked = [life_of_a_job, what_else_changes, what_is_asked_now_and_then, webhooks]
    names = {name for use in asked for name in use.__code__.co_names}
    public = {name for name in vars(Store) if not name.startswith("_")}

    assert public - names == {"open", "close", "page"}
