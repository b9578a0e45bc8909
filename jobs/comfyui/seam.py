"""The seam: the only file that names ComfyUI's inside. It reads, wraps one method, adds two nodes.

Completion is told by `PromptQueue.task_done`, wrapped on the instance. Progress comes to an
object of ours among the server's websocket clients. A slow sweep compares what we wait for with
ComfyUI's own books, and finds what neither of them told: a prompt that somebody removed.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import ipaddress
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import execution
import folder_paths
import nodes
import torch
from aiohttp import web
from comfy.cli_args import args
from comfy_api.latest import ComfyExtension
from PIL.Image import Image
from server import PromptServer

from ...workflows import Takes, TextInputs, is_passing
from ..counted_log import CountedLog
from ..errors import DiskFull, Interrupted, JobFailed, PromptVanished, TimedOut, WorkflowInvalid
from ..pictures.media import media_of
from ..prompt import Ending, Lack, Produced, Prompt, disk_failure, failure_of
from ..threads import in_a_core, is_thread_alive, off_loop, post
from .declared import inputs_judged_for, lacks_of, text_inputs_of
from .ear import Ear, Hear
from .saved import saved
from .stand_ins import (
    HAND_OVER,
    LOAD,
    LOADED,
    SAVE,
    handing_over,
    node_that_gives,
    node_that_hands_over,
    pictures_in,
    taking,
)

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
#: Less than it takes ComfyUI to go on from its custom nodes to its startup.
LOADING_LOOK_SECONDS = 0.001
WORKER_THREAD = "prompt_worker"
#: An interrupted prompt that goes on for this long is given up.
GRACE_SECONDS = 30.0
#: With UNIFIED_API_EXIT_ON_HANG: sweeps without hope before the process ends, and how it ends.
HOPELESS_SWEEPS = 5
EXIT_STATUS = 70
#: How long the last work before that exit may take: an open poll of the queue ends within it.
RELEASE_SECONDS = 15.0
#: Four channels of four bytes, at most.
LOADED_PIXEL_BYTES = 16


class ComfyUI:
    """ComfyUI in this process: its queue, its folders, its web server."""

    def __init__(
        self,
        *,
        exit_on_hang: bool = False,
        hands_over: bool = True,
        picture_bytes: float = math.inf,
        grace_seconds: float = GRACE_SECONDS,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        """`hands_over`: results come as pictures in memory wherever ComfyUI would encode them.

        Pictures of a prompt are loaded ahead if they take no more than `picture_bytes`. A prompt
        that is to end and goes on for more than `grace_seconds` is a problem. Every `sweep_seconds`
        ComfyUI is compared with what events have reported.
        """
        self.grace_seconds = grace_seconds
        self._sweep_seconds = sweep_seconds
        self._server = PromptServer.instance
        self._queue = self._server.prompt_queue
        self._client_id = uuid4().hex
        self._waiting: dict[str, _Waiting] = {}
        #: Prompts that run and are to end, and since when.
        self._unwanted: dict[str, float] = {}
        self._exit_on_hang = exit_on_hang
        self._hands_over = hands_over
        self._picture_bytes = picture_bytes
        #: What node classes cannot tell.
        self._faults = CountedLog(log)
        self._hopeless_sweeps = 0
        self.on_hopeless(_nothing)
        self._sweeper: asyncio.Task[None] | None = None

    # -- the process ---------------------------------------------------------------------------

    @property
    def app(self) -> web.Application:
        """ComfyUI's own web application, not yet started while custom nodes load."""
        return self._server.app  # type: ignore[no-any-return]

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the server."""
        scheme = "https" if args.tls_keyfile and args.tls_certfile else "http"
        host = "127.0.0.1" if self.is_local else self._addresses[0].replace("0.0.0.0", "127.0.0.1")
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{args.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return all(_is_loopback(address) for address in self._addresses)

    @property
    def _addresses(self) -> list[str]:
        return [address.strip() for address in args.listen.split(",")]

    @property
    def user_folder(self) -> Path:
        return Path(folder_paths.get_user_directory())

    @property
    def input_folder(self) -> Path:
        return Path(folder_paths.get_input_directory())

    @property
    def output_folder(self) -> Path:
        return Path(folder_paths.get_output_directory())

    @property
    def problem(self) -> str | None:
        """Why nothing can run although the server answers; None when all is well."""
        if not is_thread_alive(WORKER_THREAD):
            return f"ComfyUI's worker thread has died. {self._restart_advice('Restart ComfyUI')}"
        if any(map(self._is_stuck, self._unwanted)):
            cure = self._restart_advice("Wait for it, or restart ComfyUI")
            return f"ComfyUI runs a prompt that does not stop. {cure}"
        return None

    def _restart_advice(self, cure: str) -> str:
        if self._exit_on_hang:
            return "This process ends, for its supervisor to start it again."
        reason = "it is not restarted automatically (UNIFIED_API_EXIT_ON_HANG is off)"
        return f"{cure}: {reason}. Accepted jobs wait."

    def on_startup(self, start: Callable[[], Awaitable[None]], *, last: bool = False) -> None:
        """Have `start` called once all custom nodes are loaded, before anything is served.

        With `last` it is called when custom nodes have done what they have added to the startup.
        Those that load after us add to it too, so our place is taken anew whenever the loop gets
        its turn; the last turn is between the loading and the startup.
        """
        startup = self.app.on_startup

        async def start_safely(_app: web.Application) -> None:
            try:
                await start()
            except Exception:
                # An exception here would end ComfyUI.
                log.exception("Unified API could not start")

        def stand_last() -> None:
            if startup.frozen:
                return
            if start_safely in startup:
                startup.remove(start_safely)
            startup.append(start_safely)
            asyncio.get_running_loop().call_later(LOADING_LOOK_SECONDS, stand_last)

        if last:
            stand_last()
        else:
            startup.append(start_safely)

    def on_hopeless(
        self,
        release: Callable[[], Awaitable[None]],
        *,
        seconds: float = RELEASE_SECONDS,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        """Have `release` awaited, for so long at most, before `leave` ends a hopeless process."""
        self._release, self._release_seconds, self._leave = release, seconds, leave

    def start(self) -> None:
        """Begin to listen to ComfyUI. On its loop, once."""
        self._wrap_task_done()
        self._join_clients()
        nodes.NODE_CLASS_MAPPINGS[HAND_OVER] = node_that_hands_over(self._take)
        nodes.NODE_CLASS_MAPPINGS[LOADED] = node_that_gives(self._give)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_forever())

    # -- one prompt ----------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether ComfyUI has nothing to run, ours or anybody's."""
        return self._queue.get_tasks_remaining() == 0  # type: ignore[no-any-return]

    async def run(
        self, prompt: Prompt, hear: Hear, *, first: Callable[[], Awaitable[None]] | None = None
    ) -> Ending:
        """Queue a prompt and wait for its end. `hear(event, data)` is called on the loop.

        `first` is awaited right before it is queued, while its pictures are being loaded. If this
        is cancelled, so is the prompt; nobody waits until that has come to pass. Raises
        WorkflowInvalid if ComfyUI does not accept the graph.
        """
        outputs = await self._validate(prompt)
        waiting = _Waiting(prompt, hear)
        graph = await self._with_stand_ins(waiting)
        if first:
            await first()
        self._waiting[prompt.prompt_id] = waiting
        try:
            self._queue.put(self._queue_item(prompt.prompt_id, graph, outputs))
            return await waiting.ending
        except asyncio.CancelledError:
            self._withdraw(prompt.prompt_id)
            raise
        finally:
            del self._waiting[prompt.prompt_id]

    async def _validate(self, prompt: Prompt) -> list[str]:
        replacements = getattr(self._server, "node_replace_manager", None)
        try:
            if replacements is not None:
                replacements.apply_replacements(prompt.graph)
            verdict = await execution.validate_prompt(prompt.prompt_id, prompt.graph, None)
        except Exception as raised:
            log.exception("ComfyUI could not judge a graph")
            if isinstance(raised, OSError) and is_passing(raised):
                raise DiskFull.of(raised) from raised
            raise WorkflowInvalid() from None
        is_valid, error, outputs, node_errors = verdict
        # ComfyUI would run the valid part of a half broken graph and call that a success.
        if not is_valid or node_errors:
            raise _refusal(error, node_errors or {})
        return list(outputs)

    def _queue_item(
        self, prompt_id: str, graph: dict[str, Any], outputs: list[str]
    ) -> tuple[Any, ...]:
        number = self._server.number
        self._server.number += 1
        # Without a client id, cached outputs are lost and progress goes to every open editor.
        extra = {"client_id": self._client_id, "create_time": int(time.time() * 1000)}
        item = (number, prompt_id, graph, extra, outputs)
        return (*item, {}) if keeps_secrets_apart(type(self._queue)) else item

    async def _with_stand_ins(self, waiting: _Waiting) -> dict[str, Any]:
        graph, classes = waiting.prompt.graph, nodes.NODE_CLASS_MAPPINGS
        # Nodes of these names that somebody else brought may do anything.
        if self._hands_over and classes.get(SAVE) is nodes.SaveImage:
            graph = handing_over(graph, waiting.prompt.prompt_id)
        if classes.get(LOAD) is nodes.LoadImage:
            names = set(pictures_in(graph))
            if names and await off_loop(_memory_of, names) <= self._picture_bytes:
                waiting.loading = {name: in_a_core(_load, name) for name in names}
                graph = taking(graph, names)
        return graph

    def _take(self, prompt_id: str, node_id: str, pictures: list[Image]) -> None:
        # In ComfyUI's worker thread. Nobody may be waiting any more.
        if waiting := self._waiting.get(prompt_id):
            waiting.handed_over += [Produced(node_id, picture) for picture in pictures]

    def _give(self, name: str) -> Any:
        # In ComfyUI's worker thread, which would load it itself if it were not for us.
        for waiting in tuple(self._waiting.values()):
            if loading := waiting.loading.get(name):
                return loading.result()
        raise LookupError("nobody waits for this picture any more")

    def _withdraw(self, prompt_id: str) -> None:
        # A prompt that does not wait any more runs or has ended: ComfyUI lets none be in between.
        if not self._queue.delete_queue_item(lambda item: item[1] == prompt_id):
            self._unwanted.setdefault(prompt_id, time.monotonic())
            self._interrupt(prompt_id)

    def lacks(self, graph: dict[str, Any]) -> list[Lack]:
        """What this ComfyUI lacks to run a graph: node classes, inputs, choices (models too)."""
        classes = nodes.NODE_CLASS_MAPPINGS
        return [
            lack
            for node_id, node in graph.items()
            for lack in lacks_of(node_id, node, classes.get(node["class_type"]), self._faults)
        ]

    def takes(self, class_type: str) -> dict[str, Takes]:
        """What the inputs of a node class take here, those that ComfyUI itself judges."""
        node_class = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        return inputs_judged_for(class_type, node_class, self._faults) if node_class else {}

    def text_inputs(self, class_type: str) -> TextInputs:
        """Which inputs of a node class take the names of files, and which take names at all."""
        node_class = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if node_class is None:
            return TextInputs()
        return text_inputs_of(class_type, node_class, self._faults, _is_in_a_folder)

    # -- what ComfyUI tells --------------------------------------------------------------------

    def _wrap_task_done(self) -> None:
        original = self._queue.task_done
        loop = asyncio.get_running_loop()

        def task_done(item_id: int, history_result: Any, *rest: Any, **named: Any) -> None:
            # In ComfyUI's worker thread: whatever is raised here would end it for good.
            told = None
            try:
                running = self._queue.currently_running[item_id]
                if waiting := self._waiting.get(running[1]):
                    status = named.get("status", rest[0] if rest else None)
                    outputs = history_result.get("outputs", {})
                    told = waiting.resolve, _ending(waiting, outputs, status)
            except Exception:
                log.exception("the end of a prompt could not be told; the sweep will find it")
            original(item_id, history_result, *rest, **named)
            if told:
                post(loop, *told)

        self._queue.task_done = task_done

    def _join_clients(self) -> None:
        """Be a websocket client in the process, again if somebody took our place."""
        if isinstance(self._server.sockets.get(self._client_id), Ear):
            return
        self._server.sockets[self._client_id] = Ear(self._heard)
        if hasattr(self._server, "sockets_metadata"):
            flags = {"feature_flags": {"supports_preview_metadata": True}}
            self._server.sockets_metadata[self._client_id] = flags

    def _heard(self, event: str, data: dict[str, Any]) -> None:
        waiting = self._waiting.get(data.get("prompt_id", ""))
        if waiting and event == "execution_start":
            waiting.begin()
        elif waiting:
            waiting.hear(event, data)

    # -- what nobody tells ---------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds)
            try:
                self._sweep()
            except Exception:
                log.exception("the sweep of ComfyUI's queue failed")
            await self._leave_if_hopeless()

    def _sweep(self) -> None:
        self._join_clients()
        with self._queue.mutex:
            queued = {item[1] for item in self._queue.queue}
            running = {item[1] for item in self._queue.currently_running.values()}
            past = {prompt_id: self._queue.history.get(prompt_id) for prompt_id in self._waiting}
        for prompt_id, waiting in list(self._waiting.items()):
            if prompt_id in running:
                self._watch(prompt_id, waiting)
            elif prompt_id not in queued:
                waiting.resolve(_found(waiting, past[prompt_id]))
        for prompt_id in self._unwanted.keys() - running:
            del self._unwanted[prompt_id]
        for prompt_id in self._unwanted:
            # Every time: ComfyUI loses an interrupt that comes while a prompt begins.
            self._interrupt(prompt_id)

    def _watch(self, prompt_id: str, waiting: _Waiting) -> None:
        """End a prompt that runs for too long; give it up if it cannot be ended."""
        waiting.begin()
        if waiting.late_seconds > 0:
            self._unwanted.setdefault(prompt_id, time.monotonic())
        if self._is_stuck(prompt_id):
            waiting.resolve(Ending(failure=TimedOut()))

    def _is_stuck(self, prompt_id: str) -> bool:
        """Whether a prompt that is to end has gone on for too long."""
        since = self._unwanted.get(prompt_id)
        return since is not None and time.monotonic() - since > self.grace_seconds

    def _interrupt(self, prompt_id: str) -> None:
        """Interrupt this prompt and no other."""
        with self._queue.mutex:
            if any(item[1] == prompt_id for item in self._queue.currently_running.values()):
                nodes.interrupt_processing()

    async def _leave_if_hopeless(self) -> None:
        self._hopeless_sweeps = self._hopeless_sweeps + 1 if self.problem else 0
        if self._hopeless_sweeps == HOPELESS_SWEEPS + 1:
            log.critical("Unified API: %s", self.problem)
        if self._exit_on_hang and self._hopeless_sweeps > HOPELESS_SWEEPS:
            await self._release_in_time()
            self._leave(EXIT_STATUS)

    async def _release_in_time(self) -> None:
        # Should the loop itself hang, the process ends all the same, with status 1.
        faulthandler.dump_traceback_later(2 * self._release_seconds, exit=True)
        try:
            await asyncio.wait_for(self._release(), self._release_seconds)
        except Exception:
            log.exception("not everything could be handed back before the process ends")
        finally:
            faulthandler.cancel_dump_traceback_later()


