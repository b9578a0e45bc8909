"""The seam over pretended modules of ComfyUI, in the shapes that its versions have."""

import asyncio
import importlib
import json
import logging
import math
import sys
import threading
from collections import namedtuple
from types import ModuleType, SimpleNamespace

import pytest
import torch
from aiohttp import web
from unified_api import jobs
from unified_api.jobs.errors import (
    ExecutionFailed,
    Interrupted,
    PromptVanished,
    TimedOut,
    WorkflowInvalid,
)
from unified_api.jobs.prompt import Lack, Prompt
from unified_api.workflows import Takes

from .fake_host import until

SEAM = "unified_api.jobs.comfyui"
GRAPH = {"1": {"class_type": "Draw", "inputs": {"text": "a"}}}
FOLDER = "unified_api/job/1"

Status = namedtuple("Status", "status_str completed messages")
SUCCESS = Status("success", True, [("execution_success", {})])
NODE = {"node_id": "1", "node_type": "Draw"}
ERROR = Status("error", False, [("execution_error", {**NODE, "exception_type": "ValueError"})])
INTERRUPTED = Status("error", False, [("execution_interrupted", NODE)])


def load_image_class(loaded):
    """Its nodes load the name of a picture instead of the picture, and write it down."""

    class LoadImage:
        def load_image(self, image):
            if "damaged" in image:
                raise ValueError("damaged")
            loaded.append(image)
            return f"pixels of {image}", f"mask of {image}"

    return LoadImage


class NewQueue:
    """The books that ComfyUI keeps, as far as they are read from outside."""

    def __init__(self):
        self.mutex = threading.RLock()
        self.queue = []
        self.currently_running = {}
        self.history = {}

    def put(self, item):
        with self.mutex:
            self.queue.append(item)

    def delete_queue_item(self, is_wanted):
        with self.mutex:
            found = [item for item in self.queue if is_wanted(item)][:1]
            self.queue = [item for item in self.queue if item not in found]
        return bool(found)

    def get_tasks_remaining(self):
        return len(self.queue) + len(self.currently_running)

    def task_done(self, item_id, history_result, status, process_item=None):
        self.close(item_id, history_result, status)

    def close(self, item_id, history_result, status):
        with self.mutex:
            item = self.currently_running.pop(item_id)
            known = status._asdict() if status else None
            self.history[item[1]] = {"outputs": {}, "status": known, **(history_result or {})}

    def begin(self):
        """As the worker does: take the first prompt; the number it goes by."""
        item = self.queue.pop(0)
        self.currently_running[len(self.history)] = item
        return len(self.history)


class OldQueue(NewQueue):
    """Before November 2025."""

    def task_done(self, item_id, history_result, status):
        self.close(item_id, history_result, status)


class Planted:
    """What stands behind the names that the seam imports."""

    def __init__(self, folder, queue):
        self.folder = folder
        self.queue = queue
        self.server = SimpleNamespace(
            prompt_queue=queue, sockets={}, sockets_metadata={}, number=7, app=web.Application()
        )
        self.args = SimpleNamespace(
            listen="127.0.0.1", port=8188, tls_keyfile=None, tls_certfile=None
        )
        self.save_image = object()
        self.loaded = []
        self.load_image = load_image_class(self.loaded)
        self.node_classes = {"SaveImage": self.save_image, "LoadImage": self.load_image}
        #: What ran at each interrupt.
        self.interrupted = []
        #: What ComfyUI says of a graph, or raises, once it has judged.
        self.verdict = (True, None, ["1"], {})
        self.has_judged = asyncio.Event()
        self.has_judged.set()

    async def validate_prompt(self, prompt_id, graph, partial):
        await self.has_judged.wait()
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def interrupt(self):
        self.interrupted += [item[1] for item in self.queue.currently_running.values()]

    def directory(self, kind):
        folders = {kind: self.folder / kind for kind in ("output", "temp", "input")}
        return str(folders[kind]) if kind in folders else None

    def modules(self):
        return {
            "server": {"PromptServer": SimpleNamespace(instance=self.server)},
            "execution": {"validate_prompt": self.validate_prompt},
            "nodes": {
                "SaveImage": self.save_image,
                "LoadImage": self.load_image,
                "NODE_CLASS_MAPPINGS": self.node_classes,
                "interrupt_processing": self.interrupt,
            },
            "folder_paths": {
                "get_user_directory": lambda: str(self.folder / "user"),
                "get_input_directory": lambda: str(self.folder / "input"),
                "get_output_directory": lambda: str(self.folder / "output"),
                "get_directory_by_type": self.directory,
                "get_annotated_filepath": lambda name: str(self.folder / "input" / name),
            },
            "comfy": {},
            "comfy.cli_args": {"args": self.args},
            "comfy_api": {},
            "comfy_api.latest": {"ComfyExtension": object},
        }


