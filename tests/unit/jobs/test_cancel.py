"""A job is cancelled wherever it is, once, and nobody else with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from unified_api.jobs.errors import NotReady, OutOfMemory, UnknownJob
from unified_api.jobs.job import Stage, Status
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.prompt import Ending

from ..fake_host import unless_full


class WaitsToPublish(LocalResults):
    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.gate = asyncio.Event()

    async def publish(self, job):
        await self.gate.wait()
        return await super().publish(job)


async def submit(engine, slug="draw", **parameters):
    return (await engine.submit(slug, parameters)).job


async def stage(engine, job):
    return (await engine.get(job.job_id))[0].stage


async def cancel(engine, job):
    return (await engine.cancel(job.job_id))[0]


async def test_a_job_whose_picture_is_fetched_is_cancelled(engine, gallery, picture, bench) -> None:
    url = gallery.hang("/slow.png", picture("teal"), held=True)
    job = await submit(engine, "edit", image_url=url)
    await bench.until(lambda: gallery.asked["/slow.png"])

    cancelled = await cancel(engine, job)

    assert (cancelled.status, cancelled.stage) == (Status.CANCELLED, None)
    assert cancelled.finished_at
    assert bench.host.prompts == []


async def test_a_running_job_is_cancelled_and_the_next_one_runs(engine, bench) -> None:
    bench.host.gate.clear()
    first, second = await submit(engine), await submit(engine)
    await bench.until(lambda: bench.host.prompts)

    assert (await cancel(engine, first)).status is Status.CANCELLED

    bench.host.gate.set()
    assert (await bench.ended(engine, second)).status is Status.COMPLETED


async def test_a_job_behind_the_running_one_is_cancelled_without_a_run(engine, bench) -> None:
    bench.host.gate.clear()
    first = await submit(engine)
    await bench.until(lambda: bench.host.prompts)
    second, third = await submit(engine), await submit(engine)
    await bench.until(lambda: len(bench.host.queue) == 2)

    for job in (second, third):
        assert (await cancel(engine, job)).status is Status.CANCELLED

    bench.host.gate.set()
    assert (await bench.ended(engine, first)).status is Status.COMPLETED
    assert len(bench.host.prompts) == 1


async def test_a_job_nobody_took_up_is_cancelled_and_makes_room(bench) -> None:
    engine = await bench.open(fetch_ahead=1, max_pending=1)
    bench.host.gate.clear()
    *_, waiting = [await bench.until(lambda: unless_full(submit(engine))) for _ in range(4)]

    assert (await cancel(engine, waiting)).status is Status.CANCELLED
    assert (await submit(engine)).status is Status.PENDING


async def test_cancelling_twice_tells_the_same(engine, bench) -> None:
    bench.host.gate.clear()
    job = await submit(engine)
    await bench.until(lambda: bench.host.prompts)

    assert await cancel(engine, job) == await cancel(engine, job)


async def test_many_at_once_cancel_a_job_once(engine, bench) -> None:
    bench.host.gate.clear()
    job = await submit(engine)

    told = await asyncio.gather(*(cancel(engine, job) for _ in range(10)))

    assert {each.status for each in told} == {Status.CANCELLED}


async def test_a_completed_job_stays_completed(engine, bench) -> None:
    job = await bench.ended(engine, await submit(engine))

    assert await cancel(engine, job) == job


async def test_a_job_whose_result_is_being_published_is_completed(bench) -> None:
    results = WaitsToPublish(bench.results_folder)
    engine = await bench.open(results=results)
    job = await submit(engine)
    await bench.until(lambda: _is_publishing(engine, job))

    cancelling = asyncio.create_task(cancel(engine, job))
    await asyncio.sleep(0)
    results.gate.set()

    assert (await cancelling).status is Status.COMPLETED


async def _is_publishing(engine, job):
    return await stage(engine, job) is Stage.PUBLISHING


async def test_a_job_that_waits_to_be_tried_again_is_cancelled(bench) -> None:
    bench.timing = replace(bench.timing, retry_seconds=60)
    engine = await bench.open()
    bench.host.endings = [Ending(failure=OutOfMemory())]
    job = await submit(engine)
    await bench.until(lambda: _waits_again(engine, job))

    assert (await cancel(engine, job)).status is Status.CANCELLED
    assert len(bench.host.prompts) == 1


async def _waits_again(engine, job):
    now, _ = await engine.get(job.job_id)
    return now.attempt == 1 and now.due is not None


async def test_a_job_that_is_not_there_cannot_be_cancelled(engine) -> None:
    with pytest.raises(UnknownJob):
        await engine.cancel("nothing")


async def test_what_was_cancelled_is_not_run_after_a_restart(engine, bench) -> None:
    bench.host.gate.clear()
    job = await submit(engine)
    await bench.until(lambda: bench.host.prompts)
    await cancel(engine, job)
    await bench.crash(engine)

    later = await bench.open(host=bench.new_host())

    assert (await later.get(job.job_id))[0].status is Status.CANCELLED


async def test_a_drain_finishes_what_runs_and_leaves_the_rest_for_the_next_start(bench) -> None:
    engine = await bench.open()
    bench.host.gate.clear()
    jobs = [await submit(engine)]
    await bench.until(lambda: bench.host.prompts)
    jobs += [await submit(engine) for _ in range(3)]
    await bench.until(lambda: len(bench.host.queue) == 2)

    draining = asyncio.create_task(engine.drain())
    await bench.until(lambda: len(bench.host.queue) == 1)
    with pytest.raises(NotReady, match="shutting down"):
        await submit(engine)
    bench.host.gate.set()
    await draining

    states = [(await engine.get(job.job_id))[0].status for job in jobs]
    assert [status is Status.COMPLETED for status in states] == [True, False, False, False]
    assert not engine.is_ready
    await bench.crash(engine)
    later = await bench.open(host=bench.new_host())
    for job in jobs:
        assert (await bench.ended(later, job)).status is Status.COMPLETED