class _Waiting:
    """Somebody waits for the end of a prompt."""

    def __init__(self, prompt: Prompt, hear: Hear) -> None:
        self.prompt = prompt
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.hear = hear
        self.handed_over: list[Produced] = []
        #: By the names of pictures: what LoadImage makes of them.
        self.loading: dict[str, Future[Any]] = {}
        self._begun: float | None = None

    def begin(self) -> None:
        if self._begun is None:
            self._begun = time.monotonic()
            self.hear("execution_start", {})

    @property
    def late_seconds(self) -> float:
        """How far beyond its limit it is; negative while it may go on."""
        if self._begun is None:
            return float("-inf")
        return time.monotonic() - self._begun - self.prompt.limit_seconds

    def resolve(self, ending: Ending) -> None:
        if isinstance(ending.failure, Interrupted) and self.late_seconds > 0:
            ending = Ending(failure=TimedOut())
        if not self.ending.done():
            self.ending.set_result(ending)


def keeps_secrets_apart(queue_class: type) -> bool:
    """Whether queue items have six fields (since November 2025) instead of five."""
    return "process_item" in inspect.signature(queue_class.task_done).parameters  # type: ignore[attr-defined]


async def _nothing() -> None:
    """There is nothing to hand back."""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def spare_what_is_loaded() -> None:
    """Have garbage be looked for among younger things only: ComfyUI does that between prompts."""
    gc.collect()
    gc.freeze()