@pytest.fixture
def planted(tmp_path):
    for name in ("output", "temp", "input"):
        (tmp_path / name).mkdir()
    return Planted(tmp_path, NewQueue())


@pytest.fixture
def seam(planted, monkeypatch):
    """The module under test. It is forgotten afterwards, with all that it was imported over."""
    for name, members in planted.modules().items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(jobs, "comfyui", None, raising=False)
    yield importlib.import_module(SEAM)
    del sys.modules[SEAM]


@pytest.fixture
async def host(seam):
    host = seam.ComfyUI()
    host.start()
    return host


@pytest.fixture
def run(host, planted):
    """Queue a prompt; the task that waits for its end, once the prompt is queued."""

    async def start(
        prompt_id="p", *, graph=GRAPH, limit_seconds=60.0, hear=lambda event, data: None
    ):
        prompt = Prompt(prompt_id, graph, FOLDER, limit_seconds)
        task = asyncio.ensure_future(host.run(prompt, hear))
        await until(lambda: task.done() or prompt_id in {item[1] for item in planted.queue.queue})
        return task

    return start


@pytest.fixture
def finish(planted):
    """End the next prompt as the worker does, in a thread of its own."""

    async def end(outputs=None, status=SUCCESS, **more):
        item_id = planted.queue.begin()
        result = {"outputs": outputs or {}, "meta": {}}
        await asyncio.to_thread(planted.queue.task_done, item_id, result, status, **more)

    return end


@pytest.fixture
def worker():
    """The thread by whose name ComfyUI's worker is known."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="Thread-1 (prompt_worker)")
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def saved(planted):
    """Write a file into one of ComfyUI's folders."""

    def write(name, kind="output", content=b"x"):
        path = planted.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


async def until_swept(planted):
    """The next sweep has passed: it gives us our place among the clients back first of all."""
    planted.server.sockets.clear()
    await until(lambda: planted.server.sockets)


def entry(filename, subfolder=FOLDER, kind="output"):
    return {"filename": filename, "subfolder": subfolder, "type": kind}


# The queue


async def test_a_queue_item_has_six_fields_where_secrets_are_kept_apart(run, planted):
    await run()

    ((number, prompt_id, graph, extra, outputs, secrets),) = planted.queue.queue
    assert (number, prompt_id, graph, outputs, secrets) == (7, "p", GRAPH, ["1"], {})
    assert extra["create_time"] > 1_600_000_000_000


class TestBeforeSecretsWereKeptApart:
    @pytest.fixture
    def planted(self, tmp_path):
        for name in ("output", "temp", "input"):
            (tmp_path / name).mkdir()
        return Planted(tmp_path, OldQueue())

    async def test_a_queue_item_has_five_fields(self, run, planted):
        await run()

        assert [len(item) for item in planted.queue.queue] == [5]

    async def test_a_server_without_metadata_of_its_clients_is_fine(self, planted, seam):
        del planted.server.sockets_metadata
        host = seam.ComfyUI()

        host.start()

        assert len(planted.server.sockets) == 1

    async def test_an_end_is_told(self, run, finish):
        task = await run()
        await finish()

        assert (await task).failure is None


