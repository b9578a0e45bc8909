"""The same request twice makes one job."""

import asyncio
import sqlite3
from contextlib import closing
from uuid import UUID

import pytest
from multidict import CIMultiDict
from unified_api.jobs.job import Job
from unified_api.routes.auth import Keyring

from .door import DRAW, bearer, code_of, key, listed


async def post_with(client, idempotency_key, body=None, name="ann"):
    headers = {**bearer(name), "Idempotency-Key": idempotency_key}
    return await client.post(DRAW, json=body or {}, headers=headers)


async def test_the_same_idempotency_key_gives_the_same_job(door):
    client = await door()

    first, again = [await post_with(client, "order 7", {"text": "a"}) for _ in range(2)]

    assert (first.status, again.status) == (202, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"] == again.headers["Location"]


async def test_fifty_equal_requests_at_once_make_one_job(door):
    client = await door()

    replies = await asyncio.gather(*(post_with(client, "order 7") for _ in range(50)))

    assert sorted({reply.status for reply in replies}) == [200, 202]
    assert len({reply.headers["Location"] for reply in replies}) == 1
    assert len(await listed(client, "ann")) == 1


async def test_a_key_whose_job_cannot_be_read_gives_that_job(door, bench, engine):
    client = await door()
    job = await (await post_with(client, "order 7")).json()
    await bench.ended(engine, Job(job_id=job["job_id"], workflow="", parameters={}, created_at=0))
    with closing(sqlite3.connect(bench.store_path, isolation_level=None)) as db:
        db.execute("UPDATE jobs SET document = '{}'")

    again = await post_with(client, "order 7")

    told = await again.json()
    assert (again.status, told["job_id"]) == (200, job["job_id"])
    assert told["error_detail"]["code"] == "unreadable_record"


async def test_the_same_idempotency_key_with_another_body_is_refused(door):
    client = await door()
    await post_with(client, "order 7", {"text": "a"})

    reply = await post_with(client, "order 7", {"text": "b"})

    assert await code_of(reply) == (422, "idempotency_key_reused")


async def test_the_idempotency_keys_of_others_are_others(door):
    client = await door(keyring=Keyring([key("ann"), key("bob")]))

    anns, bobs = [await post_with(client, "order 7", name=name) for name in ("ann", "bob")]

    assert anns.headers["Location"] != bobs.headers["Location"]


@pytest.mark.parametrize("given", [[""], ["x" * 256], ["ä"], ["a\tb"], ["a", "a"], ["ключ"], [" "]])
async def test_an_idempotency_key_that_is_none_is_refused(door, given):
    client = await door()
    headers = CIMultiDict({**bearer()})
    headers.extend([("Idempotency-Key", each) for each in given])

    reply = await client.post(DRAW, json={}, headers=headers)

    assert await code_of(reply) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize("given", ["x", "x" * 255, 'a b;c="d",\'%00'])
async def test_any_other_idempotency_key_is_taken(door, given):
    client = await door()

    assert (await post_with(client, given)).status == 202


async def test_an_id_does_not_follow_from_its_key(door, engine, bench):
    client = await door()
    first = await post_with(client, "order 7")
    job_id = (await first.json())["job_id"]

    await engine.cancel(job_id)
    await bench.ended(engine, (await engine.get(job_id))[0])
    await engine.delete(job_id)
    again = await post_with(client, "order 7")

    assert again.status == 202
    ids = [UUID(job_id), UUID((await again.json())["job_id"])]
    assert ids[0] != ids[1]
    assert {each.version for each in ids} == {4}


async def test_no_key_is_to_be_read_in_the_store(door, bench):
    client = await door()

    await post_with(client, "order 7 of ann")

    files = list(bench.store_path.parent.glob("jobs.sqlite3*"))
    assert files
    assert not any(b"order 7 of ann" in file.read_bytes() for file in files)


async def test_a_key_lasts_as_long_as_its_job_and_over_a_restart(bench, door, engine):
    first = await post_with(await door(), "order 7")
    job_id = (await first.json())["job_id"]
    await bench.crash(engine)

    again = await post_with(await door(await bench.open()), "order 7")

    assert (again.status, (await again.json())["job_id"]) == (200, job_id)