def extension_without_nodes() -> ComfyExtension:
    """What `comfy_entrypoint` must return; this plugin has no nodes for editors."""

    class Extension(ComfyExtension):
        async def get_node_list(self) -> list[Any]:
            return []

    return Extension()


def _refusal(error: Any, node_errors: dict[str, Any]) -> JobFailed:
    """ComfyUI's verdict without its details, which list files and hold traces."""
    if failure := disk_failure(str((error, node_errors))):
        return failure
    for node_id, found in node_errors.items():
        reasons = ", ".join(str(reason.get("message")) for reason in found.get("errors", []))
        node_class = found.get("class_type")
        text = f"ComfyUI refused node {node_id} ({node_class}): {reasons}."
        return WorkflowInvalid(text, node_id=node_id, node_class=node_class)
    reason = error.get("message") if isinstance(error, dict) else None
    return WorkflowInvalid(f"ComfyUI refused the workflow: {reason}." if reason else None)


def _found(waiting: _Waiting, record: dict[str, Any] | None) -> Ending:
    """The end of a prompt that is no longer in the queue, from ComfyUI's history."""
    if record is None:
        return Ending(failure=PromptVanished())
    status = SimpleNamespace(**(record.get("status") or {"status_str": "success", "messages": []}))
    return _ending(waiting, record.get("outputs", {}), status)


