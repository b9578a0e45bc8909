"""Who is told of what while jobs run, in a form that the reference library takes."""

import sqlite3
from base64 import b64encode
from contextlib import closing

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError
from unified_api.jobs.errors import ExecutionFailed, OutOfMemory
from unified_api.jobs.health import State
from unified_api.jobs.job import Job, Status, Webhook
from unified_api.jobs.notify.outbox import Filter
from unified_api.jobs.prompt import Ending
from unified_api.jobs.store import JOBS, Store
from unified_api.routes import mount
from unified_api.routes.service import Surface

OLD, NEW = (f"whsec_{b64encode(letter * 32).decode()}" for letter in (b"o", b"n"))


def job(job_id="a", **fields):
    return Job(job_id=job_id, workflow="draw", parameters={}, created_at=1.0, **fields)


@pytest.fixture
def opened(bench, receiver):
    """An engine whose server tells the receiver of everything. What is given are settings."""

    async def start(**given):
        place = {"allow_hosts": receiver.place, "webhook_url": receiver.url}
        return await bench.open(**{**place, "webhook_secret": OLD, **given})

    return start


async def run(engine, bench):
    submitted = await engine.submit("draw", {"text": "镜头", "seed": 2**64 - 1})
    return await bench.ended(engine, submitted.job)


# What is told


async def test_a_job_is_told_of_when_it_starts_and_when_it_ends(opened, bench, receiver):
    job = await run(await opened(), bench)
    await bench.until(lambda: len(receiver.told) == 2)

    told = {told.message["type"]: told.message for told in receiver.told}
    assert told.keys() == {"job.started", "job.completed"}
    assert told["job.started"]["data"]["status"] == "processing"
    data = told["job.completed"]["data"]
    assert (data["job_id"], data["parameters"]) == (job.job_id, job.parameters)
    assert data["result_url"].startswith("https://api.example/")
    assert told["job.completed"]["timestamp"] == data["finished_at"]


async def test_a_job_that_fails_is_told_of_once_however_often_it_was_tried(opened, bench, receiver):
    bench.host.endings += [Ending(failure=OutOfMemory()), Ending(failure=ExecutionFailed("No."))]
    engine = await opened()

    job = await run(engine, bench)
    await bench.until(lambda: len(receiver.told) >= 2)
    await bench.crash(engine)

    assert job.attempt == 2
    assert sorted(receiver.events) == ["job.failed", "job.started"]
    failed = next(told.message for told in receiver.told if told.message["type"] == "job.failed")
    assert failed["data"]["error_detail"]["code"] == "execution_failed"


async def test_a_job_that_is_cancelled_before_it_starts_is_told_of_as_cancelled_only(
    opened, bench, receiver
):
    engine = await opened(fetch_ahead=1)
    bench.host.gate.clear()
    others = [(await engine.submit("draw", {})).job for _ in range(3)]
    last = (await engine.submit("draw", {})).job

    await engine.cancel(last.job_id)

    def of_last():
        return [told for told in receiver.told if told.message["data"]["job_id"] == last.job_id]

    await bench.until(of_last)
    assert [told.message["type"] for told in of_last()] == ["job.cancelled"]
    assert len(others) == 3


async def test_every_event_has_an_id_of_its_own(opened, bench, receiver):
    engine = await opened()

    for _ in range(2):
        await run(engine, bench)
    await bench.until(lambda: len(receiver.told) == 4)

    assert len({told.webhook_id for told in receiver.told}) == 4


async def test_a_job_that_names_a_receiver_has_it_told_of_the_events_it_wants(receiver, store):
    wanted = Webhook(url=receiver.url, events=("job.completed",))
    await store.insert(job(webhook=wanted))

    begun = await store.claim(now=2.0)
    assert await waiting(store) == []
    await store.save(begun.completed((), now=3.0, publish_ms=0))

    assert [(each.target, each.event) for each in await waiting(store)] == [
        ("job", "job.completed")
    ]


async def test_who_names_no_events_is_told_all_of_them(store):
    await store.insert(job(webhook=Webhook(url="https://a.example/")))

    begun = await store.claim(now=2.0)
    await store.save(begun.failed(ExecutionFailed(), now=3.0))

    assert [each.event for each in await waiting(store)] == ["job.started", "job.failed"]


