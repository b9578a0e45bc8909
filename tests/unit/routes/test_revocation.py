"""Whoever may have something no more is told so, and gets no more of it: streams and long polls."""

from __future__ import annotations

import asyncio
import json

import pytest
from unified_api.routes.auth import Keyring
from unified_api.routes.limits import Limits, Streams

from .door import DRAW, JOBS, bearer, key, submitted

RECHECK_SECONDS = 0.05


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.json"


@pytest.fixture
async def client(door, bench, file):
    """Jobs run until the gate opens, and the file has the keys of Ann and an admin."""
    bench.host.gate.clear()
    write(file, key("ann"), key("root", ["admin"]))
    yield await door(keyring=Keyring(file=file), recheck_seconds=RECHECK_SECONDS)
    bench.host.gate.set()


def write(file, *keys):
    part = file.with_suffix(".part")
    part.write_text(json.dumps([json.loads(each.model_dump_json()) for each in keys]))
    part.replace(file)


ROOT = key("root", ["admin"])
#: What the file has after a change, and what somebody with Ann's key is told then.
CHANGES = {
    "revoked": ([ROOT], 401, "unauthorized"),
    "lost its scopes": ([ROOT, key("ann", ["cancel"])], 403, "forbidden"),
    "of another now": ([ROOT, key("ann").model_copy(update={"name": "bob"})], 404, "unknown_job"),
}


@pytest.mark.parametrize("query", ["", "?previews=true"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_stream_ends_with_the_reason_once_its_key_does(client, file, change, query):
    keys, status, code = CHANGES[change]
    job_id = await submitted(client)
    stream = await client.get(f"{JOBS}/{job_id}/events{query}", headers=bearer())
    await stream.content.readuntil(b"event: status")

    write(file, *keys)

    name, told = last_event(await asyncio.wait_for(stream.text(), 10))
    assert (name, told["status"], told["code"]) == ("problem", status, code)
    assert "id" not in told
    assert told["instance"] == f"{JOBS}/{job_id}/events"


@pytest.mark.parametrize("change", CHANGES)
async def test_a_long_poll_ends_with_the_reason_once_its_key_does(client, file, change):
    keys, status, code = CHANGES[change]
    job_id = await submitted(client)
    poll = asyncio.ensure_future(client.get(f"{JOBS}/{job_id}?wait=60", headers=bearer()))
    await asyncio.sleep(2 * RECHECK_SECONDS)
    assert not poll.done()

    write(file, *keys)

    reply = await asyncio.wait_for(poll, 10)
    assert (reply.status, (await reply.json())["code"]) == (status, code)


async def test_who_waits_for_what_he_submits_is_refused_once_his_key_is(client, file):
    waiting = {**bearer(), "Prefer": "wait=60"}
    post = asyncio.ensure_future(client.post(DRAW, json={}, headers=waiting))
    await asyncio.sleep(2 * RECHECK_SECONDS)
    assert not post.done()

    write(file, ROOT)

    assert (await asyncio.wait_for(post, 10)).status == 401


async def test_a_key_that_loses_other_scopes_goes_on(client, file, bench):
    job_id = await submitted(client)
    stream = await client.get(f"{JOBS}/{job_id}/events", headers=bearer())
    await stream.content.readuntil(b"event: status")
    poll = asyncio.ensure_future(client.get(f"{JOBS}/{job_id}?wait=60", headers=bearer()))

    for scope in ("submit", "read", "read-all"):
        write(file, key("ann", [scope]))
        await asyncio.sleep(3 * RECHECK_SECONDS)
    bench.host.gate.set()

    name, told = last_event(await asyncio.wait_for(stream.text(), 10))
    assert (name, told["status"]) == ("status", "completed")
    assert (await (await poll).json())["status"] == "completed"


async def test_who_sees_everybodys_jobs_no_more_loses_the_stream_of_anothers(client, file):
    job_id = await submitted(client)
    write(file, key("ann"), key("eye", ["read-all"]))
    stream = await client.get(f"{JOBS}/{job_id}/events", headers=bearer("eye"))
    await stream.content.readuntil(b"event: status")

    write(file, key("ann"), key("eye", ["read"]))

    name, told = last_event(await asyncio.wait_for(stream.text(), 10))
    assert (name, told["code"]) == ("problem", "unknown_job")


async def test_the_first_key_ends_the_streams_of_those_without_one(door, bench, file):
    bench.host.gate.clear()
    client = await door(keyring=Keyring(file=file), recheck_seconds=RECHECK_SECONDS)
    job = await (await client.post(DRAW, json={})).json()
    stream = await client.get(job["urls"]["events"])
    await stream.content.readuntil(b"event: status")

    write(file, key("ann"))

    name, told = last_event(await asyncio.wait_for(stream.text(), 10))
    assert (name, told["code"]) == ("problem", "unauthorized")
    bench.host.gate.set()


async def test_a_stream_that_is_refused_gives_its_place_back(door, bench, file):
    bench.host.gate.clear()
    write(file, key("ann"), key("eye", ["read-all"]))
    limits = Limits(streams=Streams(1))
    keyring = Keyring(file=file)
    client = await door(keyring=keyring, limits=limits, recheck_seconds=RECHECK_SECONDS)
    path = f"{JOBS}/{await submitted(client)}/events"
    first = await client.get(path, headers=bearer("eye"))
    assert (await client.get(path, headers=bearer("eye"))).status == 429

    write(file, key("ann"))
    await asyncio.wait_for(first.text(), 10)
    write(file, key("ann"), key("eye", ["read-all"]))

    again = await client.get(path, headers=bearer("eye"))
    assert again.status == 200
    bench.host.gate.set()
    assert last_event(await again.text())[0] == "status"


class CountingKeyring(Keyring):
    """Counts the looks at its file that are not spared."""

    looks = 0

    async def _look(self, path):
        self.looks += 1
        return await super()._look(path)


async def test_many_streams_share_the_looks_at_the_file(door, bench, file):
    bench.host.gate.clear()
    write(file, key())
    keyring = CountingKeyring(file=file)
    client = await door(keyring=keyring, recheck_seconds=0.5)
    job_id = await submitted(client)
    streams = []
    for _ in range(20):
        streams.append(await client.get(f"{JOBS}/{job_id}/events", headers=bearer()))
        await asyncio.sleep(0.02)
    keyring.looks = 0

    await asyncio.sleep(1.0)

    assert 2 <= keyring.looks <= 5
    bench.host.gate.set()
    await asyncio.gather(*(stream.text() for stream in streams))


def last_event(text):
    *_, frame = (each for each in text.split("\n\n") if "event: " in each)
    fields = dict(line.split(": ", 1) for line in frame.split("\n"))
    return fields["event"], json.loads(fields["data"])
