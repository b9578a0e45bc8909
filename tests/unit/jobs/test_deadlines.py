"""A job that is not begun, or not done, in the time it has is given up."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime

import pytest
from unified_api.jobs.errors import OutOfMemory
from unified_api.jobs.job import LAST_MOMENT, Job, Status
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.prompt import Ending
from unified_api.jobs.store import Store
from unified_api.routes.listener import application
from unified_api.routes.service import Surface

from ..fake_host import unless_full, until

DRAW = "/api/v1/draw/jobs"
#: To begin a run on a busy machine.
ENOUGH = 4


async def submit(engine, slug="draw", *, after=None, **parameters):
    return (await engine.submit(slug, parameters, cancel_after=after)).job


async def now(engine, job):
    return (await engine.get(job.job_id))[0]


def outcome(job):
    return (job.status, job.error_detail.code if job.error_detail else None)


GIVEN_UP = (Status.FAILED, "deadline_exceeded")


def limit(bench, **limits):
    """Give the workflow `draw` limits of its own."""
    file = bench.definitions / "draw" / "workflow.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "limits": limits}))


async def test_a_running_job_is_interrupted_at_its_deadline_and_the_next_one_runs(
    engine, bench
) -> None:
    bench.host.gate.clear()
    job = await submit(engine, after=ENOUGH)
    await bench.until(lambda: bench.host.prompts)

    ended = await bench.ended(engine, job)

    assert outcome(ended) == GIVEN_UP
    assert ended.finished_at >= job.deadline
    assert bench.host.queue == []
    bench.host.gate.set()
    assert (await bench.ended(engine, await submit(engine))).status is Status.COMPLETED


async def test_a_job_behind_others_is_given_up_without_a_run(engine, bench) -> None:
    bench.host.gate.clear()
    await submit(engine)
    await bench.until(lambda: bench.host.prompts)

    late = await bench.ended(engine, await submit(engine, after=0.05))

    assert outcome(late) == GIVEN_UP
    assert (late.attempt, len(bench.host.prompts)) == (0, 1)


async def test_a_job_that_nobody_took_up_is_given_up_and_makes_room(bench) -> None:
    engine = await bench.open(fetch_ahead=1, max_pending=1)
    bench.host.gate.clear()
    for _ in range(3):
        await bench.until(lambda: unless_full(submit(engine)))
    waiting = await bench.until(lambda: unless_full(submit(engine, after=0.05)))

    assert outcome(await bench.ended(engine, waiting)) == GIVEN_UP
    assert (await bench.until(lambda: unless_full(submit(engine)))).status is Status.PENDING


async def test_a_job_whose_picture_does_not_come_is_given_up(
    engine, bench, gallery, picture
) -> None:
    url = gallery.hang("/slow.png", picture("teal"), held=True)

    job = await submit(engine, "edit", after=0.1, image_url=url)

    assert outcome(await bench.ended(engine, job)) == GIVEN_UP


async def test_a_job_that_is_done_in_time_stays_done(engine, bench) -> None:
    job = await submit(engine, after=ENOUGH)
    done = await bench.ended(engine, job)

    await bench.until(lambda: time.time() > job.deadline + 0.05)

    assert await now(engine, job) == done
    assert done.status is Status.COMPLETED


class SlowToPublish(LocalResults):
    """Publishes when the deadline of the job is over."""

    async def publish(self, job):
        await until(lambda: time.time() > job.deadline + 0.05)
        return await super().publish(job)


async def test_what_is_being_published_is_not_thrown_away(bench) -> None:
    engine = await bench.open(results=SlowToPublish(bench.results_folder))

    job = await submit(engine, after=ENOUGH)

    assert (await bench.ended(engine, job)).status is Status.COMPLETED


async def test_a_job_that_waits_to_be_tried_again_is_given_up(bench) -> None:
    bench.timing = replace(bench.timing, retry_seconds=60)
    engine = await bench.open()
    bench.host.endings = [Ending(failure=OutOfMemory())]

    job = await bench.ended(engine, await submit(engine, after=ENOUGH))

    assert (outcome(job), job.attempt) == (GIVEN_UP, 1)


async def test_a_deadline_that_passed_while_the_process_was_dead_counts(bench) -> None:
    engine = await bench.open()
    bench.host.gate.clear()
    running = await submit(engine, after=ENOUGH)
    await bench.until(lambda: bench.host.prompts)
    await bench.crash(engine)
    await bench.until(lambda: time.time() > running.deadline)

    later = await bench.open(host=bench.new_host())

    assert outcome(await bench.ended(later, running)) == GIVEN_UP


async def test_a_workflow_limits_how_long_a_job_waits(bench) -> None:
    limit(bench, max_wait_seconds=ENOUGH)
    engine = await bench.open()
    bench.host.gate.clear()
    first = await submit(engine)
    await bench.until(lambda: bench.host.prompts)

    late = await bench.ended(engine, await submit(engine))

    assert (outcome(late), late.deadline) == (GIVEN_UP, None)
    # The one that had begun in time goes on.
    bench.host.gate.set()
    assert (await bench.ended(engine, first)).status is Status.COMPLETED


@pytest.mark.parametrize("seconds", [10**20, 1e308, 10**400 - 1])
async def test_a_job_may_wait_for_ever(bench, seconds) -> None:
    limit(bench, max_wait_seconds=seconds)
    engine = await bench.open()

    job = await submit(engine)

    assert job.give_up_at == LAST_MOMENT
    assert (await bench.ended(engine, job)).status is Status.COMPLETED


async def test_the_earlier_of_both_limits_counts(bench) -> None:
    limit(bench, max_wait_seconds=1000)
    engine = await bench.open()
    bench.host.gate.clear()

    job = await submit(engine, after=0.05)

    assert job.give_up_at == job.deadline
    assert outcome(await bench.ended(engine, job)) == GIVEN_UP


@pytest.mark.parametrize(("given", "limit_seconds"), [(7, 7), (5000, 1800), (None, 1800)])
async def test_a_workflow_limits_a_run_below_the_limit_of_the_server(
    bench, given, limit_seconds
) -> None:
    limit(bench, **({"max_run_seconds": given} if given else {}))
    engine = await bench.open()

    await bench.ended(engine, await submit(engine))

    assert [prompt.limit_seconds for prompt in bench.host.prompts] == [limit_seconds]


@pytest.mark.parametrize("limits", [{"max_wait_seconds": 0}, {"max_run_seconds": "9"}, {"x": 1}])
async def test_limits_that_are_none_break_the_definition(bench, limits) -> None:
    limit(bench, **limits)
    engine = await bench.open()

    (problem,) = engine.offer.find("draw").problems
    assert "limits" in problem


async def test_a_store_without_deadlines_is_taken_on(tmp_path) -> None:
    store = Store(tmp_path / "jobs.sqlite3")
    await store.open()
    job = Job(job_id="a", workflow="draw", parameters={}, created_at=0, give_up_at=5)
    await store.insert(job)
    await store.insert(job.model_copy(update={"job_id": "b", "give_up_at": None}))

    assert await store.give_up(now=4.9) is None
    given_up = await store.give_up(now=5)
    assert await store.give_up(now=10**10) is None

    assert (given_up.job_id, *outcome(given_up)) == ("a", *GIVEN_UP)
    assert await store.get("a") == given_up
    await store.close()


# Over HTTP


@pytest.fixture
async def client(aiohttp_client, bench):
    bench.host.gate.clear()
    return await aiohttp_client(application(await bench.open(), Surface("1")))


async def post(client, path=DRAW, body=None, **headers):
    reply = await client.post(path, json=body or {}, headers=headers)
    return reply.status, await reply.json()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("90s", 90), ("1m", 60), ("1h30m", 5400), ("1d", 86_400), ("2m5", 125)],
)
async def test_a_deadline_is_given_in_seconds_or_with_units(client, given, seconds) -> None:
    before = time.time()
    status, job = await post(client, **{"Cancel-After": given})

    assert status == 202
    # It is told in whole milliseconds.
    assert before - 0.002 <= moment(job["deadline"]) - seconds <= time.time()


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.mark.parametrize(
    "given", ["", "0", "-1", "1.5", "soon", "1m1h", "1 m", "31d", "m", "9" * 30, "٣", "1w"]
)
@pytest.mark.parametrize("path", [DRAW, f"{DRAW}?dry_run=true", f"{DRAW}:batch"])
async def test_another_time_is_refused(client, given, path) -> None:
    status, problem = await post(client, path, {"items": [{}]}, **{"Cancel-After": given})

    assert (status, problem["code"]) == (400, "invalid_cancel_after")


async def test_a_deadline_holds_for_every_item_of_a_batch(client) -> None:
    _, told = await post(client, f"{DRAW}:batch", {"items": [{}, {}]}, **{"Cancel-After": "1h"})

    assert [bool(result["job"]["deadline"]) for result in told["results"]] == [True, True]


async def test_without_a_wish_there_is_no_deadline(client) -> None:
    assert (await post(client))[1]["deadline"] is None
