"""Lists of jobs that were created in some time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from unified_api.jobs.job import Job
from unified_api.jobs.selection import Selection
from unified_api.jobs.store import Store
from unified_api.routes.listener import application
from unified_api.routes.service import Surface

JOBS = "/api/v1/jobs"


@pytest.fixture
async def listed(tmp_path):
    """The ids of jobs that are created at these times, one after another, newest first."""
    store = Store(tmp_path / "jobs.sqlite3")
    await store.open()

    async def select(*times, limit=99, **selection):
        for time in times:
            await store.insert(
                Job(job_id=str(time), workflow="draw", parameters={}, created_at=time)
            )
        found = await store.page(Selection(**selection), limit=limit)
        return [job.created_at for _, job in found]

    yield select
    await store.close()


@pytest.mark.parametrize(
    ("selection", "times"),
    [
        ({"created_after": 200}, [400, 300, 200]),
        ({"created_before": 200}, [100]),
        ({"created_after": 200, "created_before": 400}, [300, 200]),
        ({"created_after": 200.001}, [400, 300]),
        ({"created_after": 0, "created_before": 10**9}, [400, 300, 200, 100]),
        ({"created_after": 401}, []),
        ({"created_before": 100}, []),
        ({"created_after": 300, "created_before": 200}, []),
        ({"created_after": 200, "limit": 2}, [400, 300]),
        ({"created_after": 200, "workflow": "edit"}, []),
    ],
)
async def test_the_first_moment_is_included_and_the_last_is_not(listed, selection, times) -> None:
    assert await listed(100, 200, 300, 400, **selection) == times


@pytest.mark.parametrize(
    ("selection", "times"),
    [
        ({"created_after": 1_000}, [1_001, 1_030, 1_002]),
        ({"created_after": 1_002}, [1_030, 1_002]),
        ({"created_before": 1_030}, [1_001, 1_002]),
    ],
)
async def test_jobs_that_were_stored_in_another_order_are_found(listed, selection, times) -> None:
    assert await listed(1_002, 1_030, 1_001, **selection) == times


# Over HTTP


@pytest.fixture
async def client(aiohttp_client, engine):
    return await aiohttp_client(application(engine, Surface("1")))


async def ids(client, **query):
    reply = await client.get(JOBS, params=query)
    assert reply.status == 200, await reply.text()
    return [job["job_id"] for job in (await reply.json())["data"]]


async def test_a_job_is_found_from_its_own_moment_on(client) -> None:
    job = await (await client.post("/api/v1/draw/jobs", json={})).json()
    moment = job["created_at"]
    later = datetime.fromisoformat(moment.replace("Z", "+00:00")) + timedelta(milliseconds=2)

    assert await ids(client, created_after=moment) == [job["job_id"]]
    assert await ids(client, created_before=moment) == []
    assert await ids(client, created_after=later.isoformat()) == []
    assert await ids(client, created_before="9999-12-31T23:59:59.999Z") == [job["job_id"]]


@pytest.mark.parametrize(
    ("moment", "is_before"),
    [
        ("1970-01-01T00:00:00Z", False),
        ("1970-01-01t00:00:00.123456789z", False),
        ("0001-01-01T00:00:00+23:59", False),
        ("9999-12-31T23:59:59-23:59", True),
        ("2100-01-01T00:00:00+08:00", True),
    ],
)
async def test_every_moment_is_understood(client, moment, is_before) -> None:
    await client.post("/api/v1/draw/jobs", json={})

    assert bool(await ids(client, created_before=moment)) == is_before
    assert bool(await ids(client, created_after=moment)) != is_before


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize(
    "given",
    [
        "",
        "now",
        "1700000000",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00:00 02:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+99:00",
        "0000-01-31T12:00:00Z",
        "٢026-01-31T12:00:00Z",
    ],
)
async def test_what_is_no_moment_is_refused(client, name, given) -> None:
    reply = await client.get(JOBS, params={name: given})

    assert (reply.status, (await reply.json())["code"]) == (400, "invalid_query")