async def test_every_prompt_gets_the_next_number(run, planted):
    await run("a")
    await run("b")

    assert [item[0] for item in planted.queue.queue] == [7, 8]
    assert planted.server.number == 9


async def test_we_are_the_client_of_our_prompts(run, planted):
    await run()

    (client_id,) = planted.server.sockets
    assert planted.queue.queue[0][3]["client_id"] == client_id
    assert client_id in planted.server.sockets_metadata


async def test_comfyui_is_idle_when_it_has_nothing_to_run(run, host, planted):
    assert host.is_idle
    await run()
    assert not host.is_idle
    planted.queue.begin()
    assert not host.is_idle


# Pictures that are handed over

SAVING = {
    "1": {"class_type": "Draw", "inputs": {}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": FOLDER}},
}


@pytest.fixture
def hand_over(planted):
    """Run the node that hands over, as the worker does, for the first prompt that waits."""

    async def run_node(node_id="9", pictures=1):
        graph = planted.queue.queue[0][2]
        node = planted.node_classes[graph["9"]["class_type"]]()
        given = {"images": torch.zeros((pictures, 4, 6, 3)), "node_id": node_id}
        prompt_id = graph["9"]["inputs"]["prompt_id"]
        return await asyncio.to_thread(node.hand_over, prompt_id=prompt_id, **given)

    return run_node


async def test_pictures_come_as_they_are_instead_of_files(run, finish, hand_over):
    task = await run(graph=SAVING)

    told = await hand_over(pictures=2)
    await finish({"9": told["ui"]})

    first, second = (await task).produced
    assert first.content.size == second.content.size == (6, 4)
    assert (first.node_id, first.is_preview) == ("9", False)


async def test_what_was_handed_over_and_what_was_saved_keep_the_order_of_their_nodes(
    run, finish, hand_over, saved
):
    saved(f"{FOLDER}/a.mp4")
    saved(f"{FOLDER}/b.mp4")
    task = await run(graph=SAVING)

    told = await hand_over()
    films = {
        node_id: {"videos": [entry(name)]} for node_id, name in (("5", "a.mp4"), ("12", "b.mp4"))
    }
    await finish({"5": films["5"], "9": told["ui"], "12": films["12"]})

    assert [each.node_id for each in (await task).produced] == ["5", "9", "12"]


async def test_pictures_of_a_prompt_that_failed_are_not_kept(run, finish, hand_over):
    task = await run(graph=SAVING)

    told = await hand_over()
    await finish({"9": told["ui"]}, status=ERROR)

    assert (await task).produced == ()


async def test_pictures_that_nobody_waits_for_are_dropped(run, hand_over, planted):
    task = await run(graph=SAVING)
    item = planted.queue.begin()
    task.cancel()
    await asyncio.wait({task})

    planted.queue.queue.append(planted.queue.currently_running[item])
    told = await hand_over()

    assert told["ui"]["handed_over"] == [{"width": 6, "height": 4}]


async def test_the_sweep_finds_pictures_too(run, hand_over, planted):
    task = await run(graph=SAVING)
    told = await hand_over()

    item = planted.queue.queue.pop()
    planted.queue.history[item[1]] = {"outputs": {"9": told["ui"]}, "status": SUCCESS._asdict()}

    assert len((await task).produced) == 1


async def test_the_graph_that_was_given_stays_as_it_is(run, planted):
    await run(graph=SAVING)

    assert SAVING["9"]["class_type"] == "SaveImage"
    assert planted.queue.queue[0][2]["9"]["class_type"] == "SaveImage (Unified API)"


async def test_a_saveimage_of_somebody_else_is_left_alone(run, planted):
    planted.node_classes["SaveImage"] = object()

    await run(graph=SAVING)

    assert planted.queue.queue[0][2] == SAVING


async def test_comfyui_saves_itself_where_that_is_wanted(seam, planted):
    host = seam.ComfyUI(hands_over=False)
    host.start()

    task = asyncio.ensure_future(host.run(Prompt("p", SAVING, FOLDER, 60.0), lambda *_: None))
    await until(lambda: planted.queue.queue)

    assert planted.queue.queue[0][2] == SAVING
    task.cancel()


# Pictures that are loaded ahead

PICTURE = "unified_api/a.png"
LOADING = {
    "1": {"class_type": "LoadImage", "inputs": {"image": PICTURE}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "3": {"class_type": "Draw", "inputs": {"image": ["1", 0]}},
}


@pytest.fixture
def input_picture(saved, picture):
    return lambda name=PICTURE: saved(name, "input", picture("teal"))


@pytest.fixture
def given(planted):
    """What the node in LoadImage's place gives, in a thread as the worker is one."""

    async def give(name=PICTURE):
        node = planted.node_classes["LoadImage (Unified API)"]()
        return await asyncio.to_thread(node.give, image=name)

    return give


async def test_pictures_of_ours_are_loaded_ahead(run, given, planted, input_picture):
    input_picture()

    await run(graph=LOADING)

    graph = planted.queue.queue[0][2]
    assert graph["1"] == {"class_type": "LoadImage (Unified API)", "inputs": {"image": PICTURE}}
    assert (graph["2"], graph["3"]) == (LOADING["2"], LOADING["3"])
    assert await given() == (f"pixels of {PICTURE}", f"mask of {PICTURE}")


async def test_a_picture_is_loaded_while_what_comes_first_is_waited_for(
    host, planted, given, input_picture
):
    input_picture()
    gate, is_waited_for = asyncio.Event(), asyncio.Event()

    async def first():
        is_waited_for.set()
        await gate.wait()

    prompt = Prompt("p", LOADING, FOLDER, 60.0)
    task = asyncio.ensure_future(host.run(prompt, lambda *_: None, first=first))
    await is_waited_for.wait()
    await until(lambda: planted.loaded)
    assert not planted.queue.queue

    gate.set()
    await until(lambda: planted.queue.queue)
    assert await given() == (f"pixels of {PICTURE}", f"mask of {PICTURE}")
    task.cancel()


async def test_a_picture_that_cannot_be_loaded_fails_where_it_is_used(run, given, input_picture):
    damaged = input_picture("unified_api/damaged.png").name
    await run(graph={"1": {**LOADING["1"], "inputs": {"image": f"unified_api/{damaged}"}}})

    with pytest.raises(ValueError, match="damaged"):
        await given(f"unified_api/{damaged}")


async def test_a_picture_is_held_no_longer_than_its_job(run, given, finish, input_picture):
    input_picture()
    task = await run(graph=LOADING)
    await finish()
    await task

    with pytest.raises(LookupError):
        await given()


async def test_what_would_take_too_much_memory_is_left_to_comfyui(seam, planted, input_picture):
    input_picture()
    host = seam.ComfyUI(picture_bytes=100)
    host.start()

    task = asyncio.ensure_future(host.run(Prompt("p", LOADING, FOLDER, 60.0), lambda *_: None))
    await until(lambda: planted.queue.queue)

    assert planted.queue.queue[0][2] == LOADING
    task.cancel()


async def test_a_loadimage_of_somebody_else_is_left_alone(run, planted, input_picture):
    input_picture()
    planted.node_classes["LoadImage"] = object()

    await run(graph=LOADING)

    assert planted.queue.queue[0][2] == LOADING


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
    """As a caller does it; how long it took."""
    begun = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return asyncio.get_running_loop().time() - begun


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

    seconds = await cancel(unwanted)

    assert planted.interrupted == ["p"]
    assert "p" not in planted.queue.history
    assert seconds < 0.5


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
    run, planted, host, seam, worker, monkeypatch, why
):
    task = await run(limit_seconds=0.0 if why == "late" else 60.0)
    item_id = planted.queue.begin()
    if why == "cancelled":
        await cancel(task)
    await until(lambda: planted.interrupted)
    assert host.problem is None

    monkeypatch.setattr(seam, "GRACE_SECONDS", 0.0)
    problem = await until(lambda: host.problem)
    planted.queue.task_done(item_id, {}, INTERRUPTED)
    await until(lambda: host.problem is None)

    assert "does not stop" in problem


async def test_a_prompt_that_does_not_stop_at_its_limit_is_given_up(
    run, planted, seam, monkeypatch
):
    monkeypatch.setattr(seam, "GRACE_SECONDS", 0.0)
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


# Files


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"9": {}},
        {"9": None},
        {"9": "text"},
        {"9": {"images": None}},
        {"9": {"images": "a.png"}},
        {"9": {"text": ["a", 1, None, ["a.png"]]}},
        {"9": {"images": [{}]}},
        {"9": {"images": [entry(None)]}},
        {"9": {"images": [entry(7)]}},
        {"9": {"images": [entry("")]}},
        {"9": {"images": [entry("gone.png")]}},
        {"9": {"images": [entry("a\0b.png")]}},
        {"9": {"images": [entry("a" * 5000)]}},
        {"9": {"images": [entry("../../../secret.png")]}},
        {"9": {"images": [entry("secret.png", subfolder="..")]}},
        {"9": {"images": [entry("secret.png", subfolder=None)]}},
        {"9": {"images": [entry("a.png", kind="input", subfolder="")]}},
        {"9": {"images": [entry("a.png", kind="nowhere")]}},
        {"9": {"images": [entry("a.png", kind=["output"])]}},
        {"9": {"images": [entry(FOLDER, subfolder="")]}},
    ],
)
async def test_what_is_no_file_of_comfyuis_is_no_output(run, finish, saved, planted, outputs):
    saved(f"{FOLDER}/a.png")
    saved("a.png", kind="input")
    (planted.folder / "secret.png").write_bytes(b"secret")
    task = await run()

    await finish(outputs)

    assert (await asyncio.wait_for(task, 0.5)).produced == ()


