"""When a job will have its turn, and when it is expected to be done."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from unified_api.jobs.errors import OutOfMemory
from unified_api.jobs.estimates import Estimates
from unified_api.jobs.job import Job, Stage
from unified_api.jobs.line import Line, Waiting
from unified_api.jobs.outlook import Outlook
from unified_api.jobs.prompt import Ending, Progress


class Runs(list):
    """Those under way, as far as is looked at here."""

    def find(self, job_id):
        return next((run for run in self if run.job.job_id == job_id), None)


def job(job_id, workflow="draw", **given):
    return Job(job_id=job_id, workflow=workflow, parameters={}, created_at=0.0, **given)


def run(job, *, is_ahead=False, is_under_way=False, needs_gpu=True, left=None):
    return SimpleNamespace(
        job=job,
        is_ahead=is_ahead,
        is_under_way=is_under_way,
        needs_gpu=needs_gpu,
        seconds_left=lambda of: of if left is None else left,
    )


def running(job, left):
    return run(job.running(now=1.0), is_under_way=True, left=left)


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def estimates():
    estimates = Estimates()
    estimates.learn("draw", 10.0)
    estimates.learn("edit", 100.0)
    return estimates


def test_the_work_ahead_is_what_all_prompts_are_expected_to_take(line, estimates, runs):
    runs += [running(job("a", "edit"), left=40.0), run(job("b")), run(job("c"), is_ahead=True)]
    runs += [run(job("d", "edit"), needs_gpu=False)]

    assert Outlook(line, estimates, runs).seconds_of_work == 40.0 + 2 * 10.0


def test_the_work_ahead_is_unknown_while_that_of_one_job_is(line, estimates, runs):
    runs += [run(job("a")), run(job("b", "never-run"))]

    assert Outlook(line, estimates, runs).seconds_of_work is None


def test_without_jobs_there_is_no_work_ahead(line, estimates, runs):
    assert Outlook(line, estimates, runs).seconds_of_work == 0


@pytest.fixture
def seen(line, runs, estimates):
    """`seen(job)`: (queue position, seconds to its end)."""

    def look(job):
        progress = Outlook(line, estimates, runs).seen(job, Progress())
        return progress.queue_position, progress.eta_seconds

    return look


def test_who_waits_is_behind_all_that_run_and_wait_before_him(seen, line, runs):
    waiting = [job("c", "edit"), job("d")]
    runs += [running(job("a"), 2.5), run(job("b"))]
    for each in waiting:
        line.join(Waiting.of(each))

    assert seen(runs[0].job) == (None, 3)
    assert seen(runs[1].job) == (1, 13)
    assert [seen(each) for each in waiting] == [(2, 113), (3, 123)]


def test_high_priority_comes_before_what_has_no_place_yet_and_is_not(seen, line, runs):
    high = job("h", priority="high")
    runs += [run(job("fetching"), is_ahead=True), run(job("placed"))]
    line.join(Waiting.of(high))

    assert seen(runs[1].job) == (1, 10)
    assert seen(high) == (2, 20)
    assert seen(runs[0].job) == (3, 30)


def test_who_is_fetched_first_comes_first(seen, runs):
    runs += [run(job(each), is_ahead=True) for each in ("a", "b", "c")]

    assert [seen(each.job)[0] for each in runs] == [1, 2, 3]


def test_the_time_is_not_known_if_that_of_somebody_before_is_not(seen, line, runs):
    strange, last = job("strange", "new"), job("last")
    for each in (strange, last):
        line.join(Waiting.of(each))

    assert [seen(each) for each in (strange, last)] == [(1, None), (2, None)]


def test_the_time_left_is_not_known_of_a_first_run(seen, runs):
    runs += [running(job("first", "new"), 2.5)]

    assert seen(runs[0].job) == (None, None)


def test_a_run_that_goes_on_and_on_has_no_end_in_sight_nor_have_those_behind(seen, line, runs):
    late = running(job("a"), left=None)
    late.seconds_left = lambda of: None
    runs.append(late)
    line.join(Waiting.of(job("b")))

    assert seen(late.job) == (None, None)
    assert seen(job("b")) == (1, None)


def test_what_is_published_is_as_good_as_done_and_delays_nobody(seen, line, runs):
    published = job("p", stage=Stage.PUBLISHING, status="processing")
    runs += [run(published, is_under_way=True, needs_gpu=False, left=5.0)]
    line.join(Waiting.of(job("w")))

    assert seen(published) == (None, 0)
    assert seen(job("w")) == (1, 10)


def test_what_has_ended_has_no_outlook(seen):
    assert seen(job("a").cancelled(now=1.0)) == (None, None)


def test_what_is_kept_elsewhere_has_none(seen):
    assert seen(job("a")) == (None, None)


# With an engine


async def accepted(engine, **body):
    return await engine.submit("draw", body)


async def positions(engine, jobs):
    return [(await engine.get(job.job_id))[1].queue_position for job in jobs]


@pytest.fixture(params=[1, 64], ids=["in line", "taken up"])
async def engine(request, bench):
    """It takes few or many up before their turn."""
    return await bench.open(fetch_ahead=request.param)


@pytest.fixture
async def first(engine, bench):
    """A job that runs until the gate opens."""
    bench.host.gate.clear()
    first = (await accepted(engine)).job
    await bench.until(lambda: bench.host.prompts)
    return first


async def test_positions_are_told_at_acceptance_and_move_up(engine, first) -> None:
    submitted = [await accepted(engine) for _ in range(7)]

    jobs = [first, *(each.job for each in submitted)]
    assert [each.progress.queue_position for each in submitted] == [1, 2, 3, 4, 5, 6, 7]
    assert await positions(engine, jobs) == [None, 1, 2, 3, 4, 5, 6, 7]
    listed = [progress.queue_position for _, progress in (await engine.list(limit=9)).jobs]
    assert listed == [7, 6, 5, 4, 3, 2, 1, None]
    await engine.cancel(jobs[3].job_id)
    assert await positions(engine, jobs[3:]) == [None, 3, 4, 5, 6]


@pytest.fixture
def never_late(bench):
    """A run that takes longer than it was expected to keeps its time left."""
    bench.timing = replace(bench.timing, late_seconds=3600)


@pytest.mark.usefixtures("never_late")
async def test_a_restart_knows_the_line_and_how_long_runs_take(bench) -> None:
    engine = await bench.open()
    await bench.ended(engine, (await accepted(engine)).job)
    bench.host.gate.clear()
    jobs = [(await accepted(engine)).job for _ in range(7)]
    await bench.until(lambda: len(bench.host.prompts) == 2)
    await bench.crash(engine)

    host = bench.new_host()
    host.gate.clear()
    again = await bench.open(host=host)
    await bench.until(lambda: host.prompts)

    told = [position for position in await positions(again, jobs) if position]
    assert sorted(told) == list(range(1, len(told) + 1))
    assert told[-1] == max(told) > 4
    assert (await again.get(jobs[6].job_id))[1].eta_seconds is not None


@pytest.mark.usefixtures("never_late")
async def test_a_run_teaches_how_long_the_next_one_and_its_nodes_take(bench) -> None:
    engine = await bench.open()
    bench.host.gate.clear()
    await accepted(engine)
    await bench.until(lambda: bench.host.hear)
    bench.host.hear("execution_cached", {"nodes": ["1"]})
    for state in ("running", "finished"):
        bench.host.hear("progress_state", {"nodes": {"2": {"state": state}}})
    bench.host.gate.set()
    bench.host.gate.clear()

    job = (await accepted(engine)).job
    await bench.until(lambda: len(bench.host.prompts) == 2)
    bench.host.hear("progress_state", {"nodes": {"1": {"state": "finished"}}})
    _, progress = await engine.get(job.job_id)

    assert progress.eta_seconds is not None
    assert progress.percent == 0


async def test_who_watches_a_waiting_job_is_told_how_it_moves_up(engine, first) -> None:
    jobs = [(await accepted(engine)).job for _ in range(7)]
    states = engine.watch(jobs[6].job_id)
    before = (await anext(states))[1].queue_position

    await engine.cancel(jobs[2].job_id)
    after = (await asyncio.wait_for(anext(states), 5))[1].queue_position

    await states.aclose()
    assert (before, after) == (7, 6)


async def test_the_store_is_not_read_for_each_one_who_moves_up(engine, first, bench) -> None:
    jobs = [(await accepted(engine)).job for _ in range(4)]
    states = engine.watch(jobs[3].job_id)
    await anext(states)

    with closing(sqlite3.connect(bench.store_path)) as db, db:
        db.execute("DELETE FROM jobs WHERE job_id = ?", (jobs[3].job_id,))
    await engine.cancel(jobs[1].job_id)

    _, progress = await asyncio.wait_for(anext(states), 5)
    await states.aclose()
    assert progress.queue_position == 3


async def test_a_job_that_is_tried_again_stands_before_those_who_came_later(bench) -> None:
    engine = await bench.open(fetch_ahead=1)
    bench.host.gate.clear()
    first, *_, last = [(await accepted(engine)).job for _ in range(9)]
    await bench.until(lambda: bench.host.prompts)
    bench.host.endings.append(Ending(failure=OutOfMemory()))

    bench.host.gate.set()
    bench.host.gate.clear()
    await bench.until(lambda: len(bench.host.prompts) == 2)
    await bench.until(lambda: _has_position(engine, first))

    before, after = await positions(engine, [first, last])
    assert before < after


async def _has_position(engine, job):
    return (await positions(engine, [job]))[0]
