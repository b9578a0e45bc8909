"""A job that has ended is deleted, with what it wrote, and nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from unified_api.jobs.errors import KeptInTable, StorageUnreachable
from unified_api.jobs.job import Job
from unified_api.jobs.keys import Key
from unified_api.jobs.outputs import LocalResults
from unified_api.routes.auth import Keyring
from unified_api.routes.listener import application
from unified_api.routes.service import Surface
from yarl import URL

DRAW = "/api/v1/draw/jobs"


@pytest.fixture
def serve(aiohttp_client):
    async def start(engine, **surface):
        return await aiohttp_client(application(engine, Surface("1", **surface)))

    return start


@pytest.fixture
async def client(serve, engine):
    return await serve(engine)


async def submitted(client, **headers):
    reply = await client.post(DRAW, json={}, headers=headers)
    return await reply.json()


async def ended(client, **headers):
    reply = await client.post(DRAW, json={}, headers={"Prefer": "wait=60", **headers})
    return await reply.json()


async def delete(client, job, **headers):
    """Status, and code of the problem if it is one."""
    reply = await client.delete(job["urls"]["self"], headers=headers)
    return (reply.status, None if reply.status == 204 else (await reply.json())["code"])


async def statuses(client, *paths):
    return [(await client.get(path)).status for path in paths]


def files(bench):
    return {path.parent.name for path in bench.results_folder.rglob("*.png")}


async def test_a_job_that_has_ended_goes_with_its_files(client, bench) -> None:
    job = await ended(client)
    paths = [job["urls"]["self"], URL(job["result_url"]).path, f"{DRAW}/{job['job_id']}"]
    assert await statuses(client, *paths) == [200, 200, 200]

    assert await delete(client, job) == (204, None)

    assert await statuses(client, *paths) == [404, 404, 404]
    assert (await (await client.get("/api/v1/jobs")).json())["data"] == []
    assert list(bench.results_folder.iterdir()) == []


async def test_nothing_else_goes(client, bench) -> None:
    job, other = await ended(client), await ended(client)
    pictures = [f"{each['urls']['self']}/outputs/0/thumbnail" for each in (job, other)]
    assert await statuses(client, *pictures) == [200, 200]
    assert len(list(bench.thumbnails_folder.iterdir())) == 2

    await delete(client, job)

    assert files(bench) == {other["job_id"]}
    assert len(list(bench.thumbnails_folder.iterdir())) == 1
    assert await statuses(client, other["urls"]["self"]) == [200]


async def test_what_is_gone_is_unknown(client) -> None:
    job = await ended(client)
    await delete(client, job)

    assert await delete(client, job) == (404, "unknown_job")


async def test_a_job_that_has_not_ended_stays(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)

    assert await delete(client, job) == (409, "job_not_finished")
    assert await statuses(client, job["urls"]["self"]) == [200]


async def test_a_cancelled_job_is_deleted_and_does_not_come_back(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    await client.post(job["urls"]["cancel"])

    assert await delete(client, job) == (204, None)
    assert await statuses(client, job["urls"]["self"]) == [404]


async def test_the_idempotency_key_of_a_deleted_job_is_free_again(client, bench) -> None:
    key = {"Idempotency-Key": "k"}
    job = await ended(client, **key)
    await delete(client, job)

    again = await ended(client, **key)

    assert again["job_id"] != job["job_id"]
    assert again["status"] == "completed"
    assert files(bench) == {again["job_id"]}


async def test_a_job_whose_files_are_gone_already_is_deleted(client, bench) -> None:
    job = await ended(client)
    for path in bench.results_folder.rglob("*.*"):
        path.unlink()

    assert await delete(client, job) == (204, None)


class Away(LocalResults):
    """Cannot delete."""

    async def remove(self, job):
        raise StorageUnreachable


async def test_a_job_whose_results_cannot_be_deleted_stays(serve, bench) -> None:
    client = await serve(await bench.open(results=Away(bench.results_folder)))
    job = await ended(client)

    assert await delete(client, job) == (503, "storage_unavailable")
    assert await statuses(client, job["urls"]["self"]) == [200]


async def test_a_job_that_is_kept_elsewhere_is_not_deleted_here(engine, bench) -> None:
    class Home:
        async def save(self, job):
            return True

    job = Job(job_id="guest", workflow="draw", parameters={"seed": 1}, created_at=0)
    await engine.guests.take_over(job, Home(), lambda: None, table="t")
    await bench.ended(engine, job)

    with pytest.raises(KeptInTable):
        await engine.delete("guest")


def key(name, *scopes):
    return Key(name=name, scopes=scopes, sha256=sha256(name.encode()).hexdigest())


def bearer(name):
    return {"Authorization": f"Bearer {name}"}


async def test_only_the_owner_who_may_cancel_or_an_admin_deletes(serve, engine) -> None:
    keys = [key("mine", "submit", "read", "cancel"), key("other", "read", "cancel")]
    more = [key("reader", "read", "submit"), key("root", "admin")]
    client = await serve(engine, keyring=Keyring([*keys, *more]))
    first, second = await ended(client, **bearer("mine")), await ended(client, **bearer("mine"))

    assert await delete(client, first) == (401, "unauthorized")
    assert await delete(client, first, **bearer("reader")) == (403, "forbidden")
    assert await delete(client, first, **bearer("other")) == (404, "unknown_job")
    assert await delete(client, first, **bearer("mine")) == (204, None)
    assert await delete(client, second, **bearer("root")) == (204, None)
