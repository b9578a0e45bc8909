"""What becomes of webhooks whose receivers do not take them, by a clock that the tests set."""

import asyncio
import sqlite3
import time
from contextlib import closing
from email.utils import formatdate

import pytest
from unified_api.jobs.job import Job, Webhook
from unified_api.jobs.notify.outbox import MOST_REMEMBERED
from unified_api.jobs.notify.retries import JITTER, PAUSES_SECONDS
from unified_api.jobs.notify.scheduler import Kind, Limits
from unified_api.jobs.notify.webhooks import Webhooks
from unified_api.jobs.store import Store

from ..fake_host import described, until

SHORTEST, LONGEST = 1 - JITTER - 0.01, 1 + JITTER + 0.01


def ended(receiver, job_id="a", **fields):
    """A job that has just been cancelled, and whose receiver wants to know."""
    given = {"workflow": "draw", "parameters": {}, "created_at": time.time(), **fields}
    job = Job(job_id=job_id, webhook=Webhook(url=receiver.url), **given)
    return job.cancelled(now=time.time())


class Teller:
    """Webhooks at work on a store, where time passes when `passes` says so."""

    def __init__(self, store, settings, describe) -> None:
        self.now = time.time()
        self.store = store
        self.webhooks = Webhooks(store.outbox, settings, describe, clock=lambda: self.now)
        self._working = asyncio.ensure_future(self.webhooks.work())

    async def tell(self, job):
        """Have an event told, and return when everything was tried."""
        await self.store.tell(job)
        await self.webhooks.settle()

    async def passes(self, seconds):
        self.now += seconds
        await self.webhooks.settle()

    async def log(self, job_id="a"):
        tries = await self.store.outbox.of(job_id)
        return [(each.attempt, each.status, each.error) for each in tries]

    async def stop(self):
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)


@pytest.fixture
async def store(tmp_path):
    store = Store(tmp_path / "jobs.sqlite3")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def hooked_store(tmp_path):
    """Of a server that has a receiver of its own."""
    store = Store(tmp_path / "hooked.sqlite3")
    await store.open(is_hooked=True)
    yield store
    await store.close()


@pytest.fixture
async def teller_on(store, settings):
    opened = []

    async def start(*allowed, on=store, describe=described, **given):
        places = ",".join(receiver.place for receiver in allowed)
        opened.append(Teller(on, settings(allow_hosts=places, **given), describe))
        # It begins to work.
        await asyncio.sleep(0)
        return opened[-1]

    yield start
    for teller in opened:
        await teller.stop()


# Again and again


async def test_what_is_not_taken_is_told_again_by_the_same_id_after_longer_and_longer_pauses(
    teller_on, receiver
):
    receiver.answers += [(500, {})] * len(PAUSES_SECONDS)
    teller = await teller_on(receiver)
    await teller.tell(ended(receiver))

    for number, pause in enumerate(PAUSES_SECONDS, 1):
        await teller.passes(SHORTEST * pause)
        assert len(receiver.told) == number
        await teller.passes((LONGEST - SHORTEST) * pause)
        assert len(receiver.told) == number + 1

    assert len({told.webhook_id for told in receiver.told}) == 1
    stamps = [int(told.headers["webhook-timestamp"]) for told in receiver.told]
    assert stamps == sorted(set(stamps))
    assert await teller.log() == [
        *((number, 500, "refused") for number in range(1, 9)),
        (9, 204, None),
    ]


async def test_after_the_last_try_it_is_given_up(teller_on, receiver):
    receiver.answers += [(404, {})] * (len(PAUSES_SECONDS) + 1)
    teller = await teller_on(receiver)
    await teller.tell(ended(receiver))

    for pause in PAUSES_SECONDS:
        await teller.passes(LONGEST * pause)
    await teller.passes(30 * 86400)

    assert len(receiver.told) == len(PAUSES_SECONDS) + 1


async def test_who_is_gone_is_not_told_again(teller_on, receiver):
    receiver.answers.append((410, {}))
    teller = await teller_on(receiver)

    await teller.tell(ended(receiver))
    await teller.passes(86400)

    assert await teller.log() == [(1, 410, "gone")]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("is_date", [False, True])
async def test_who_says_when_to_come_again_is_heard(teller_on, receiver, status, is_date):
    teller = await teller_on(receiver)
    wish = formatdate(teller.now + 1000, usegmt=True) if is_date else "1000"
    receiver.answers.append((status, {"Retry-After": wish}))

    await teller.tell(ended(receiver))
    await teller.passes(990)
    assert len(receiver.told) == 1

    await teller.passes(11)
    assert len(receiver.told) == 2


async def test_nobody_is_waited_for_longer_than_the_longest_pause(teller_on, receiver):
    receiver.answers.append((429, {"Retry-After": "9" * 30}))
    teller = await teller_on(receiver)

    await teller.tell(ended(receiver))
    await teller.passes(PAUSES_SECONDS[-1] + 1)

    assert len(receiver.told) == 2


