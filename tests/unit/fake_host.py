"""An engine on real files, a stand-in for ComfyUI that paints at once, and a picture server."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image
from unified_api.jobs.disk import Disk
from unified_api.jobs.engine import Engine
from unified_api.jobs.errors import QueueFull
from unified_api.jobs.file_cache import FileCache
from unified_api.jobs.inputs import Inputs
from unified_api.jobs.job import Stage, Status
from unified_api.jobs.notify.webhooks import Webhooks
from unified_api.jobs.offer import Offer
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.pictures.encode import encoded
from unified_api.jobs.prompt import Ending, Produced, Progress
from unified_api.jobs.settings import Settings
from unified_api.jobs.store import Store
from unified_api.jobs.thumbnails import Thumbnails
from unified_api.jobs.workshop import Spool, Timing, Workshop
from unified_api.routes.view import view
from unified_api.workflows import Catalog

POLL_SECONDS = 0.005
#: In the place of intervals of seconds.
QUICK_SECONDS = 0.05
MOST_POLLS = 2000
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}


def definition(parameters, graph, bindings, **more):
    content = {
        "title": "Test",
        "description": "For tests.",
        "parameters": {"type": "object", "additionalProperties": False, **parameters},
        "bindings": {
            name: [{"node": "1", "class_type": graph["1"]["class_type"], "input": field}]
            for name, field in bindings.items()
        },
        "outputs": {"image": {"node": "2", "class_type": "SaveImage"}},
        **more,
    }
    return content, graph


DRAW = definition(
    {
        "properties": {
            "text": {"type": "string", "maxLength": 100},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
            "size": {"type": "integer", "minimum": 1, "maximum": 64, "default": 8},
            "bold": {"type": "boolean", "default": False},
        }
    },
    {
        "1": {"class_type": "Draw", "inputs": {"text": "", "seed": 0, "size": 8, "bold": False}},
        "2": SAVE,
    },
    {"text": "text", "seed": "seed", "size": "size", "bold": "bold"},
)
EDIT = definition(
    {
        "required": ["image_url"],
        "properties": {"image_url": {"type": "string"}},
    },
    {"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}, "2": SAVE},
    {"image_url": "image"},
    images={"image_url": {}},
)


class FakeHost:
    """ComfyUI as the engine sees it: it takes one prompt after another and paints a picture.

    A closed `gate` holds the running prompt back. `endings` are used up before it paints: an
    ending is returned, an exception raised.
    """

    def __init__(self, output_folder: Path) -> None:
        self.output_folder = output_folder
        self.problem = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.endings: list[Ending | Exception] = []
        self.lacking = []
        #: What the inputs of a node class take.
        self.taking = {}
        #: Prompts that began, in order, and whom to tell of the one that runs.
        self.prompts = []
        self.hear = None
        self.queue = []
        #: What else was in the queue when a prompt joined it.
        self.company = []
        self._worker = asyncio.Lock()

    @property
    def is_idle(self):
        return not self.queue

    def start(self):
        """There is nothing to listen to."""

    def lacks(self, graph):
        return [lack for lack in self.lacking if lack.node_id in graph]

    def takes(self, class_type):
        return self.taking.get(class_type, {})

    async def run(self, prompt, hear, *, first=None):
        if first:
            await first()
        self.company.append((prompt, tuple(self.queue)))
        self.queue.append(prompt)
        try:
            async with self._worker:
                return await self._execute(prompt, hear)
        finally:
            self.queue.remove(prompt)

    async def _execute(self, prompt, hear):
        self.prompts.append(prompt)
        self.hear = hear
        hear("execution_start", {"prompt_id": prompt.prompt_id})
        await self.gate.wait()
        ending = self.endings.pop(0) if self.endings else self._paint(prompt.graph)
        if isinstance(ending, Exception):
            raise ending
        return ending

    def _paint(self, graph):
        saving = {n: e["inputs"] for n, e in graph.items() if e["class_type"] == "SaveImage"}
        files = {n: self._saved(inputs["filename_prefix"]) for n, inputs in saving.items()}
        return Ending(tuple(Produced(n, path) for n, path in files.items()))

    def _saved(self, prefix):
        path = self.output_folder / f"{prefix}_00001_.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(painted("teal"))
        return path


class SlowHost(FakeHost):
    """It takes its time, as a GPU does."""

    async def _execute(self, prompt, hear):
        ending = await super()._execute(prompt, hear)
        await asyncio.sleep(0.1)
        return ending


class Gallery:
    """A web server of pictures. What is `held` waits for the gate."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self._replies = {}
        self._held = set()

    def hang(self, path, body, *, status=200, headers=None, held=False):
        """Serve a body at a path and return its URL."""
        self._replies[path] = (body, status, headers or {})
        if held:
            self._held.add(path)
        return str(self.server.make_url(path))

    @property
    def place(self):
        """Host and port: nobody is fetched from on loopback unless it is allowed."""
        return f"{self.server.host}:{self.server.port}"

    async def reply(self, request):
        self.asked[request.path] += 1
        if request.path in self._held:
            await self.gate.wait()
        body, status, headers = self._replies[request.path]
        return web.Response(body=body, status=status, headers=headers)


