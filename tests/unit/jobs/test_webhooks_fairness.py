"""Nobody's webhooks wait for the receivers of others, by real connections and real time."""

import asyncio
import socket
import sqlite3
import time
from contextlib import closing
from threading import Event

import pytest
from unified_api.jobs.egress.lookups import Lookups
from unified_api.jobs.job import Job, Webhook
from unified_api.jobs.notify.scheduler import Kind, Limits
from unified_api.jobs.notify.webhooks import Webhooks
from unified_api.jobs.store import Store

from ..fake_host import described, until

SOON_SECONDS = 2.0
LIMITS = Limits()
#: What one tenant may keep waiting at sites that nothing is known of.
NEW = LIMITS.of_tenant(Kind.NEW)
#: A time limit that a test can wait for, and what is slow within it.
SHORT = {"webhook_timeout": "0.6", "webhook_slow_seconds": "0.2"}


class Sites:
    """Servers that all do the same."""

    def __init__(self, after, status):
        self._after, self._status = after, status
        self.told = []
        self.places = []
        #: Requests that wait for their answer, and the most there were.
        self.waiting = self.most_waiting = 0

    @property
    def urls(self):
        return [f"http://{place}/hook" for place in self.places]

    def recovers(self):
        self._after, self.most_waiting = 0.05, 0

    async def answer(self, path, writer):
        self.told.append(path)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        await asyncio.sleep(self._after)
        self.waiting -= 1
        writer.write(f"HTTP/1.1 {self._status} X\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.fixture
async def store(tmp_path):
    store = Store(tmp_path / "jobs.sqlite3")
    await store.open(is_hooked=True)
    yield store
    await store.close()


@pytest.fixture
def sites(serve):
    """`await sites(count, after=3)` are sites that answer `status` after so many seconds."""

    async def start(count=1, *, after=0.0, status=204):
        found = Sites(after, status)
        found.places = [f"127.0.0.1:{(await serve(found.answer)).port}" for _ in range(count)]
        return found

    return start


@pytest.fixture
async def start(store, settings):
    """`await start(*sites)` begins to tell what the outbox holds."""
    working = []

    async def begin(*known, **given):
        places = ",".join(place for each in known for place in each.places)
        given = {"webhook_url": "", "allow_hosts": places, **given}
        webhooks = Webhooks(store.outbox, settings(**given), described)
        working.append(asyncio.ensure_future(webhooks.work()))

    yield begin
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)


@pytest.fixture
def tell(store):
    """`await tell("alice", url)`: a job of hers has ended."""
    numbers = iter(range(10**6))

    async def end(owner, *urls):
        for url in urls:
            job = Job(
                job_id=f"{owner}-{next(numbers)}",
                workflow="draw",
                parameters={},
                owner=owner,
                created_at=time.time(),
                webhook=Webhook(url=url, events=("job.cancelled",)) if url else None,
            )
            await store.tell(job.cancelled(now=time.time()))

    return end