async def test_the_server_and_the_job_have_a_receiver_each(path, bench):
    store = Store(path)
    await store.open(is_hooked=True)
    await store.insert(job(webhook=Webhook(url="https://A.example:8/b", events=("job.failed",))))

    begun = await store.claim(now=2.0)
    await store.save(begun.failed(ExecutionFailed(), now=3.0))

    notices = await waiting(store)
    assert [(each.target, each.event, each.site) for each in notices] == [
        ("server", "job.started", ""),
        ("server", "job.failed", ""),
        ("job", "job.failed", "https://a.example:8"),
    ]
    assert len({each.webhook_id for each in notices}) == 2
    await store.close()


# Signatures


async def test_what_is_told_is_signed_as_the_reference_library_wants_it(opened, bench, receiver):
    await run(await opened(), bench)
    await bench.until(lambda: len(receiver.told) == 2)

    for told in receiver.told:
        assert Verifier(OLD).verify(told.body, told.headers) == told.message
        with pytest.raises(WebhookVerificationError):
            Verifier(OLD).verify(told.body.replace(b"job.", b"gob."), told.headers)
        with pytest.raises(WebhookVerificationError):
            Verifier(NEW).verify(told.body, told.headers)


async def test_while_a_secret_is_changed_both_are_good(opened, bench, receiver):
    await run(await opened(webhook_secret=f"{NEW}, {OLD}"), bench)
    await bench.until(lambda: receiver.told)

    for secret in (OLD, NEW):
        assert Verifier(secret).verify(receiver.told[0].body, receiver.told[0].headers)


async def test_without_a_secret_nothing_is_signed_and_health_says_so(opened, bench, receiver):
    engine = await opened(webhook_secret="")

    await run(engine, bench)
    await bench.until(lambda: receiver.told)

    assert "webhook-signature" not in receiver.told[0].headers
    component = engine.components()["webhooks"]
    assert component.state is State.DEGRADED
    assert "UNIFIED_API_WEBHOOK_SECRET" in component.reason


async def test_a_server_that_tells_nobody_says_nothing_of_webhooks(bench):
    assert "webhooks" not in (await bench.open()).components()


# What survives


async def test_what_was_not_told_before_a_crash_is_told_after_it_by_the_same_id(
    opened, bench, receiver
):
    receiver.gate.clear()
    engine = await opened()
    done = await run(engine, bench)
    await bench.until(lambda: len(receiver.told) == 2)
    before = {told.webhook_id for told in receiver.told}
    await bench.crash(engine)
    receiver.gate.set()

    engine = await opened()
    await bench.until(lambda: len(receiver.told) == 4)

    assert {told.webhook_id for told in receiver.told[2:]} == before

    async def is_known():
        return len(await engine.deliveries(done.job_id)) == 2

    assert await bench.until(is_known)


async def test_a_change_and_its_notice_are_committed_together_or_not_at_all(store, path):
    await store.insert(job(webhook=Webhook(url="https://a.example/")))
    begun = await store.claim(now=2.0)
    execute(path, "ALTER TABLE outbox RENAME TO away")

    with pytest.raises(sqlite3.Error):
        await store.save(begun.completed((), now=3.0, publish_ms=0))
    assert (await store.get("a")).status is Status.PROCESSING

    execute(path, "ALTER TABLE away RENAME TO outbox")
    assert await store.save(begun.completed((), now=3.0, publish_ms=0))
    assert [each.event for each in await waiting(store)] == ["job.started", "job.completed"]


async def test_a_change_that_comes_too_late_is_not_told(store):
    await store.insert(job(webhook=Webhook(url="https://a.example/")))
    begun = await store.claim(now=2.0)
    await store.save(begun.completed((), now=3.0, publish_ms=0))

    assert not await store.save(begun.failed(ExecutionFailed(), now=4.0))

    assert [each.event for each in await waiting(store)] == ["job.started", "job.completed"]


async def test_a_store_of_the_first_version_is_taken_on(path):
    old = job(webhook=Webhook(url="https://a.example/"))
    path.parent.mkdir()
    execute(path, f"{JOBS} PRAGMA user_version = 1;")
    execute(
        path,
        "INSERT INTO jobs (job_id, workflow, status, due, document)"
        f" VALUES ('a', 'draw', 'pending', 0, '{old.model_dump_json()}')",
    )
    store = Store(path)
    await store.open()

    assert (await store.claim(now=2.0)).job_id == "a"

    assert [each.event for each in await waiting(store)] == ["job.started"]
    await store.close()


