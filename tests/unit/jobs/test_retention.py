"""Jobs that ended long ago are forgotten, and their local results deleted."""

from __future__ import annotations

import pytest
from unified_api.jobs.errors import UnknownJob
from unified_api.jobs.file_cache import FileCache
from unified_api.jobs.job import Job, Output
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.retention import JOBS_AT_ONCE, forget_old
from unified_api.jobs.store import Store
from unified_api.jobs.thumbnails import Thumbnails

DAY = 86_400.0
NOW = 1_000 * DAY
AT_ONCE = {"retention_days": 1e-9}


def ended(job_id, *, finished, created=None, **more):
    created = max(0, finished - 1) if created is None else created
    job = Job(job_id=job_id, workflow="draw", parameters={}, created_at=created, **more)
    return job.cancelled(now=finished)


class Shop:
    """As much of a workshop as is needed."""

    def __init__(self, folder, settings) -> None:
        self.store = Store(folder / "jobs.sqlite3")
        self.results = LocalResults(folder / "results")
        self.thumbnails_folder = folder / "thumbnails"
        cache = FileCache(self.thumbnails_folder, max_bytes=settings.thumbnail_bytes)
        self.thumbnails = Thumbnails(self.results, cache)
        self.settings = settings


@pytest.fixture
async def shop(tmp_path, settings):
    shop = Shop(tmp_path, settings(retention_days=7))
    await shop.store.open()
    await shop.results.open()
    yield shop
    await shop.store.close()


def place(shop, tmp_path, job_id):
    """Files of a job, as LocalResults has them."""
    folder = tmp_path / "results" / job_id
    folder.mkdir()
    (folder / "0.png").write_bytes(b"picture")
    return folder


async def ids(shop):
    return {job.job_id for _, job in await shop.store.page(limit=10_000)}


async def test_what_ended_before_the_time_is_forgotten_with_its_files(shop, tmp_path) -> None:
    for job_id, days in {"old": 7.1, "young": 6.9}.items():
        await shop.store.insert(ended(job_id, finished=NOW - days * DAY))
    old, young = (place(shop, tmp_path, each) for each in ("old", "young"))

    await forget_old(shop, now=NOW)

    assert await ids(shop) == {"young"}
    assert (old.exists(), young.exists()) == (False, True)


async def test_the_end_counts_and_not_the_beginning(shop) -> None:
    await shop.store.insert(ended("long", created=0, finished=NOW - DAY))

    await forget_old(shop, now=NOW)

    assert await ids(shop) == {"long"}


async def test_a_job_that_has_not_ended_is_kept_however_old(shop) -> None:
    await shop.store.insert(Job(job_id="a", workflow="draw", parameters={}, created_at=0))

    await forget_old(shop, now=NOW)

    assert await ids(shop) == {"a"}


async def test_a_job_from_the_future_keeps_no_older_one(shop) -> None:
    for number in range(2 * JOBS_AT_ONCE):
        if number == JOBS_AT_ONCE - 1:
            await shop.store.insert(ended("from the future", created=NOW + DAY, finished=NOW + DAY))
        await shop.store.insert(ended(f"old-{number}", finished=NOW - 8 * DAY))

    await forget_old(shop, now=NOW)

    assert await ids(shop) == {"from the future"}


async def test_many_are_forgotten_in_steps(shop) -> None:
    for number in range(2 * JOBS_AT_ONCE + 1):
        await shop.store.insert(ended(f"old-{number}", finished=NOW - 8 * DAY))
    await shop.store.insert(ended("young", finished=NOW))

    await forget_old(shop, now=NOW)

    assert await ids(shop) == {"young"}


class Recording(LocalResults):
    """Knows whose results it was asked to delete; the disk refuses those of `stuck`."""

    removed = ()

    async def remove(self, job):
        if job.job_id == "stuck":
            raise PermissionError
        self.removed += (job.job_id,)


async def test_objects_in_a_bucket_are_left_to_it(shop, tmp_path) -> None:
    shop.results = Recording(tmp_path)
    output = Output(name="a", s3_uri="s3://b/c", content_type="image/png", size=1, sha256="")
    await shop.store.insert(ended("s3", finished=0, outputs=(output,)))
    await shop.store.insert(ended("local", finished=0))

    await forget_old(shop, now=NOW)

    assert (await ids(shop), shop.results.removed) == (set(), ("local",))


@pytest.mark.parametrize("s3_uri", [None, "s3://b/c"])
async def test_a_job_is_forgotten_with_its_thumbnails(shop, tmp_path, picture, s3_uri) -> None:
    content = picture("teal")
    output = Output(
        name="a",
        s3_uri=s3_uri,
        content_type="image/png",
        size=len(content),
        width=8,
        height=6,
        sha256="0a",
    )
    old, young = (
        ended(job_id, finished=NOW - days * DAY, outputs=(output,))
        for job_id, days in {"old": 7.1, "young": 6.9}.items()
    )
    for job in (old, young):
        await shop.store.insert(job)
        (place(shop, tmp_path, job.job_id) / "0.png").write_bytes(content)
        await shop.thumbnails.of(job, 0)
    assert len(list(shop.thumbnails_folder.iterdir())) == 2

    await forget_old(shop, now=NOW)

    assert len(list(shop.thumbnails_folder.iterdir())) == 1


async def test_a_job_whose_files_cannot_be_deleted_waits_for_the_next_time(shop, tmp_path) -> None:
    shop.results = Recording(tmp_path)
    await shop.store.insert(ended("stuck", finished=0))
    await shop.store.insert(ended("local", finished=0))

    await forget_old(shop, now=NOW)

    assert await ids(shop) == {"stuck"}


async def test_an_engine_forgets_by_itself(bench) -> None:
    engine = await bench.open()
    job = await bench.ended(engine, (await engine.submit("draw", {})).job)
    assert list(bench.results_folder.iterdir())
    await bench.crash(engine)

    later = await bench.open(**AT_ONCE)

    async def is_gone():
        try:
            await later.get(job.job_id)
        except UnknownJob:
            return True

    await bench.until(is_gone)
    assert list(bench.results_folder.iterdir()) == []


async def test_a_key_lives_as_long_as_its_job(bench) -> None:
    engine = await bench.open()
    first = (await engine.submit("draw", {}, idempotency_key="k")).job
    await bench.ended(engine, first)
    await bench.crash(engine)
    later = await bench.open(**AT_ONCE)

    async def is_free():
        return not (await later.submit("draw", {}, idempotency_key="k")).is_replay

    await bench.until(is_free)