async def test_a_redirect_is_not_followed(teller_on, receiver, receive):
    other = await receive()
    receiver.answers.append((302, {"Location": other.url}))
    teller = await teller_on(receiver, other)

    await teller.tell(ended(receiver))

    assert (len(receiver.told), other.told) == (1, [])
    assert await teller.log() == [(1, 302, "redirected")]


async def test_a_private_address_is_not_told(teller_on, receiver):
    teller = await teller_on()

    await teller.tell(ended(receiver))

    assert receiver.told == []
    assert await teller.log() == [(1, None, "forbidden_source")]


async def test_who_is_not_there_is_tried_again(teller_on, receiver):
    teller = await teller_on(receiver)
    job = ended(receiver)
    await receiver.server.close()

    await teller.tell(job)

    assert await teller.log() == [(1, None, "unreachable")]


async def test_a_job_that_cannot_be_described_is_tried_again(teller_on, receiver):
    async def undescribed(job):
        raise LookupError(job.job_id)

    teller = await teller_on(receiver, describe=undescribed)

    await teller.tell(ended(receiver))

    assert (await teller.log(), receiver.told) == ([(1, None, "internal_error")], [])


async def test_a_setting_that_is_corrected_counts_for_what_waits(
    teller_on, hooked_store, receiver, receive
):
    wrong = await receive()
    wrong.answers.append((404, {}))
    teller = await teller_on(wrong, on=hooked_store, webhook_url=wrong.url)
    await teller.tell(ended(receiver).model_copy(update={"webhook": None}))
    assert "UNIFIED_API_WEBHOOK_URL could not be told: refused" in teller.webhooks.problem
    await teller.stop()

    corrected = await teller_on(receiver, on=hooked_store, webhook_url=receiver.url)
    await corrected.passes(10)

    assert (len(wrong.told), len(receiver.told)) == (1, 1)


async def test_a_receiver_of_the_server_that_may_not_be_told_is_a_problem(teller_on, receiver):
    teller = await teller_on(webhook_url=receiver.url)

    assert "UNIFIED_API_ALLOW_HOSTS" in teller.webhooks.problem


# Time and others


async def test_a_clock_that_was_set_back_delays_nothing(teller_on, receiver):
    receiver.answers.append((500, {}))
    teller = await teller_on(receiver)
    await teller.tell(ended(receiver))

    await teller.passes(-7 * 86400)

    assert len(receiver.told) == 2


async def test_a_clock_that_was_set_forward_costs_one_pause(teller_on, receiver):
    receiver.answers += [(500, {})] * 9
    teller = await teller_on(receiver)
    await teller.tell(ended(receiver))

    await teller.passes(365 * 86400)

    assert len(receiver.told) == 2


async def test_a_slow_receiver_keeps_only_his_own_waiting(teller_on, receiver, receive):
    slow = await receive()
    slow.gate.clear()
    teller = await teller_on(receiver, slow)
    for number in range(3 * Limits().per_site):
        await teller.store.tell(ended(slow, f"slow-{number}"))

    await teller.store.tell(ended(receiver))
    await until(lambda: receiver.told)

    assert len(slow.told) <= Limits().of_receiver(Kind.NEW)
    slow.gate.set()
    await teller.webhooks.settle()
    assert len(slow.told) == 3 * Limits().per_site


# What is sent and what is kept


async def test_a_large_job_is_told_without_its_parameters(teller_on, receiver):
    teller = await teller_on(receiver)

    await teller.tell(ended(receiver, parameters={"text": "长" * 8000}, metadata={"order": "7"}))

    (told,) = receiver.told
    assert len(told.body) < 20_000
    data = told.message["data"]
    assert "parameters" not in data
    assert (data["job_id"], data["metadata"]) == ("a", {"order": "7"})


async def test_the_log_tells_when_who_was_told_of_what(teller_on, receiver):
    teller = await teller_on(receiver)

    await teller.tell(ended(receiver))

    (telling,) = await teller.store.outbox.of("a")
    assert (telling.target, telling.event, telling.at) == ("job", "job.cancelled", teller.now)
    assert telling.webhook_id == receiver.told[0].webhook_id


async def test_the_log_does_not_grow_for_ever(teller_on, receiver, tmp_path):
    teller = await teller_on(receiver)
    await teller.tell(ended(receiver, "old"))
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3", isolation_level=None)) as db:
        db.execute(
            "INSERT INTO tellings SELECT ?, 'x', 'x', target, event, 1, at, status, error"
            " FROM tellings",
            (MOST_REMEMBERED,),
        )

    await teller.tell(ended(receiver, "new"))

    assert (await teller.log("old"), await teller.log("new")) == ([], [(1, 204, None)])


async def test_no_url_gets_into_the_log_of_the_process(teller_on, receiver, caplog):
    receiver.answers.append((500, {}))
    teller = await teller_on(receiver)

    await teller.tell(ended(receiver))

    assert "job a: job.cancelled was not told" in caplog.text
    assert "hidden" not in caplog.text