# Jobs that are kept elsewhere


async def test_a_guest_is_told_of_when_it_is_taken_up_first_and_when_it_has_ended(store):
    guest = job(webhook=Webhook(url="https://a.example/"), due=None).fetching(now=2.0).shared()

    await store.adopt(guest)
    again = guest.running(now=3.0)
    await store.adopt(again)
    await store.save(again.completed((), now=4.0, publish_ms=0))

    assert [each.event for each in await waiting(store)] == ["job.started", "job.completed"]


async def test_of_a_guest_that_was_begun_elsewhere_only_the_end_is_told(store):
    guest = job(webhook=Webhook(url="https://a.example/"), due=None).fetching(now=2.0)
    again = guest.running(now=3.0).shared()

    await store.adopt(again)
    await store.save(publishing := again.publishing((), run_ms=1))
    await store.save(publishing.completed((), now=4.0, publish_ms=0))

    assert [each.event for each in await waiting(store)] == ["job.completed"]


async def test_the_end_of_a_guest_is_told_once_whoever_brings_the_news(bench, receiver):
    engine = await bench.open(allow_hosts=receiver.place)
    ended = job(webhook=Webhook(url=receiver.url)).cancelled(now=2.0)

    await engine.guests.ended(ended)
    await bench.until(lambda: receiver.told)

    async def is_known():
        return await engine.deliveries("a")

    await bench.until(is_known)
    await engine.guests.ended(ended)
    await engine.guests.ended(ended.model_copy(update={"job_id": "b"}))
    await bench.until(lambda: len(receiver.told) == 2)

    assert [told.message["data"]["job_id"] for told in receiver.told] == ["a", "b"]


async def test_a_job_that_comes_again_after_it_was_deleted_is_told_of_again(store):
    first = job(webhook=Webhook(url="https://a.example/")).cancelled(now=2.0)

    await store.tell(first)
    await store.tell(first)
    await store.tell(first.model_copy(update={"created_at": 1.5}))

    assert len({each.webhook_id for each in await waiting(store)}) == 2


# Helpers


async def waiting(store):
    """What the outbox holds, oldest first."""
    found = []
    while due := await store.outbox.due(Filter(but_sequences=frozenset(found)), now=9e9):
        found += [each.sequence for each in due]
    return [await store.outbox.get(sequence) for sequence in sorted(found)]


def execute(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(sql)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "jobs.sqlite3"


@pytest.fixture
async def store(path):
    store = Store(path)
    await store.open()
    yield store
    await store.close()


async def test_each_try_can_be_read_over_http(opened, bench, receiver, aiohttp_client):
    receiver.answers = [(410, {})] * 2
    engine = await opened()
    app = web.Application()
    mount(app, engine, Surface("1"))
    client = await aiohttp_client(app)
    job = await run(engine, bench)

    async def told():
        reply = await client.get(f"/api/v1/jobs/{job.job_id}/deliveries")
        data = (await reply.json())["data"]
        return data if len(data) == 2 else None

    tries = await bench.until(told)
    assert {one["event"] for one in tries} == {"job.started", "job.completed"}
    assert {(one["attempt"], one["status"], one["target"]) for one in tries} == {(1, 410, "server")}
    assert all(one["at"].endswith("Z") for one in tries)


async def test_what_was_told_of_a_deleted_job_is_not_shown_of_a_task_of_its_id(
    opened, bench, receiver, aiohttp_client
):
    engine = await opened(webhook_secret=NEW)
    app = web.Application()
    mount(app, engine, Surface("1"))
    client = await aiohttp_client(app)
    deleted = await run(engine, bench)
    await bench.until(lambda: len(receiver.told) == 2)
    await engine.delete(deleted.job_id)

    class Home:
        async def save(self, job):
            return True

    task = job(deleted.job_id).model_copy(update={"parameters": {"seed": 1}}).fetching(now=2.0)
    await engine.guests.take_over(task, Home(), lambda: None, table="t")
    await bench.ended(engine, task)
    await bench.until(lambda: len(receiver.told) == 4)

    async def told():
        reply = await client.get(f"/api/v1/jobs/{task.job_id}/deliveries")
        return (await reply.json())["data"]

    async def shown():
        return len(await told()) >= 2

    await bench.until(shown)
    before = {told.webhook_id for told in receiver.told[:2]}
    assert before.isdisjoint(one["webhook_id"] for one in await told())
