"""The engine takes every accepted job to its end, whatever happens on the way."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from unified_api.jobs.errors import (
    ExecutionFailed,
    Interrupted,
    InvalidParameters,
    NotReady,
    OutOfMemory,
    PromptVanished,
    QueueFull,
    StorageUnavailable,
    TimedOut,
    UnhealthyWorkflow,
    UnknownJob,
    UnknownOutput,
    UnknownWorkflow,
    WorkflowInvalid,
)
from unified_api.jobs.health import State
from unified_api.jobs.job import Stage, Status
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.prompt import Ending, Lack
from unified_api.jobs.store import Store

from ..fake_host import all_taken_up, stage_of, unless_full


class HangsBeforePublishing(LocalResults):
    async def publish(self, job):
        await asyncio.Event().wait()


class HangsAfterPublishing(LocalResults):
    has_published = False

    async def publish(self, job):
        await super().publish(job)
        self.has_published = True
        await asyncio.Event().wait()


async def accepted(engine, slug, parameters):
    return (await engine.submit(slug, parameters)).job


@pytest.fixture
def in_turn(bench):
    """Nobody overtakes a job that takes its time to begin."""
    bench.timing = replace(bench.timing, begin_seconds=60)


async def is_publishing(engine, job):
    return await stage_of(engine, job) is Stage.PUBLISHING


def seed_of(prompt):
    return prompt.graph["1"]["inputs"]["seed"]


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return [job_id for (job_id,) in db.execute("SELECT job_id FROM jobs")]


def execute(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(sql)


# What is accepted


async def test_a_job_becomes_a_picture(engine, bench):
    job = await accepted(engine, "draw", {"text": "a tree"})
    done = await bench.ended(engine, job)

    (output,) = done.outputs
    assert (done.status, done.stage, done.attempt) == (Status.COMPLETED, None, 1)
    assert (output.name, output.content_type, output.width, output.height) == (
        "image",
        "image/png",
        8,
        6,
    )
    path = await engine.output_path(job.job_id, 0)
    assert path.stat().st_size == output.size


@pytest.mark.usefixtures("in_turn")
async def test_of_two_that_find_comfyui_idle_one_has_begun(engine, bench):
    bench.host.gate.clear()

    both = await asyncio.gather(*(accepted(engine, "draw", {}) for _ in range(2)))
    await bench.until(lambda: len(bench.host.queue) == 2)

    (begun,) = [job for job in both if (await engine.get(job.job_id))[0].attempt]
    assert begun.job_id in bench.host.queue[0].folder


async def test_a_finished_job_tells_how_long_each_part_took(engine, bench):
    done = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert None not in done.timings.model_dump().values()
    assert done.created_at <= done.started_at <= done.finished_at


async def test_a_job_is_on_disk_when_submit_returns(engine, bench):
    job = await accepted(engine, "draw", {})

    assert rows(bench.store_path) == [job.job_id]


async def test_a_job_that_is_accepted_is_pending_and_complete(engine):
    job = await accepted(engine, "draw", {"text": "a"})

    assert (job.status, job.stage) == (Status.PENDING, Stage.QUEUED)
    assert job.parameters == {**job.parameters, "text": "a", "size": 8, "bold": False}


async def test_an_omitted_seed_is_drawn_and_kept(engine, bench):
    jobs = [await accepted(engine, "draw", given) for given in ({}, {"seed": None})]
    done = [await bench.ended(engine, job) for job in jobs]

    seeds = [job.parameters["seed"] for job in jobs]
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert [job.parameters["seed"] for job in done] == seeds
    assert [seed_of(prompt) for prompt in bench.host.prompts] == seeds


async def test_the_largest_seed_survives_the_store_exactly(engine, bench):
    done = await bench.ended(engine, await accepted(engine, "draw", {"seed": 2**64 - 1}))

    assert done.parameters["seed"] == seed_of(bench.host.prompts[0]) == 2**64 - 1


async def test_an_unknown_workflow_is_refused(engine, bench):
    with pytest.raises(UnknownWorkflow):
        await engine.submit("paint", {})

    assert rows(bench.store_path) == []


async def test_a_workflow_that_lacks_something_is_refused_by_name(bench):
    bench.host.lacking.append(Lack("1", None, "node class Draw is not installed in this ComfyUI"))
    engine = await bench.open()

    with pytest.raises(UnhealthyWorkflow, match="node class Draw is not installed"):
        await engine.submit("draw", {})


async def test_what_a_caller_gives_himself_is_not_lacking(bench):
    bench.host.lacking.append(Lack("1", "text", "Draw does not offer this"))
    engine = await bench.open()

    assert (
        await bench.ended(engine, await accepted(engine, "draw", {}))
    ).status is Status.COMPLETED


async def test_wrong_parameters_are_refused_each_by_name(engine, bench):
    with pytest.raises(InvalidParameters) as refused:
        await engine.submit("draw", {"size": 65, "colour": "red"})

    assert {each.parameter for each in refused.value.violations} == {"size", "colour"}
    assert rows(bench.store_path) == []


async def test_a_full_queue_refuses_until_there_is_room(bench):
    engine = await bench.open(max_pending=1, fetch_ahead=1)
    bench.host.gate.clear()
    # Two in ComfyUI's queue, one ahead, one that waits.
    for _ in range(4):
        await bench.until(lambda: unless_full(accepted(engine, "draw", {})))

    with pytest.raises(QueueFull):
        await engine.submit("draw", {})

    bench.host.gate.set()
    assert await bench.until(lambda: unless_full(accepted(engine, "draw", {})))


async def test_a_job_that_cannot_be_stored_is_refused_and_the_next_one_is_not(engine, bench):
    execute(bench.store_path, "ALTER TABLE jobs RENAME TO away")
    with pytest.raises(StorageUnavailable):
        await engine.submit("draw", {})
    with pytest.raises(StorageUnavailable):
        await engine.get("any")

    execute(bench.store_path, "ALTER TABLE away RENAME TO jobs")

    done = await bench.ended(engine, await accepted(engine, "draw", {}))
    assert done.status is Status.COMPLETED


async def test_an_unknown_job_and_an_unknown_output_have_names(engine, bench):
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    with pytest.raises(UnknownJob):
        await engine.get("nobody")
    with pytest.raises(UnknownOutput):
        await engine.output_path(job.job_id, 1)


async def test_an_output_whose_file_is_gone_is_unknown(engine, bench):
    job = await bench.ended(engine, await accepted(engine, "draw", {}))
    shutil.rmtree(bench.results_folder / job.job_id)

    with pytest.raises(UnknownOutput):
        await engine.output_path(job.job_id, 0)


# How jobs share ComfyUI


@pytest.mark.usefixtures("in_turn")
async def test_comfyui_never_holds_more_than_two_prompts_and_gets_them_in_order(engine, bench):
    bench.host.gate.clear()
    jobs = [await accepted(engine, "draw", {"seed": number}) for number in range(8)]
    await bench.until(lambda: all_taken_up(engine, jobs))
    assert len(bench.host.queue) == 2

    bench.host.gate.set()

    done = [await bench.ended(engine, job) for job in jobs]
    assert {job.status for job in done} == {Status.COMPLETED}
    assert max(len(others) for _, others in bench.host.company) == 1
    assert [seed_of(prompt) for prompt in bench.host.prompts] == list(range(8))


async def test_a_slow_picture_delays_nobody_else(engine, gallery, picture, bench):
    url = gallery.hang("/slow.png", picture("red"), held=True)
    slow = await accepted(engine, "edit", {"image_url": url})
    await bench.until(lambda: gallery.asked)
    quick = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert quick.status is Status.COMPLETED
    assert await stage_of(engine, slow) is Stage.FETCHING_INPUTS
    gallery.gate.set()
    assert (await bench.ended(engine, slow)).status is Status.COMPLETED


async def test_a_picture_reaches_the_graph_under_the_name_of_its_content(
    engine, bench, gallery, picture
):
    url = gallery.hang("/a.png", picture("red"))
    job = await accepted(engine, "edit", {"image_url": url})
    done = await bench.ended(engine, job)

    name = bench.host.prompts[0].graph["1"]["inputs"]["image"]
    assert done.status is Status.COMPLETED
    assert name.startswith("unified_api/")
    assert name.endswith(".png")


async def test_a_prompt_knows_its_own_folder_and_how_long_it_may_run(bench):
    engine = await bench.open(job_timeout=7)
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    (prompt,) = bench.host.prompts
    assert prompt.limit_seconds == 7
    assert job.job_id in prompt.folder
    assert prompt.graph["2"]["inputs"]["filename_prefix"].startswith(f"{prompt.folder}/")


async def test_progress_is_shown_while_a_prompt_runs(engine, bench):
    bench.host.gate.clear()
    job = await accepted(engine, "draw", {})
    await bench.until(lambda: bench.host.prompts)
    bench.host.hear("progress_state", {"nodes": {"1": {"state": "running", "value": 3, "max": 4}}})

    _, progress = await engine.get(job.job_id)

    assert (progress.percent, progress.node, progress.step, progress.steps) == (60, "Draw", 3, 4)


async def test_the_list_shows_the_newest_first_as_they_are_now(engine, bench):
    first = await bench.ended(engine, await accepted(engine, "draw", {}))
    bench.host.gate.clear()
    second = await accepted(engine, "draw", {})
    await bench.until(lambda: len(bench.host.prompts) == 2)

    listed = (await engine.list(limit=9)).jobs

    shown = [(job.job_id, job.stage) for job, _ in listed]
    assert shown == [(second.job_id, Stage.RUNNING), (first.job_id, None)]


async def test_what_comfyui_left_is_removed_once_it_is_published(engine, bench):
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    await bench.until(lambda: not (bench.host.output_folder / "unified_api" / job.job_id).exists())


# How jobs fail


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ExecutionFailed("it broke.", node_id="1", node_class="Draw"), "execution_failed"),
        (Interrupted(node_id="1", node_class="Draw"), "interrupted"),
        (TimedOut(node_id="1", node_class="Draw"), "timed_out"),
    ],
)
async def test_a_failed_prompt_ends_the_job_with_its_reason(engine, bench, failure, code):
    bench.host.endings.append(Ending(failure=failure))
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert (job.status, job.error) == (Status.FAILED, str(failure))
    detail = job.error_detail.model_dump()
    assert detail == {"code": code, "retryable": False, "node_id": "1", "node_class": "Draw"}
    assert job.attempt == 1


async def test_a_graph_that_comfyui_refuses_ends_the_job(engine, bench):
    bench.host.endings.append(WorkflowInvalid("ComfyUI refused node 1.", node_id="1"))
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert (job.status, job.error_detail.code) == (Status.FAILED, "workflow_invalid")


async def test_a_prompt_without_files_has_no_output(engine, bench):
    bench.host.endings.append(Ending())
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert (job.status, job.error_detail.code) == (Status.FAILED, "no_output")


async def test_a_picture_that_cannot_be_fetched_ends_the_job_before_any_attempt(
    engine, bench, gallery
):
    url = gallery.hang("/gone.png", b"", status=404)
    job = await bench.ended(engine, await accepted(engine, "edit", {"image_url": url}))

    assert (job.status, job.error_detail.code) == (Status.FAILED, "input_fetch_failed")
    assert "image_url" in job.error
    assert (job.attempt, bench.host.prompts) == (0, [])


async def test_a_result_that_cannot_be_stored_waits_for_the_disk_and_not_for_the_gpu(engine, bench):
    shutil.rmtree(bench.results_folder)
    job = await accepted(engine, "draw", {})
    await bench.until(lambda: is_publishing(engine, job))
    bench.results_folder.mkdir()

    done = await bench.ended(engine, job)
    assert (done.status, done.attempt, len(bench.host.prompts)) == (Status.COMPLETED, 1, 1)


async def test_a_fault_of_ours_ends_the_job_without_telling_its_inside(engine, bench):
    bench.host.endings.append(RuntimeError("secret of the machine"))
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert (job.status, job.error_detail.code) == (Status.FAILED, "internal_error")
    assert "secret" not in job.error
    assert (
        await bench.ended(engine, await accepted(engine, "draw", {}))
    ).status is Status.COMPLETED


async def test_a_run_that_may_succeed_is_repeated_and_its_status_never_goes_back(bench):
    engine = await bench.open(max_attempts=2)
    bench.host.endings += [Ending(failure=PromptVanished()), Ending(failure=OutOfMemory())]
    bench.host.gate.clear()
    jobs = [await accepted(engine, "draw", {}) for _ in range(2)]
    seen = {job.job_id: [job.status] for job in jobs}
    await bench.until(lambda: len(bench.host.queue) == 2)
    bench.host.gate.set()

    async def all_final():
        now = [(await engine.get(job.job_id))[0] for job in jobs]
        for job in now:
            seen[job.job_id] += [job.status] if job.status is not seen[job.job_id][-1] else []
        return now if all(job.status.is_final for job in now) else None

    done = await bench.until(all_final)

    for job in done:
        assert seen[job.job_id] == [Status.PENDING, Status.PROCESSING, Status.COMPLETED]
        assert (job.attempt, job.error) == (2, None)
        first, second = [
            prompt for prompt in bench.host.prompts if seed_of(prompt) == job.parameters["seed"]
        ]
        assert first.prompt_id != second.prompt_id
        assert first.folder != second.folder


async def test_a_prompt_that_vanishes_too_often_fails(bench):
    engine = await bench.open(max_attempts=1)
    bench.host.endings.append(Ending(failure=PromptVanished()))
    job = await bench.ended(engine, await accepted(engine, "draw", {}))

    assert (job.status, job.error_detail.code) == (Status.FAILED, "removed_from_queue")
    assert len(bench.host.prompts) == 1


# What a crash leaves behind


@pytest.mark.usefixtures("in_turn")
async def test_a_job_of_high_priority_begins_before_all_but_what_comfyui_has(bench):
    bench.host.gate.clear()
    engine = await bench.open(fetch_ahead=2)
    normal = [await accepted(engine, "draw", {"seed": number}) for number in range(6)]
    await bench.until(lambda: all_taken_up(engine, normal[:4]))

    high = [
        await accepted(engine, "draw", {"seed": number, "priority": "high"}) for number in (7, 8)
    ]
    await bench.until(lambda: all_taken_up(engine, high))
    bench.host.gate.set()

    for job in (*normal, *high):
        await bench.ended(engine, job)
    begun = [prompt.graph["1"]["inputs"]["seed"] for prompt in bench.host.prompts]
    assert begun == [0, 1, 7, 8, 2, 3, 4, 5]


async def test_a_waiting_job_is_run_after_a_restart(bench):
    bench.host.gate.clear()
    engine = await bench.open(fetch_ahead=1)
    jobs = [await accepted(engine, "draw", {"seed": number}) for number in range(5)]
    await bench.until(lambda: bench.host.prompts)
    await bench.crash(engine)

    engine = await bench.open(host=bench.new_host())

    done = [await bench.ended(engine, job) for job in jobs]
    assert {job.status for job in done} == {Status.COMPLETED}
    assert [job.parameters["seed"] for job in done] == list(range(5))


async def test_a_job_that_was_fetching_fetches_again(bench, gallery, picture):
    url = gallery.hang("/slow.png", picture("red"), held=True)
    engine = await bench.open()
    job = await accepted(engine, "edit", {"image_url": url})
    await bench.until(lambda: gallery.asked)
    await bench.crash(engine)
    gallery.gate.set()

    done = await bench.ended(await bench.open(), job)

    assert (done.status, done.attempt) == (Status.COMPLETED, 1)
    assert gallery.asked["/slow.png"] == 2


async def test_a_job_that_was_running_runs_again_alone(bench, gallery, picture):
    url = gallery.hang("/slow.png", picture("red"), held=True)
    bench.host.gate.clear()
    engine = await bench.open()
    suspect = await accepted(engine, "draw", {})
    await bench.until(lambda: bench.host.prompts)
    others = [await accepted(engine, "edit", {"image_url": url}) for _ in range(3)]
    await bench.crash(engine)
    second = bench.new_host()
    second.gate.clear()

    engine = await bench.open(host=second)
    await bench.until(lambda: second.prompts)
    gallery.gate.set()
    await bench.until(lambda: all_taken_up(engine, others))

    assert len(second.queue) == 1
    second.gate.set()
    done = [await bench.ended(engine, job) for job in (suspect, *others)]
    assert {job.status for job in done} == {Status.COMPLETED}
    assert [job.attempt for job in done] == [2, 1, 1, 1]


async def test_finished_files_are_published_after_a_crash_without_another_run(bench):
    engine = await bench.open(results=HangsBeforePublishing(bench.results_folder))
    job = await accepted(engine, "draw", {})
    await bench.until(lambda: is_publishing(engine, job))
    await bench.crash(engine)
    second = bench.new_host()

    done = await bench.ended(await bench.open(host=second), job)

    assert (done.status, done.attempt) == (Status.COMPLETED, 1)
    assert second.prompts == []


async def test_files_that_changed_while_we_were_dead_are_made_again(bench):
    engine = await bench.open(results=HangsBeforePublishing(bench.results_folder))
    job = await accepted(engine, "draw", {})
    await bench.until(lambda: is_publishing(engine, job))
    await bench.crash(engine)
    (left,) = bench.host.output_folder.rglob("*.png")
    left.write_bytes(b"torn")
    second = bench.new_host()

    done = await bench.ended(await bench.open(host=second), job)

    assert (done.status, done.attempt) == (Status.COMPLETED, 2)
    assert len(second.prompts) == 1


async def test_a_published_result_is_adopted_though_its_status_was_not_saved(bench):
    results = HangsAfterPublishing(bench.results_folder)
    engine = await bench.open(results=results)
    job = await accepted(engine, "draw", {})
    await bench.until(lambda: results.has_published)
    await bench.crash(engine)
    shutil.rmtree(bench.host.output_folder)
    second = bench.new_host()

    done = await bench.ended(await bench.open(host=second), job)

    assert (done.status, done.attempt, len(done.outputs)) == (Status.COMPLETED, 1, 1)
    assert second.prompts == []


async def test_a_job_that_killed_the_process_three_times_is_given_up(bench):
    job, prompts = None, []
    for _ in range(3):
        host = bench.new_host()
        host.gate.clear()
        engine = await bench.open(host=host)
        job = job or await accepted(engine, "draw", {})
        await bench.until(lambda host=host: host.prompts)
        prompts += host.prompts
        await bench.crash(engine)

    done = await bench.ended(await bench.open(), job)

    assert (done.status, done.error_detail.code) == (Status.FAILED, "crash_loop")
    assert len({prompt.prompt_id for prompt in prompts}) == 3


async def test_a_job_whose_definition_is_gone_fails_by_name(bench):
    bench.host.gate.clear()
    engine = await bench.open()
    job = await accepted(engine, "draw", {})
    await bench.until(lambda: bench.host.prompts)
    await bench.crash(engine)
    shutil.rmtree(bench.definitions / "draw")

    done = await bench.ended(await bench.open(), job)

    assert (done.status, done.error_detail.code) == (Status.FAILED, "workflow_invalid")
    assert "draw" in done.error


async def test_a_completed_job_stays_as_it_is_after_a_restart(bench):
    engine = await bench.open()
    done = await bench.ended(engine, await accepted(engine, "draw", {}))
    await bench.crash(engine)

    engine = await bench.open()

    assert (await engine.get(done.job_id))[0] == done
    assert len(bench.host.prompts) == 1


# When it cannot begin


async def test_an_engine_whose_store_is_in_use_says_so_and_takes_no_jobs(bench):
    other = Store(bench.store_path)
    await other.open()

    engine = await bench.open()

    assert not engine.is_ready
    assert engine.components()["store"].state is State.UNHEALTHY
    with pytest.raises(NotReady, match="uses the job store"):
        await engine.submit("draw", {})
    await other.close()


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be looked at" * 20, None]
)
async def test_an_engine_whose_store_cannot_be_opened_takes_no_jobs(bench, content):
    bench.store_path.parent.mkdir()
    bench.store_path.mkdir() if content is None else bench.store_path.write_bytes(content)

    engine = await bench.open()

    assert not engine.is_ready
    with pytest.raises(NotReady):
        await engine.submit("draw", {})


async def test_a_dead_worker_or_no_healthy_workflow_means_not_ready(bench):
    engine = await bench.open()
    assert engine.is_ready

    bench.host.problem = "ComfyUI is gone."
    assert not engine.is_ready
    assert engine.components()["comfyui"].state is State.UNHEALTHY
    await bench.crash(engine)
    bench.host.problem = None
    bench.host.lacking += [Lack("1", None, "Draw is not installed")]

    engine = await bench.open()

    assert not engine.is_ready
    assert "draw" in engine.components()["workflows"].reason
