"""A pretended ComfyUI: the modules that the seam imports, in the shapes that its versions have."""

import asyncio
import importlib
import sys
import threading
from collections import namedtuple
from types import ModuleType, SimpleNamespace

import pytest
from aiohttp import web
from unified_api import jobs
from unified_api.jobs.prompt import Prompt

from .fake_host import until

SEAM = "unified_api.jobs.comfyui.seam"
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
    host = seam.ComfyUI(sweep_seconds=0.05)
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