async def test_an_absolute_path_and_a_link_out_of_the_folder_are_no_outputs(
    run, finish, saved, planted
):
    secret = planted.folder / "secret.png"
    secret.write_bytes(b"secret")
    saved(f"{FOLDER}/a.png").with_name("link.png").symlink_to(secret)
    task = await run()

    await finish({"9": {"images": [entry("link.png"), entry(str(secret), subfolder="")]}})

    assert (await task).produced == ()


async def test_files_of_any_kind_and_node_are_outputs(run, finish, saved):
    for name in ("a.png", "b.mp4", "c.glb"):
        saved(f"{FOLDER}/{name}")
    task = await run()

    await finish(
        {
            "9": {"images": [entry("a.png")], "animated": (True,)},
            "10": {"gifs": ({**entry("b.mp4"), "format": "video/h264"},)},
            "5:12": {"3d": [{"filename": f"{FOLDER}/c.glb"}]},
        }
    )

    assert [(file.node_id, file.content.name) for file in (await task).produced] == [
        ("9", "a.png"),
        ("10", "b.mp4"),
        ("5:12", "c.glb"),
    ]


async def test_a_temporary_file_is_a_preview(run, finish, saved):
    saved("a.png", kind="temp")
    task = await run()

    await finish({"9": {"images": [entry("a.png", subfolder="", kind="temp")]}})

    ((file,),) = [(await task).produced]
    assert file.is_preview


