"""How a prompt goes on and ends: what ComfyUI tells, and what nobody tells."""

import asyncio
import json
import logging

import pytest
from unified_api.jobs.errors import (
    ExecutionFailed,
    Interrupted,
    PromptVanished,
    TimedOut,
)
from unified_api.jobs.prompt import Prompt

from ..fake_host import until
from ..planted_comfyui import ERROR, FOLDER, GRAPH, INTERRUPTED, SUCCESS, entry, until_swept

# The end of a prompt


async def test_an_end_is_told_with_the_files(run, finish, saved):
    path = saved(f"{FOLDER}/a.png")
    task = await run()

    await finish({"9": {"images": [entry("a.png")]}})

    ending = await task
    (file,) = ending.produced
    assert (file.node_id, file.content, file.is_preview) == ("9", path, False)
    assert ending.failure is None


async def test_the_books_of_comfyui_are_kept_as_ever(run, finish, planted):
    await run()

    await finish({"9": {}}, process_item=None)

    assert planted.queue.currently_running == {}
    assert planted.queue.history["p"]["outputs"] == {"9": {}}


@pytest.mark.parametrize(
    ("status", "kind"), [(ERROR, ExecutionFailed), (INTERRUPTED, Interrupted), (None, type(None))]
)
async def test_an_end_tells_why_it_failed(run, finish, status, kind):
    task = await run()

    await finish(status=status)

    assert type((await task).failure) is kind


async def test_the_end_of_somebody_elses_prompt_is_none_of_ours(run, finish, planted):
    planted.queue.put((1, "theirs", {}, {}, []))
    task = await run()

    await finish()
    assert "theirs" in planted.queue.history
    assert not task.done()

    await finish()
    assert (await task).failure is None


async def test_an_end_that_cannot_be_told_hurts_nobody_and_is_found_later(run, planted, caplog):
    task = await run()
    item_id = planted.queue.begin()

    with caplog.at_level(logging.CRITICAL):
        planted.queue.task_done(item_id, None, SUCCESS)

    assert (await task).failure is None


async def test_what_comfyui_itself_raises_is_not_hidden(host, planted):
    with pytest.raises(KeyError):
        planted.queue.task_done(99, {}, SUCCESS)


async def test_an_interrupt_after_the_limit_is_our_own(run, finish, planted):
    task = await run(limit_seconds=0.0)
    (ear,) = planted.server.sockets.values()
    await ear.send_json({"type": "execution_start", "data": {"prompt_id": "p"}})

    await finish(status=INTERRUPTED)

    assert isinstance((await task).failure, TimedOut)


# What nobody tells


async def test_the_sweep_finds_an_end_that_was_not_heard(run, planted, saved):
    saved(f"{FOLDER}/a.png")
    ended, failed = await run("a"), await run("b")
    planted.queue.close(planted.queue.begin(), {"outputs": {"9": {"x": [entry("a.png")]}}}, SUCCESS)
    planted.queue.close(planted.queue.begin(), {}, ERROR)

    assert len((await ended).produced) == 1
    assert isinstance((await failed).failure, ExecutionFailed)


async def test_the_sweep_finds_a_prompt_that_somebody_removed_and_leaves_the_others(run, planted):
    running, waiting, removed = await run("a"), await run("b"), await run("c")
    planted.queue.begin()
    planted.queue.queue.pop()

    ending = await removed

    assert isinstance(ending.failure, PromptVanished)
    assert not running.done()
    assert not waiting.done()


async def test_the_sweep_takes_our_place_among_the_clients_back(host, planted):
    (client_id,) = planted.server.sockets
    ear = planted.server.sockets.pop(client_id)

    await until(lambda: client_id in planted.server.sockets)

    assert type(planted.server.sockets[client_id]) is type(ear)


async def test_the_sweep_interrupts_a_prompt_that_runs_for_too_long_and_no_other(run, planted):
    await run("late", limit_seconds=0.0)
    await run("waiting", limit_seconds=0.0)
    planted.queue.begin()

    await until(lambda: planted.interrupted)

    assert planted.interrupted == ["late"]


# Nobody waits any more