@pytest.fixture
def silent_names(monkeypatch):
    """The names below .example that were asked for; their name server never answers."""
    asked, gate, ask = [], Event(), socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        if str(host).endswith(".example"):
            asked.append(host)
            gate.wait(60)
        return ask(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    gate.set()


async def seconds_until(told, number=1):
    begun = time.monotonic()
    await until(lambda: len(told) >= number)
    return time.monotonic() - begun


# One tenant and the others


async def test_200_silent_sites_of_one_tenant_delay_nobody_else(sites, start, tell):
    silent, good = await sites(200, after=60), await sites()
    await tell("mallory", *silent.urls)
    await start(silent, good)
    await seconds_until(silent.told, NEW)

    await tell("alice", *good.urls)

    assert await seconds_until(good.told) < SOON_SECONDS
    assert len(silent.told) == NEW


async def test_names_whose_servers_are_silent_delay_nobody_else(silent_names, sites, start, tell):
    good = await sites()
    good.places = [place.replace("127.0.0.1", "localhost") for place in good.places]
    await tell("mallory", *(f"http://{number}.example/" for number in range(200)))
    await start(good)
    await seconds_until(silent_names, NEW)

    await tell("alice", *good.urls)

    assert await seconds_until(good.told) < SOON_SECONDS


async def test_who_answers_500_at_once_has_his_turn_like_everybody(sites, start, tell):
    failing, good = await sites(50, status=500), await sites()
    await tell("mallory", *failing.urls * 8)
    await tell("alice", *good.urls)
    await start(failing, good)

    assert await seconds_until(good.told) < SOON_SECONDS
    assert len(failing.told) < 100


async def test_callers_without_a_key_are_one_tenant(sites, start, tell):
    silent, good = await sites(200, after=60), await sites()
    await tell(None, *silent.urls)
    await start(silent, good)
    await seconds_until(silent.told, NEW)

    await tell("alice", *good.urls)

    assert await seconds_until(good.told) < SOON_SECONDS


# The server's own receiver


async def test_silent_sites_of_a_tenant_do_not_delay_the_receiver_of_the_server(sites, start, tell):
    silent, own = await sites(200, after=60), await sites()
    await start(silent, own, webhook_url=own.urls[0])

    await tell("mallory", *silent.urls)

    assert await seconds_until(own.told, 200) < 5 * SOON_SECONDS


async def test_a_silent_receiver_of_the_server_delays_no_tenant(sites, start, tell):
    own, good = await sites(after=60), await sites()
    await start(own, good, webhook_url=own.urls[0])
    await tell("alice", *[None] * 50)
    await seconds_until(own.told, 4)

    await tell("alice", *good.urls)

    assert await seconds_until(good.told) < SOON_SECONDS


# Many tenants


async def test_sites_that_answer_just_in_time_never_fill_all_places(sites, start, tell):
    slow, good = await sites(16, after=0.5), await sites()
    await start(slow, good, **SHORT)
    tenants = [f"mallory-{number}" for number in range(8)]
    for tenant in tenants:
        await tell(tenant, *slow.urls)
    await until(lambda: len(slow.told) == 128 and not slow.waiting)
    # Each of them is known to be slow by now.
    slow.most_waiting = 0

    for tenant in tenants:
        await tell(tenant, *slow.urls)
    await seconds_until(slow.told, 140)
    await tell("alice", *good.urls)

    assert await seconds_until(good.told) < SOON_SECONDS
    await seconds_until(slow.told, 200)
    assert slow.most_waiting == LIMITS.slow


async def test_places_are_kept_for_sites_that_answer(sites, start, tell):
    silent, good = await sites(200, after=60), await sites()
    await start(silent, good)
    await tell("alice", *good.urls)
    await seconds_until(good.told)
    # As many as would fill all places, each with new sites.
    for number in range(8):
        await tell(f"mallory-{number}", *silent.urls[number::8])
    await seconds_until(silent.told, LIMITS.of_kind(Kind.NEW))
    await asyncio.sleep(0.3)

    await tell("alice", *good.urls)

    assert await seconds_until(good.told, 2) < SOON_SECONDS
    assert len(silent.told) == LIMITS.of_kind(Kind.NEW)


async def test_two_tenants_share_a_site_that_one_of_them_keeps_waiting(sites, start, tell):
    shared = await sites(after=60)
    await start(shared)
    await tell("mallory", *shared.urls * 20)
    most = LIMITS.of_receiver(Kind.NEW)
    await seconds_until(shared.told, most)

    await tell("alice", *shared.urls)

    assert await seconds_until(shared.told, most + 1) < SOON_SECONDS
    assert len(shared.told) == most + 1


# Within one tenant


async def test_the_good_sites_of_a_tenant_do_not_wait_for_its_silent_ones(sites, start, tell):
    silent, good = await sites(200, after=60), await sites()
    await start(silent, good)
    await tell("mallory", *good.urls)
    await seconds_until(good.told)
    await tell("mallory", *silent.urls)
    await seconds_until(silent.told, NEW)

    await tell("mallory", *good.urls)

    assert await seconds_until(good.told, 2) < SOON_SECONDS


async def test_a_site_that_answers_again_is_no_longer_slow(sites, start, tell):
    site = await sites(after=60)
    await start(site, **SHORT)
    await tell("alice", *site.urls)
    await until(lambda: site.told)
    await asyncio.sleep(0.8)
    site.recovers()

    await tell("alice", *site.urls * 100)

    await seconds_until(site.told, 101)
    assert site.most_waiting > LIMITS.of_receiver(Kind.SLOW)


# Names


async def test_names_are_looked_up_beside_the_threads_of_others(silent_names):
    lookups = Lookups()
    waiting = [asyncio.ensure_future(lookups.resolve(f"{n}.example")) for n in range(100)]
    await seconds_until(silent_names, 100)

    begun = time.monotonic()
    await asyncio.get_running_loop().run_in_executor(None, int)

    assert time.monotonic() - begun < SOON_SECONDS
    await lookups.close()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_name_is_looked_up_once_at_a_time(silent_names):
    lookups = Lookups()
    waiting = [asyncio.ensure_future(lookups.resolve("a.example", 80)) for _ in range(9)]
    await seconds_until(silent_names)
    await asyncio.sleep(0.1)

    assert silent_names == ["a.example"]
    await lookups.close()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_name_is_looked_up_by_the_system():
    lookups = Lookups()

    found = await lookups.resolve("localhost", 80)

    assert ("127.0.0.1", 80) in {(each["host"], each["port"]) for each in found}
    await lookups.close()


async def test_a_name_without_an_address_is_an_error_of_the_system():
    lookups = Lookups()

    with pytest.raises(socket.gaierror):
        await lookups.resolve("no-such-name.invalid")
    await lookups.close()


# The store


async def test_a_store_of_the_same_version_from_before_is_read_in_turns(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    await opened_and_closed(path)
    execute(path, "DROP INDEX outbox_by_tenant")
    version = execute(path, "PRAGMA user_version")

    await opened_and_closed(path)

    assert execute(path, "PRAGMA user_version") == version
    assert execute(path, "SELECT count(*) FROM sqlite_master WHERE name = 'outbox_by_tenant'") == 1


async def opened_and_closed(path):
    store = Store(path)
    await store.open()
    await store.close()


def execute(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        found = db.execute(sql).fetchone()
    return found and found[0]