class Bench:
    """Engines that work on the same files, one after another."""

    def __init__(self, folder, definitions, settings) -> None:
        self.definitions = definitions
        self.store_path = folder / "user" / "jobs.sqlite3"
        self.results_folder = folder / "results"
        self.thumbnails_folder = folder / "thumbnails"
        self._folder = folder
        self._settings = settings
        self.timing = Timing(retry_seconds=QUICK_SECONDS, sweep_seconds=QUICK_SECONDS)
        self.encode = encoded
        #: Where objects of S3 are read.
        self.objects = None
        self._opened = []
        self.host = self.new_host()

    def new_host(self):
        return FakeHost(self._folder / "output")

    async def open(self, *, host=None, results=None, **given):
        """A started engine. What is given besides are settings."""
        host, settings = host or self.host, self._settings(**given)
        results = results or LocalResults(self.results_folder)
        most = settings.thumbnail_bytes
        store = Store(self.store_path)
        shop = Workshop(
            host=host,
            store=store,
            inputs=Inputs(self._folder / "input", settings, objects=self.objects),
            results=results,
            thumbnails=Thumbnails(results, FileCache(self.thumbnails_folder, max_bytes=most)),
            offer=Offer(
                Catalog([self.definitions]),
                host.lacks,
                host.takes,
                refresh_seconds=QUICK_SECONDS,
            ),
            disk=Disk(
                {"output": self._folder},
                min_free_bytes=settings.min_free_bytes,
                look_seconds=QUICK_SECONDS,
            ),
            spool=Spool(settings.spool_bytes),
            settings=settings,
            timing=self.timing,
            encode=self.encode,
        )
        engine = Engine(shop, Webhooks(store.outbox, settings, described))
        self._opened.append(engine)
        await engine.start()
        return engine

    async def crash(self, engine):
        """What a dead process leaves: everything under way is dropped, the files stay."""
        self._opened.remove(engine)
        await engine.stop()

    async def close(self):
        for engine in self._opened:
            await engine.stop()

    async def until(self, question):
        return await until(question)

    async def ended(self, engine, job):
        """The job once it is final."""

        async def final():
            now, _ = await engine.get(job.job_id)
            return now if now.status.is_final else None

        return await until(final)


async def described(job):
    """The job as clients see it."""
    links = [None] * len(job.outputs)
    return view(job, Progress(), links, "https://api.example").model_dump(mode="json")


async def until(question):
    """Ask until the answer is something true, and return that."""
    for _ in range(MOST_POLLS):
        answer = question()
        if answer := await answer if asyncio.iscoroutine(answer) else answer:
            return answer
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError("the answer never came")


async def unless_full(accepting):
    """What it gives; None while there is no room for another job."""
    with suppress(QueueFull):
        return await accepting


async def stage_of(engine, job):
    return (await engine.get(job.job_id))[0].stage


async def all_taken_up(engine, jobs):
    """Their inputs are here, so that nothing but ComfyUI's places holds them back."""
    stages = [await stage_of(engine, job) for job in jobs]
    states = [(await engine.get(job.job_id))[0].status for job in jobs]
    return Stage.FETCHING_INPUTS not in stages and set(states) == {Status.PROCESSING}


def painted(color, size=(8, 6), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def define(folder):
    """Write the two workflows into a folder."""
    for slug, (content, graph) in {"draw": DRAW, "edit": EDIT}.items():
        (folder / slug).mkdir(parents=True)
        (folder / slug / "workflow.json").write_text(json.dumps(content))
        (folder / slug / "graph.json").write_text(json.dumps(graph))
    return folder


@pytest.fixture
def picture():
    """The bytes of a picture: picture("teal", size=(8, 6), kind="PNG")."""
    return painted


@pytest.fixture
async def gallery(aiohttp_server):
    gallery = Gallery()
    app = web.Application()
    app.router.add_get("/{path:.*}", gallery.reply)
    gallery.server = await aiohttp_server(app)
    yield gallery
    gallery.gate.set()


@pytest.fixture
def settings():
    """Settings by name: settings(max_pixels=10)."""

    def make(**given):
        names = {f"UNIFIED_API_{name.upper()}": str(value) for name, value in given.items()}
        made = Settings.from_env(names)
        assert made.problems == ()
        return made

    return make


@pytest.fixture
def definitions(tmp_path):
    """A folder with two workflows: `draw` makes a picture, `edit` takes one."""
    return define(tmp_path / "definitions")


@pytest.fixture
async def bench(tmp_path, definitions, settings, gallery):
    bench = Bench(tmp_path, definitions, partial(settings, allow_hosts=gallery.place))
    yield bench
    await bench.close()


@pytest.fixture
async def engine(bench):
    return await bench.open()