async def test_a_file_that_the_next_prompt_may_overwrite_is_copied(run, finish, saved):
    shared = saved("always-the-same.png", content=b"mine")
    task = await run()

    await finish({"9": {"images": [entry(shared.name, subfolder="")]}})

    shared.write_bytes(b"theirs")
    (file,) = (await task).produced
    assert file.content.read_bytes() == b"mine"


async def test_a_failed_prompt_has_no_files(run, finish, saved):
    saved(f"{FOLDER}/a.png")
    task = await run()

    await finish({"9": {"images": [entry("a.png")]}}, ERROR)

    assert (await task).produced == ()


# What ComfyUI accepts


NODE_ERROR = {
    "class_type": "Draw",
    "dependent_outputs": ["9"],
    "errors": [
        {
            "type": "value_not_in_list",
            "message": "Value not in list",
            "details": "vae: 'a' not in ['/models/secret.pt']",
            "extra_info": {"input_config": ["/models/secret.pt"]},
        }
    ],
}


@pytest.mark.parametrize(
    "verdict",
    [
        (False, {"message": "Prompt outputs failed", "details": "secret"}, [], {"1": NODE_ERROR}),
        # ComfyUI would run the rest and call that a success.
        (True, None, ["9"], {"1": NODE_ERROR}),
    ],
)
async def test_a_refused_node_is_named_without_the_details(run, planted, verdict):
    planted.verdict = verdict

    with pytest.raises(WorkflowInvalid) as refused:
        await (await run())

    assert (refused.value.node_id, refused.value.node_class) == ("1", "Draw")
    assert str(refused.value) == "ComfyUI refused node 1 (Draw): Value not in list."
    assert planted.queue.queue == []


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ((False, {"message": "Prompt has no outputs", "details": "secret"}, [], {}), "no outputs"),
        ((False, "a text", [], []), "ComfyUI refused the workflow"),
        ((False, None, [], {}), "ComfyUI refused the workflow"),
        (RecursionError("secret"), "ComfyUI refused the workflow"),
        (TypeError("secret"), "ComfyUI refused the workflow"),
    ],
)
async def test_a_refused_graph_is_told_without_the_details(run, planted, verdict, text):
    planted.verdict = verdict

    with pytest.raises(WorkflowInvalid, match=text) as refused:
        await (await run())

    assert "secret" not in str(refused.value)