def _ending(waiting: _Waiting, outputs: dict[str, Any], status: Any) -> Ending:
    status_str = status.status_str if status else "success"
    failure = failure_of(status_str, status.messages if status else [])
    try:
        return Ending(() if failure else _produced(waiting, outputs), failure)
    except OSError as error:
        log.exception("the files of a prompt could not be kept")
        return Ending(failure=DiskFull.of(error))


def _produced(waiting: _Waiting, outputs: dict[str, Any]) -> tuple[Produced, ...]:
    """All that was handed over or saved, in the order of the nodes' outputs."""
    own = Path(folder_paths.get_output_directory()).resolve() / waiting.prompt.folder
    everything = [*waiting.handed_over, *saved(outputs, _folder_of, own=own)]
    places = {node_id: place for place, node_id in enumerate(outputs)}
    return tuple(sorted(everything, key=lambda each: places.get(each.node_id, len(places))))


def _load(name: str) -> Any:
    with torch.inference_mode():
        return nodes.LoadImage().load_image(name)


def _memory_of(names: Iterable[str]) -> int:
    """What pictures of ours take once they are loaded, in bytes."""
    media = [media_of(Path(folder_paths.get_annotated_filepath(name))) for name in names]
    return sum((each.width or 0) * (each.height or 0) for each in media) * LOADED_PIXEL_BYTES


def _is_in_a_folder(name: str) -> bool:
    """Whether something of this name lies where uploads and results do."""
    folders = filter(None, map(_folder_of, ("input", "output", "temp")))
    try:
        return any((folder / name).exists() for folder in folders)
    except (OSError, ValueError):
        return False


def _folder_of(kind: str) -> Path | None:
    folder = folder_paths.get_directory_by_type(kind)
    return Path(folder) if folder else None
