"""Warm-ups: what runs before the first job, that it is nobody's job, and that it stops nothing."""

from __future__ import annotations

import json
import time

import psutil
import pytest
from aiohttp.test_utils import TestClient
from PIL import Image
from unified_api.jobs.errors import ExecutionFailed
from unified_api.jobs.health import State
from unified_api.jobs.job import Status
from unified_api.jobs.prompt import Ending, Lack
from unified_api.jobs.warm_up import seconds_since_start
from unified_api.routes.listener import application
from unified_api.routes.service import Surface

from ..fake_host import all_taken_up
from .test_metrics import Read

COLD_START = "unified_api_cold_start_seconds"
WARM_UP = "unified_api_warm_up_seconds"


@pytest.fixture
def change(definitions):
    """Change a definition: change("draw", lambda content: …)."""

    def by(slug, edit):
        file = definitions / slug / "workflow.json"
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))

    return by


@pytest.fixture
def warm(change):
    """Give a workflow a warm-up: warm("draw", text="a tree")."""

    def with_parameters(slug, **parameters):
        change(slug, lambda content: content.update(warmup=parameters))

    return with_parameters


@pytest.fixture
async def held(bench, warm):
    """An engine in the middle of the warm-up of `draw`."""
    warm("draw")
    bench.host.gate.clear()
    engine = await bench.open()
    await bench.until(lambda: bench.host.prompts)
    return engine


async def is_over(bench, engine):
    """The state of the warm-ups and what is told of them, once they are over."""
    await bench.until(lambda: engine.is_ready and engine.components()["warm_up"].reason)
    component = engine.components()["warm_up"]
    return component.state, component.reason


def drawn(bench):
    """What ComfyUI was told to draw, in order."""
    return [prompt.graph["1"]["inputs"].get("text") for prompt in bench.host.prompts]


# Before ready


async def test_it_runs_before_the_service_is_ready(bench, held) -> None:
    assert not held.is_ready
    assert held.components()["warm_up"].reason == "warming up: draw"

    bench.host.gate.set()

    state, reason = await is_over(bench, held)
    assert (state, len(bench.host.prompts)) == (State.HEALTHY, 1)
    assert reason.startswith("the start took ")


async def test_whoever_asks_is_told_what_it_waits_for(aiohttp_client, bench, held) -> None:
    client: TestClient = await aiohttp_client(application(held, Surface("1")))

    early = await client.get("/ready")

    assert (early.status, (await early.json())["reasons"]) == (503, {"warm_up": "warming up: draw"})
    bench.host.gate.set()
    await is_over(bench, held)
    late = await client.get("/ready")
    assert (late.status, (await late.json())["reasons"]) == (200, {})


async def test_without_warm_ups_it_is_ready_at_once(engine, bench) -> None:
    assert engine.is_ready
    assert bench.host.prompts == []


async def test_jobs_that_come_meanwhile_are_accepted_and_run_after_all_warm_ups(
    bench, warm
) -> None:
    warm("draw")
    warm("edit")
    bench.host.gate.clear()
    engine = await bench.open()
    await bench.until(lambda: bench.host.prompts)
    jobs = [
        (await engine.submit("draw", {"text": text, "priority": priority})).job
        for text, priority in (("one", "normal"), ("two", "high"))
    ]
    await bench.until(lambda: all_taken_up(engine, jobs))

    bench.host.gate.set()

    ended = [await bench.ended(engine, job) for job in jobs]
    assert {job.status for job in ended} == {Status.COMPLETED}
    assert drawn(bench)[0] == ""
    assert drawn(bench)[2:] == ["two", "one"]


async def test_jobs_of_an_earlier_process_run_after_the_warm_ups(bench, warm) -> None:
    bench.host.gate.clear()
    dead = await bench.open()
    job = (await dead.submit("draw", {"text": "left"})).job
    await bench.until(lambda: bench.host.prompts)
    await bench.crash(dead)
    warm("draw")
    bench.host.gate.set()
    bench.host.prompts.clear()

    engine = await bench.open()

    assert (await bench.ended(engine, job)).status is Status.COMPLETED
    assert drawn(bench) == ["", "left"]


async def test_they_run_one_after_the_other(bench, warm) -> None:
    warm("draw")
    warm("edit")

    await is_over(bench, await bench.open())

    assert [others for _, others in bench.host.company] == [(), ()]


# What runs


async def test_it_runs_with_its_parameters_and_the_defaults(bench, warm, change) -> None:
    warm("draw", text="a tree", size=9)
    change("draw", lambda content: content["parameters"]["properties"]["bold"].update(default=True))

    await is_over(bench, await bench.open())

    (prompt,) = bench.host.prompts
    assert prompt.graph["1"]["inputs"] == {"text": "a tree", "seed": 0, "size": 9, "bold": True}