async def cancel(task):
    """As a caller does it."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def queued(planted):
    return [item[1] for item in planted.queue.queue]


async def test_cancelled_while_the_graph_is_judged_it_is_never_queued(host, planted):
    planted.has_judged.clear()
    task = asyncio.ensure_future(host.run(Prompt("p", GRAPH, FOLDER, 60.0), lambda *_: None))
    await asyncio.sleep(0)

    await cancel(task)
    planted.has_judged.set()
    await until_swept(planted)

    assert planted.queue.queue == []


async def test_cancelled_while_it_waits_it_is_taken_out_and_no_other(run, planted, finish):
    planted.queue.put((1, "theirs", {}, {}, []))
    before, unwanted, after = await run("a"), await run("b"), await run("c")

    await cancel(unwanted)

    assert queued(planted) == ["theirs", "a", "c"]
    for _ in range(3):
        await finish()
    assert [(await task).failure for task in (before, after)] == [None, None]
    assert planted.interrupted == []


async def test_cancelled_while_it_runs_it_is_interrupted_and_nobody_waits_for_that(run, planted):
    unwanted = await run()
    planted.queue.begin()

    unwanted.cancel()
    for _ in range(10):
        await asyncio.sleep(0)

    assert unwanted.cancelled()
    assert planted.interrupted == ["p"]
    assert "p" not in planted.queue.history


async def test_an_interrupt_that_comfyui_lost_is_repeated_until_the_prompt_has_ended(
    run, planted, host
):
    unwanted, other = await run("a"), await run("b")
    item_id = planted.queue.begin()
    await cancel(unwanted)

    await until(lambda: len(planted.interrupted) >= 3)
    planted.queue.task_done(item_id, {}, INTERRUPTED)
    planted.queue.begin()
    await until_swept(planted)

    assert set(planted.interrupted) == {"a"}
    assert not other.done()


async def test_cancelled_at_its_end_it_disturbs_nothing(run, planted):
    task = await run("a")
    await run("b")
    planted.queue.task_done(planted.queue.begin(), {}, SUCCESS)
    planted.queue.begin()

    await cancel(task)
    await until_swept(planted)

    assert planted.interrupted == []


async def test_what_an_unwanted_prompt_tells_is_not_heard(run, planted):
    heard = []
    task = await run(hear=lambda event, data: heard.append(event))
    item_id = planted.queue.begin()
    await cancel(task)

    (ear,) = planted.server.sockets.values()
    await ear.send_json({"type": "execution_start", "data": {"prompt_id": "p"}})
    planted.queue.task_done(item_id, {}, SUCCESS)

    assert heard == []


@pytest.mark.parametrize("why", ["cancelled", "late"])
async def test_a_prompt_that_does_not_stop_is_a_problem_until_it_does(
    run, planted, host, worker, why
):
    task = await run(limit_seconds=0.0 if why == "late" else 60.0)
    item_id = planted.queue.begin()
    if why == "cancelled":
        await cancel(task)
    await until(lambda: planted.interrupted)
    assert host.problem is None

    host.grace_seconds = 0.0
    problem = await until(lambda: host.problem)
    planted.queue.task_done(item_id, {}, INTERRUPTED)
    await until(lambda: host.problem is None)

    assert "does not stop" in problem


async def test_a_prompt_that_does_not_stop_at_its_limit_is_given_up(run, planted, host):
    host.grace_seconds = 0.0
    task = await run(limit_seconds=0.0)
    planted.queue.begin()

    assert isinstance((await task).failure, TimedOut)


# What comes in between


async def test_events_of_our_prompt_are_heard_and_others_are_not(run, planted):
    heard = []
    await run(hear=lambda event, data: heard.append((event, data)))
    (ear,) = planted.server.sockets.values()

    for message in (
        {"type": "execution_start", "data": {"prompt_id": "p"}},
        {"type": "execution_start", "data": {"prompt_id": "p"}},
        {"type": "progress_state", "data": {"prompt_id": "p", "nodes": {}}},
        {"type": "progress_state", "data": {"prompt_id": "theirs"}},
        {"type": "status", "data": {}},
        {"type": "status"},
    ):
        await ear.send_json(message)

    assert [event for event, _ in heard] == ["execution_start", "progress_state"]


def preview(content=b"picture", kind=4, **told):
    """As ComfyUI sends it."""
    words = json.dumps(told).encode()
    return bytearray(kind.to_bytes(4, "big") + len(words).to_bytes(4, "big") + words + content)


async def test_previews_that_name_our_prompt_are_heard_and_others_are_not(run, planted):
    heard = []
    await run(hear=lambda event, data: heard.append((event, bytes(data["image"]))))
    (ear,) = planted.server.sockets.values()

    await ear.send_bytes(preview(prompt_id="p"))
    await ear.send_bytes(preview(prompt_id="theirs"))
    await ear.send_bytes(preview(node_id="1"))
    await ear.send_bytes(preview(prompt_id="p", kind=1))

    assert heard == [("preview", b"picture")]


async def test_comfyui_is_told_that_previews_may_name_their_prompt(host, planted):
    (told,) = planted.server.sockets_metadata.values()

    assert told == {"feature_flags": {"supports_preview_metadata": True}}


@pytest.mark.parametrize("message", [b"", b"preview", b"\0\0\0\4", preview()[:9]])
async def test_a_preview_that_is_not_understood_does_not_end_comfyui(host, planted, message):
    (ear,) = planted.server.sockets.values()

    await ear.send_bytes(message)


@pytest.mark.parametrize("message", [{}, {"type": "a", "data": "text"}, None, 7])
async def test_a_message_that_is_not_understood_does_not_end_comfyui(host, planted, message):
    (ear,) = planted.server.sockets.values()

    await ear.send_json(message)


async def test_a_listener_that_fails_does_not_end_comfyui(run, planted):
    def fail(event, data):
        raise RuntimeError("a fault of ours")

    await run(hear=fail)
    (ear,) = planted.server.sockets.values()

    await ear.send_json({"type": "progress_state", "data": {"prompt_id": "p"}})
