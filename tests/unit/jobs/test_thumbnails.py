"""How often thumbnails are made, and where they are kept."""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256

import pytest
from unified_api.jobs.errors import UnknownOutput
from unified_api.jobs.file_cache import FileCache
from unified_api.jobs.job import Job, Output
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.thumbnails import AT_ONCE, Thumbnails

from ..fake_host import until


class CountingResults(LocalResults):
    """Counts who reads, and holds everybody back while its gate is closed."""

    def __init__(self, folder):
        super().__init__(folder)
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = self.reading = self.most_reading = 0

    async def read(self, job, number):
        self.reads += 1
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        await self.gate.wait()
        self.reading -= 1
        return await super().read(job, number)


@pytest.fixture
async def results(tmp_path):
    return CountingResults(tmp_path / "results")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "thumbnails"


@pytest.fixture
def start(results, folder):
    """`start()` makes thumbnails as a process does that starts now."""
    return lambda *, max_bytes=1 << 20: Thumbnails(results, FileCache(folder, max_bytes=max_bytes))


@pytest.fixture
def publish(results):
    """A completed job with these contents as its outputs."""

    def put(job_id, *contents):
        job = Job(job_id=job_id, workflow="draw", parameters={}, created_at=0.0)
        job = job.model_copy(update={"outputs": tuple(map(output_of, contents))})
        for number, content in enumerate(contents):
            path = results.path(job, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return job

    return put


def output_of(content):
    digest = sha256(content).hexdigest()
    size = len(content)
    return Output(name="a", content_type="image/png", size=size, width=8, height=6, sha256=digest)


def begin(work):
    return asyncio.ensure_future(work)


async def test_a_thumbnail_is_made_once(start, publish, picture, results):
    thumbnails, job = start(), publish("a", picture("teal"))

    first, again = [await thumbnails.of(job, 0) for _ in range(2)]

    assert (first[8:12], again == first, results.reads) == (b"WEBP", True, 1)


async def test_it_is_still_there_after_a_restart(start, publish, picture, results):
    job = publish("a", picture("teal"))
    first = await start().of(job, 0)

    again = await start().of(job, 0)

    assert (again == first, results.reads) == (True, 1)


async def test_each_output_of_each_job_has_its_own(start, publish, picture, results):
    thumbnails = start()
    jobs = [publish("a", picture("teal"), picture("navy")), publish("b", picture("red"))]

    made = [await thumbnails.of(job, number) for job in jobs for number in range(len(job.outputs))]

    assert (len(set(made)), results.reads) == (3, 3)


async def test_a_job_that_has_the_id_of_a_deleted_one_has_its_own(start, publish, picture):
    thumbnails = start()
    first = await thumbnails.of(publish("a", picture("teal")), 0)

    other = await thumbnails.of(publish("a", picture("navy")), 0)

    assert other != first


async def test_those_used_longest_ago_are_deleted_when_all_are_too_large(
    start, publish, picture, results, folder
):
    jobs = [publish(str(number), picture("teal")) for number in range(4)]
    await start().of(jobs[0], 0)
    (only,) = folder.iterdir()
    thumbnails = start(max_bytes=2 * only.stat().st_size)

    for job in jobs:
        await thumbnails.of(job, 0)

    assert (len(list(folder.iterdir())), results.reads) == (2, 4)


async def test_requests_at_the_same_time_make_it_once(start, publish, picture, results):
    thumbnails, job = start(), publish("a", picture("teal"))
    results.gate.clear()

    asked = [begin(thumbnails.of(job, 0)) for _ in range(5)]
    await until(lambda: results.reading)
    results.gate.set()
    made = await asyncio.gather(*asked)

    assert (len(set(made)), results.reads) == (1, 1)


async def test_who_goes_away_does_not_spoil_it_for_the_others(start, publish, picture, results):
    thumbnails, job = start(), publish("a", picture("teal"))
    results.gate.clear()
    first, second = begin(thumbnails.of(job, 0)), begin(thumbnails.of(job, 0))
    await until(lambda: results.reading)

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    results.gate.set()

    assert (await second)[8:12] == b"WEBP"
    assert (first.cancelled(), results.reads) == (True, 1)


async def test_few_are_made_at_once(start, publish, picture, results):
    thumbnails = start()
    jobs = [publish(str(number), picture("teal")) for number in range(4 * AT_ONCE)]
    results.gate.clear()

    asked = [begin(thumbnails.of(job, 0)) for job in jobs]
    await until(lambda: results.reading == AT_ONCE)
    results.gate.set()
    await asyncio.gather(*asked)

    assert (results.most_reading, results.reads) == (AT_ONCE, len(jobs))


async def test_what_is_no_picture_is_tried_once(start, publish, results):
    job = publish("a", b"hello")

    for thumbnails in (start(), start()):
        with pytest.raises(UnknownOutput, match="not a picture"):
            await thumbnails.of(job, 0)

    assert results.reads == 1


async def test_a_result_that_could_not_be_read_is_tried_again(start, publish, picture, results):
    thumbnails, job = start(), publish("a", picture("teal"))
    path = results.path(job, 0)
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(UnknownOutput):
        await thumbnails.of(job, 0)

    away.rename(path)

    assert (await thumbnails.of(job, 0))[8:12] == b"WEBP"


async def test_those_of_a_job_are_deleted_and_no_others(start, publish, picture, folder):
    thumbnails = start()
    job, other = publish("a", picture("teal"), picture("navy")), publish("b", picture("teal"))
    for each, number in [(job, 0), (job, 1), (other, 0)]:
        await thumbnails.of(each, number)

    await thumbnails.remove(job)

    assert len(list(folder.iterdir())) == 1


async def test_one_that_is_being_made_is_deleted_with_its_job(
    start, publish, picture, results, folder
):
    thumbnails, job = start(), publish("a", picture("teal"))
    results.gate.clear()
    asked = begin(thumbnails.of(job, 0))
    await until(lambda: results.reading)

    removed = begin(thumbnails.remove(job))
    await asyncio.sleep(0)
    results.gate.set()
    await asyncio.gather(asked, removed)

    assert list(folder.iterdir()) == []


async def test_a_disk_that_refuses_is_logged_once_and_spoils_no_answer(
    start, publish, picture, results, folder, caplog
):
    folder.write_text("not a folder")
    thumbnails, job = start(), publish("a", picture("teal"))

    made = [await thumbnails.of(job, 0) for _ in range(2)]

    assert ([small[8:12] for small in made], results.reads) == ([b"WEBP"] * 2, 2)
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "cannot be kept" in record.getMessage()


async def test_a_disk_that_refuses_again_is_logged_again(start, publish, picture, folder, caplog):
    thumbnails = start()
    folder.write_text("not a folder")
    await thumbnails.of(publish("a", picture("teal")), 0)
    folder.unlink()
    await thumbnails.of(publish("b", picture("teal")), 0)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("not a folder")

    await thumbnails.of(publish("c", picture("teal")), 0)

    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 2


async def test_an_engine_that_stops_makes_no_more(bench, publish, picture, results):
    engine = await bench.open(results=results)
    job = publish("a", picture("teal"))
    results.gate.clear()
    asked = begin(engine.thumbnail(job, 0))
    await until(lambda: results.reading)

    await bench.crash(engine)

    assert await until(asked.cancelled)


async def test_an_engine_keeps_to_a_bound_that_has_become_smaller(bench, publish, picture, results):
    engine = await bench.open(results=results)
    await engine.thumbnail(publish("a", picture("teal")), 0)
    assert len(list(bench.thumbnails_folder.iterdir())) == 1
    await bench.crash(engine)

    await bench.open(results=results, thumbnail_bytes=0)

    await until(lambda: not list(bench.thumbnails_folder.iterdir()))