async def test_replacements_of_nodes_are_applied_where_comfyui_has_them(run, planted):
    replaced = []
    planted.server.node_replace_manager = SimpleNamespace(apply_replacements=replaced.append)

    await run()

    assert replaced == [GRAPH]


# What ComfyUI lacks


def node_class(**inputs):
    return type("Node", (), {"INPUT_TYPES": classmethod(lambda cls: inputs)})


@pytest.fixture
def lacks(seam, planted):
    """What is missing for one node, given its class and its inputs in the graph."""

    def ask(node, **inputs):
        if node:
            planted.node_classes["Draw"] = node
        return seam.ComfyUI().lacks({"1": {"class_type": "Draw", "inputs": inputs}})

    return ask


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (node_class(), {}),
        (node_class(required={"n": ("INT", {"default": 1})}), {"n": 1}),
        (node_class(required={"vae": (["a.pt", "b.pt"],)}), {"vae": "b.pt"}),
        (node_class(required={"vae": (["a.pt"],)}), {"vae": ["2", 0]}),
        (node_class(required={"vae": ("COMBO", {"options": ["a.pt"]})}), {"vae": "a.pt"}),
        (node_class(required={"vae": ("COMBO", {})}), {"vae": "a.pt"}),
        (node_class(required={"vae": ("COMBO",)}), {"vae": "a.pt"}),
        (node_class(required={"vae": ("COMBO", None)}), {"vae": "a.pt"}),
        (node_class(optional={"vae": (["a.pt"],)}), {}),
        (node_class(required={"images": ("COMFY_AUTOGROW_V3", {})}), {"images.image0": ["2", 0]}),
        (node_class(required={}), {"from an older version": 1}),
    ],
)
def test_what_a_node_offers_is_not_lacking(lacks, node, inputs):
    assert lacks(node, **inputs) == []