async def test_a_required_picture_that_is_not_named_is_a_blank_one(bench, warm, tmp_path) -> None:
    warm("edit")

    await is_over(bench, await bench.open())

    (prompt,) = bench.host.prompts
    with Image.open(tmp_path / "input" / prompt.graph["1"]["inputs"]["image"]) as picture:
        assert (picture.size, picture.convert("RGB").getcolors()) == (
            (64, 64),
            [(4096, (255, 255, 255))],
        )


async def test_a_picture_that_is_named_is_fetched(bench, warm, gallery, picture) -> None:
    warm("edit", image_url=gallery.hang("/a.png", picture("teal")))

    state, _ = await is_over(bench, await bench.open())

    assert (state, gallery.asked["/a.png"]) == (State.HEALTHY, 1)


async def test_it_is_no_job_and_leaves_nothing(bench, warm, tmp_path) -> None:
    warm("draw")
    engine = await bench.open()

    await is_over(bench, engine)

    told = Read(engine.metrics.text(engine.components()))
    assert (await engine.list(limit=1)).jobs == []
    assert [each for each in (tmp_path / "output").rglob("*") if each.is_file()] == []
    assert list(bench.results_folder.iterdir()) == []
    assert told("unified_api_gpu_busy_seconds_total") == 0
    assert told("unified_api_jobs_ended_total", workflow="draw", outcome="completed") == 0


async def test_what_cannot_run_here_is_passed_over(bench, warm) -> None:
    warm("draw")
    bench.host.lacking = [Lack("1", None, "it is not there")]

    engine = await bench.open()

    await bench.until(lambda: "the start took" in (engine.components()["warm_up"].reason or ""))
    assert bench.host.prompts == []


async def test_none_runs_where_they_are_off(bench, warm) -> None:
    warm("draw")

    engine = await bench.open(warm_up_seconds=0)

    assert engine.is_ready
    assert bench.host.prompts == []


# When something goes wrong


async def test_one_that_fails_is_told_and_the_next_one_runs(bench, warm, caplog) -> None:
    warm("draw")
    warm("edit")
    bench.host.endings.append(Ending(failure=ExecutionFailed("node 1 raised ValueError.")))

    told = await is_over(bench, await bench.open())

    assert told == (State.DEGRADED, "draw is not warmed up: node 1 raised ValueError.")
    assert "draw is not warmed up: node 1 raised ValueError." in caplog.text
    assert len(bench.host.prompts) == 2


async def test_a_fault_that_nobody_foresaw_keeps_nothing_from_working(bench, warm, caplog) -> None:
    warm("draw")
    bench.host.endings.append(LookupError("a secret"))

    state, reason = await is_over(bench, await bench.open())

    assert state is State.DEGRADED
    assert reason.startswith("draw is not warmed up: a fault of this service")
    assert "a secret" in caplog.text


async def test_parameters_that_do_not_suffice_are_named(bench, warm, change) -> None:
    warm("draw", size=9)
    change("draw", lambda content: content["parameters"].update(required=["text"]))

    _, reason = await is_over(bench, await bench.open())

    assert "text" in reason
    assert bench.host.prompts == []


async def test_those_that_take_too_long_are_given_up(bench, warm) -> None:
    warm("draw")
    warm("edit")
    bench.host.gate.clear()

    state, reason = await is_over(bench, await bench.open(warm_up_seconds=2))

    assert (state, reason.count("UNIFIED_API_WARM_UP_SECONDS")) == (State.DEGRADED, 2)
    await bench.until(lambda: bench.host.is_idle)
    assert len(bench.host.prompts) == 1


async def test_one_in_which_the_process_died_is_left_out_once(bench, held) -> None:
    await bench.crash(held)
    bench.host.gate.set()

    second = await bench.open()
    state, reason = await is_over(bench, second)
    runs = len(bench.host.prompts)
    await bench.crash(second)
    third = await is_over(bench, await bench.open())

    assert (state, "left out" in reason, runs) == (State.DEGRADED, True, 1)
    assert (third[0], len(bench.host.prompts)) == (State.HEALTHY, 2)


async def test_a_process_that_is_told_to_end_waits_for_none(bench, held) -> None:
    await held.drain()

    await bench.until(lambda: bench.host.is_idle)
    assert len(bench.host.prompts) == 1


# How long it took


async def test_the_cold_start_and_each_warm_up_are_measured(bench, warm) -> None:
    warm("draw")
    engine = await bench.open()

    await is_over(bench, engine)

    told = Read(engine.metrics.text(engine.components()))
    assert told(COLD_START) >= told(WARM_UP, workflow="draw") > 0
    assert told.labels(WARM_UP, "workflow") == {"draw"}


def test_the_age_of_the_process_is_what_the_system_says() -> None:
    told = time.time() - psutil.Process().create_time()

    assert seconds_since_start() == pytest.approx(told, abs=2)
