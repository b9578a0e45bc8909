"""Idempotency keys that earlier versions turned into ids: they still find their jobs."""

import hashlib
import json
import sqlite3
from contextlib import closing
from uuid import UUID, uuid5

import pytest
from unified_api.jobs.errors import IdempotencyKeyReused
from unified_api.jobs.job import Job
from unified_api.jobs.store import VERSIONS

SPACE = UUID("6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11")
BODY = {"text": "a"}


def former_id(owner, key):
    return str(uuid5(SPACE, f"{owner or ''}\n{key}"))


def former_fingerprint(slug, body):
    return hashlib.sha256(json.dumps([slug, body], sort_keys=True).encode()).hexdigest()


def former_job(owner="ann", key="k", **changes):
    """A job as version 5 of the store has it."""
    given = {
        "job_id": former_id(owner, key),
        "workflow": "draw",
        "parameters": {**BODY, "seed": 1, "size": 8, "bold": False},
        "owner": owner,
        "fingerprint": former_fingerprint("draw", BODY),
        "created_at": 1_700_000_000.0,
        "due": 0.0,
        **changes,
    }
    return Job(**given)


@pytest.fixture
def leave(bench):
    """Make the store that version 5 leaves behind."""

    def write(*jobs):
        bench.store_path.parent.mkdir(parents=True)
        with closing(sqlite3.connect(bench.store_path, isolation_level=None)) as db:
            db.executescript(f"{''.join(VERSIONS[:5])} PRAGMA user_version = 5;")
            for job in jobs:
                known = (job.job_id, job.workflow, job.status.value, job.owner, job.due)
                db.execute(
                    "INSERT INTO jobs (job_id, workflow, status, owner, due, document)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (*known, job.model_dump_json(exclude={"table"})),
                )

    return write


async def submit(engine, body=None, *, owner="ann", key="k"):
    return await engine.submit("draw", body or BODY, owner=owner, idempotency_key=key)


@pytest.mark.parametrize("owner", ["ann", None])
async def test_a_key_of_the_version_before_finds_its_job(bench, leave, owner):
    leave(former_job(owner))
    engine = await bench.open()

    again = await submit(engine, owner=owner)

    assert again.is_replay
    assert again.job.job_id == former_id(owner, "k")
    assert (await bench.ended(engine, again.job)).status == "completed"


async def test_a_key_of_a_batch_of_the_version_before_finds_its_job(bench, leave):
    leave(former_job(key="k\n3"))
    engine = await bench.open()

    assert (await submit(engine, key="k\n3")).is_replay


async def test_a_key_of_the_version_before_takes_no_other_request(bench, leave):
    leave(former_job())
    engine = await bench.open()

    with pytest.raises(IdempotencyKeyReused):
        await submit(engine, {"text": "b"})


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "bob"},
        {"owner": None},
        # A task of a queue that was given the id which the key would have had.
        {"is_shared": True, "due": None},
        {"fingerprint": None},
    ],
    ids=str,
)
async def test_a_former_id_reaches_no_job_but_the_owners_own(bench, leave, changes):
    planted = former_job(job_id=former_id("ann", "k"), **changes)
    leave(planted)
    engine = await bench.open()

    fresh = await submit(engine)

    assert not fresh.is_replay
    assert fresh.job.job_id != planted.job_id
    assert UUID(fresh.job.job_id).version == 4


async def test_a_store_of_version_5_goes_on(bench, leave):
    leave(former_job(), former_job(key="other"))
    engine = await bench.open()

    listed = await engine.list(limit=9)

    assert {job.job_id for job, _ in listed.jobs} == {
        former_id("ann", "k"),
        former_id("ann", "other"),
    }
    assert not (await submit(engine, key="new")).is_replay
    assert (await submit(engine, key="new")).is_replay