@pytest.mark.parametrize(
    ("node", "inputs", "name", "word"),
    [
        (None, {}, None, "not installed"),
        (node_class(required={"n": ("INT",)}), {}, "n", "needs an input 'n'"),
        (node_class(required={"vae": (["a.pt"],)}), {"vae": "b.pt"}, "vae", "'b.pt'"),
        (node_class(optional={"vae": (["a.pt"],)}), {"vae": "b.pt"}, "vae", "'b.pt'"),
        (node_class(required={"v": ("COMBO", {"options": []})}), {"v": "b.pt"}, "v", "'b.pt'"),
        (type("Broken", (), {}), {}, None, "is broken"),
        (node_class(required=None), {}, None, "is broken"),
        (node_class(required={"n": ()}), {}, None, "is broken"),
    ],
)
def test_what_a_node_does_not_offer_is_lacking_by_name(lacks, node, inputs, name, word):
    (lack,) = lacks(node, **inputs)

    assert (lack.node_id, lack.input) == ("1", name)
    assert word in lack.text


def test_a_lack_does_not_list_what_there_is_instead(lacks):
    (lack,) = lacks(node_class(required={"vae": (["secret.pt"],)}), vae="b.pt")

    assert isinstance(lack, Lack)
    assert "secret" not in lack.text


# What ComfyUI takes


@pytest.fixture
def takes(seam, planted):
    """What the inputs of a node class take, given the class."""

    def ask(node):
        planted.node_classes["Draw"] = node
        return seam.ComfyUI().takes("Draw")

    return ask


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (("INT", {"min": 1, "max": 10000, "step": 1}), Takes("integer", None, 1, 10000)),
        (("INT", {"min": 0, "max": 2**64 - 1}), Takes("integer", None, 0, 2**64 - 1)),
        (("FLOAT", {"min": 0.0, "max": 1.0, "step": 0.01}), Takes("number", None, 0.0, 1.0)),
        (("FLOAT", {"max": 2.5}), Takes("number", maximum=2.5)),
        (("INT", {"default": 1}), Takes("integer")),
        (("INT",), Takes("integer")),
        (("INT", None), Takes("integer")),
        (["INT", {"min": 1}], Takes("integer", minimum=1)),
        (("STRING", {"multiline": True}), Takes("string")),
        (("BOOLEAN", {"default": True}), Takes("boolean")),
        (("MODEL",), Takes()),
        ((["euler", "beta"],), Takes(choices=("euler", "beta"))),
        ((["a"], {"default": "a"}), Takes(choices=("a",))),
        (([],), Takes(choices=())),
        (("COMBO", {"options": ["a", "b"]}), Takes(choices=("a", "b"))),
        (("COMBO", {"options": [1, 2]}), Takes(choices=(1, 2))),
        (("COMBO", {"remote": {"route": "/x"}}), Takes()),
        (("COMBO",), Takes()),
        (("FLOAT", {"min": -math.inf, "max": math.inf}), Takes("number")),
        (("FLOAT", {"min": math.inf, "max": -math.inf}), Takes("number")),
        (("FLOAT", {"min": math.nan, "max": "9"}), Takes("number")),
        (("BOOLEAN", {"min": False, "max": True}), Takes("boolean")),
        (("COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a"}]}), Takes()),
    ],
)
def test_an_input_takes_what_its_class_declares(takes, kind, expected):
    assert takes(node_class(required={"x": kind})) == {"x": expected}
    assert takes(node_class(optional={"x": kind})) == {"x": expected}


def test_a_class_that_is_not_there_or_broken_tells_nothing(seam, takes, caplog):
    assert seam.ComfyUI().takes("Draw") == {}
    assert caplog.text == ""

    assert takes(type("Broken", (), {})) == {}
    assert "node class Draw could not tell its inputs" in caplog.text


DECLARED = {"required": {"model": (["a"],), "steps": ("INT", {"min": 1})}}


def test_what_a_node_judges_itself_is_not_told(takes):
    class Loader:
        INPUT_TYPES = classmethod(lambda cls: DECLARED)
        VALIDATE_INPUTS = classmethod(lambda cls, model: True)

    class Lenient(Loader):
        VALIDATE_INPUTS = classmethod(lambda cls, **inputs: True)

    assert takes(Loader) == {"steps": Takes("integer", minimum=1)}
    assert takes(Lenient) == {}


def test_what_a_node_of_the_newer_kind_judges_itself_is_not_told(takes):
    class Base:
        INPUT_TYPES = classmethod(lambda cls: DECLARED)
        GET_BASE_CLASS = classmethod(lambda cls: Base)
        validate_inputs = classmethod(lambda cls, **inputs: True)

    class Plain(Base):
        pass

    class Loader(Base):
        validate_inputs = classmethod(lambda cls, model: True)

    assert set(takes(Plain)) == {"model", "steps"}
    assert set(takes(Loader)) == {"steps"}


# The process


@pytest.mark.parametrize(
    ("listen", "url", "is_local"),
    [
        ("127.0.0.1", "http://127.0.0.1:8188", True),
        ("127.0.0.2", "http://127.0.0.1:8188", True),
        ("localhost", "http://127.0.0.1:8188", True),
        ("::1", "http://127.0.0.1:8188", True),
        ("127.0.0.1,::1", "http://127.0.0.1:8188", True),
        ("0.0.0.0", "http://127.0.0.1:8188", False),
        ("0.0.0.0,::", "http://127.0.0.1:8188", False),
        ("10.0.0.1", "http://10.0.0.1:8188", False),
        ("127.0.0.1, 10.0.0.1", "http://127.0.0.1:8188", False),
        ("fd00::1", "http://[fd00::1]:8188", False),
        ("gpu.example", "http://gpu.example:8188", False),
        ("", "http://:8188", False),
    ],
)
def test_the_address_tells_who_can_reach_us(seam, planted, listen, url, is_local):
    planted.args.listen = listen

    host = seam.ComfyUI()

    assert host.is_local == is_local
    if listen:
        assert host.url == url


def test_with_a_certificate_the_address_is_https(seam, planted):
    planted.args.tls_keyfile, planted.args.tls_certfile = "key", "certificate"

    assert seam.ComfyUI().url == "https://127.0.0.1:8188"


def test_without_its_worker_comfyui_has_a_problem(seam):
    stop = threading.Event()
    worker = threading.Thread(target=stop.wait, name="Thread-1 (prompt_worker)")
    host = seam.ComfyUI()
    assert "Restart ComfyUI" in host.problem

    worker.start()
    problem = host.problem
    stop.set()
    worker.join()

    assert problem is None


async def test_a_start_that_fails_does_not_stop_comfyui(seam, planted, aiohttp_client, caplog):
    async def fail():
        raise RuntimeError("our own fault")

    seam.ComfyUI().on_startup(fail)

    await aiohttp_client(planted.server.app)

    assert "could not start" in caplog.text


async def test_a_start_is_called_once_before_anything_is_served(seam, planted, aiohttp_client):
    calls = []

    async def start():
        calls.append(1)

    seam.ComfyUI().on_startup(start)
    await aiohttp_client(planted.server.app)

    assert calls == [1]


async def test_the_plugin_has_no_nodes(seam):
    assert await seam.extension_without_nodes().get_node_list() == []


def test_the_folders_are_comfyuis(seam, planted):
    host = seam.ComfyUI()

    folders = [host.user_folder, host.input_folder, host.output_folder]
    assert folders == [planted.folder / name for name in ("user", "input", "output")]
