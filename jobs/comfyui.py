"""The seam: the only file that names ComfyUI's inside. It reads, and wraps one method.

Completion is told by `PromptQueue.task_done`, wrapped on the instance. Progress comes to an
object of ours among the server's websocket clients. A slow sweep compares what we wait for with
ComfyUI's own books, and finds what neither of them told: a prompt that somebody removed.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import execution
import folder_paths
import nodes
from aiohttp import web
from comfy.cli_args import args
from comfy_api.latest import ComfyExtension
from server import PromptServer

from .errors import PromptVanished, WorkflowInvalid
from .prompt import Ending, Lack, Produced, Prompt, failure_of
from .threads import is_thread_alive, post

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
WORKER_THREAD = "prompt_worker"

Hear = Callable[[str, dict[str, Any]], None]


class ComfyUI:
    """ComfyUI in this process: its queue, its folders, its web server."""

    def __init__(self, server: Any = None) -> None:
        self._server = server or PromptServer.instance
        self._queue = self._server.prompt_queue
        self._client_id = uuid4().hex
        self._waiting: dict[str, _Waiting] = {}
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
    def is_alive(self) -> bool:
        """Whether the thread that runs prompts lives. Without it the server still answers."""
        return is_thread_alive(WORKER_THREAD)

    def on_startup(self, start: Callable[[], Awaitable[None]]) -> None:
        """Have `start` called once all custom nodes are loaded, before anything is served."""

        async def start_safely(_app: web.Application) -> None:
            try:
                await start()
            except Exception:
                # An exception here would end ComfyUI.
                log.exception("Unified API could not start")

        self.app.on_startup.append(start_safely)

    def start(self) -> None:
        """Begin to listen to ComfyUI. On its loop, once."""
        self._wrap_task_done()
        self._join_clients()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_forever())

    # -- one prompt ----------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether ComfyUI has nothing to run, ours or anybody's."""
        return self._queue.get_tasks_remaining() == 0  # type: ignore[no-any-return]

    async def run(self, prompt: Prompt, hear: Hear) -> Ending:
        """Queue a prompt and wait for its end. `hear(event, data)` is called on the loop.

        Raises WorkflowInvalid if ComfyUI does not accept the graph.
        """
        outputs = await self._validate(prompt)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), hear)
        self._waiting[prompt.prompt_id] = waiting
        try:
            self._queue.put(self._queue_item(prompt, outputs))
            return await waiting.ending
        finally:
            del self._waiting[prompt.prompt_id]

    async def _validate(self, prompt: Prompt) -> list[str]:
        replacements = getattr(self._server, "node_replace_manager", None)
        try:
            if replacements is not None:
                replacements.apply_replacements(prompt.graph)
            verdict = await execution.validate_prompt(prompt.prompt_id, prompt.graph, None)
        except Exception:
            log.exception("ComfyUI could not judge a graph")
            raise WorkflowInvalid() from None
        is_valid, error, outputs, node_errors = verdict
        # ComfyUI would run the valid part of a half broken graph and call that a success.
        if not is_valid or node_errors:
            raise _refusal(error, node_errors)
        return list(outputs)

    def _queue_item(self, prompt: Prompt, outputs: list[str]) -> tuple[Any, ...]:
        number = self._server.number
        self._server.number += 1
        # Without a client id, cached outputs are lost and progress goes to every open editor.
        extra = {"client_id": self._client_id, "create_time": int(time.time() * 1000)}
        item = (number, prompt.prompt_id, prompt.graph, extra, outputs)
        return (*item, {}) if keeps_secrets_apart(type(self._queue)) else item

    def lacks(self, graph: dict[str, Any]) -> list[Lack]:
        """What this ComfyUI lacks to run a graph: node classes, inputs, choices (models too)."""
        return [
            lack for node_id, node in graph.items() for lack in _lacks_of_node(node_id, node)
        ]

    # -- what ComfyUI tells --------------------------------------------------------------------

    def _wrap_task_done(self) -> None:
        original = self._queue.task_done
        loop = asyncio.get_running_loop()

        def task_done(item_id: int, history_result: Any, *rest: Any, **named: Any) -> None:
            # In ComfyUI's worker thread: whatever is raised here would end it for good.
            running = self._queue.currently_running.get(item_id)
            original(item_id, history_result, *rest, **named)
            try:
                status = named.get("status", rest[0] if rest else None)
                post(loop, self._ended, running[1], history_result.get("outputs"), status)
            except Exception:
                log.exception("the end of a prompt could not be told; the sweep will find it")

        self._queue.task_done = task_done

    def _ended(self, prompt_id: str, outputs: Any, status: Any) -> None:
        if waiting := self._waiting.get(prompt_id):
            status_str = status.status_str if status else "success"
            messages = status.messages if status else []
            waiting.resolve(Ending(_produced(outputs or {}), failure_of(status_str, messages)))

    def _join_clients(self) -> None:
        """Be a websocket client in the process, again if somebody took our place."""
        if isinstance(self._server.sockets.get(self._client_id), _Ear):
            return
        self._server.sockets[self._client_id] = _Ear(self._heard)
        if hasattr(self._server, "sockets_metadata"):
            self._server.sockets_metadata[self._client_id] = {"feature_flags": {}}

    def _heard(self, event: str, data: dict[str, Any]) -> None:
        if waiting := self._waiting.get(data.get("prompt_id", "")):
            waiting.hear(event, data)

    # -- what nobody tells ---------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self._sweep()
            except Exception:
                log.exception("the sweep of ComfyUI's queue failed")

    def _sweep(self) -> None:
        self._join_clients()
        if not self._waiting:
            return
        with self._queue.mutex:
            items = [*self._queue.queue, *self._queue.currently_running.values()]
            known = {item[1] for item in items}
            past = {key: self._queue.history.get(key) for key in self._waiting}
        for prompt_id in self._waiting.keys() - known:
            self._find(prompt_id, past[prompt_id])

    def _find(self, prompt_id: str, record: dict[str, Any] | None) -> None:
        waiting = self._waiting[prompt_id]
        if record is None:
            waiting.resolve(Ending(failure=PromptVanished()))
            return
        status = record.get("status") or {}
        failure = failure_of(status.get("status_str", "success"), status.get("messages", []))
        waiting.resolve(Ending(_produced(record.get("outputs", {})), failure))


class _Waiting:
    """Somebody waits for the end of a prompt."""

    def __init__(self, ending: asyncio.Future[Ending], hear: Hear) -> None:
        self.ending = ending
        self.hear = hear

    def resolve(self, ending: Ending) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)


class _Ear:
    """Stands where ComfyUI expects a websocket. An exception out of it would end ComfyUI."""

    def __init__(self, heard: Hear) -> None:
        self._heard = heard

    async def send_json(self, message: dict[str, Any]) -> None:
        try:
            self._heard(message["type"], message.get("data") or {})
        except Exception:
            log.exception("an event of ComfyUI could not be used")

    async def send_bytes(self, data: bytes) -> None:
        """Previews; nobody watches them yet."""


def keeps_secrets_apart(queue_class: type) -> bool:
    """Whether queue items have six fields (since November 2025) instead of five."""
    return "process_item" in inspect.signature(queue_class.task_done).parameters  # type: ignore[attr-defined]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def extension_without_nodes() -> ComfyExtension:
    """What `comfy_entrypoint` must return; this plugin has no nodes."""

    class Extension(ComfyExtension):
        async def get_node_list(self) -> list[Any]:
            return []

    return Extension()


def _lacks_of_node(node_id: str, node: dict[str, Any]) -> list[Lack]:
    name = node["class_type"]
    node_class = nodes.NODE_CLASS_MAPPINGS.get(name)
    if node_class is None:
        return [Lack(node_id, None, f"node class {name} is not installed in this ComfyUI")]
    try:
        declared = node_class.INPUT_TYPES()
    except Exception:
        log.exception("node class %s could not tell its inputs", name)
        return [Lack(node_id, None, f"node class {name} is broken; ComfyUI's log has the reason")]
    required = declared.get("required", {})
    every = {**required, **declared.get("optional", {})}
    absent = [
        Lack(node_id, key, f"{name} of this ComfyUI needs an input {key!r}, which the graph lacks")
        for key, kind in required.items()
        if key not in node["inputs"] and not _is_dynamic(kind)
    ]
    unknown = [
        Lack(node_id, key, f"{name} of this ComfyUI does not offer {value!r} for {key!r}")
        for key, value in node["inputs"].items()
        if not _offers(every.get(key), value)
    ]
    return absent + unknown


def _is_dynamic(kind: Any) -> bool:
    """Inputs that grow or change with others are named differently in a graph."""
    return isinstance(kind[0], str) and kind[0].startswith("COMFY_")


def _offers(kind: Any, value: Any) -> bool:
    """False only for a value that is not among the choices of its input."""
    if kind is None or isinstance(value, list):
        return True
    choices = kind[0] if isinstance(kind[0], list) else _options(kind)
    return not isinstance(choices, list) or value in choices


def _options(kind: Any) -> Any:
    return kind[1].get("options") if kind[0] == "COMBO" and len(kind) > 1 else None


def _refusal(error: Any, node_errors: dict[str, Any]) -> WorkflowInvalid:
    """ComfyUI's verdict without its details, which list files and hold traces."""
    for node_id, found in node_errors.items():
        reasons = ", ".join(str(reason.get("message")) for reason in found.get("errors", []))
        node_class = found.get("class_type")
        text = f"ComfyUI refused node {node_id} ({node_class}): {reasons}."
        return WorkflowInvalid(text, node_id=node_id, node_class=node_class)
    reason = error.get("message") if isinstance(error, dict) else None
    return WorkflowInvalid(f"ComfyUI refused the workflow: {reason}." if reason else None)


def _produced(outputs: dict[str, Any]) -> tuple[Produced, ...]:
    """Every file that any node names in its output, whatever the kind is called."""
    found = [
        _produced_file(node_id, entry)
        for node_id, kinds in outputs.items()
        if isinstance(kinds, dict)
        for entries in kinds.values()
        if isinstance(entries, list | tuple)
        for entry in entries
        if isinstance(entry, dict)
    ]
    return tuple(file for file in found if file is not None)


def _produced_file(node_id: str, entry: dict[str, Any]) -> Produced | None:
    """None for what is no file inside one of ComfyUI's folders: third-party nodes say anything."""
    folder = folder_paths.get_directory_by_type(str(entry.get("type") or "output"))
    name = entry.get("filename")
    if folder is None or not isinstance(name, str) or entry.get("type") == "input":
        return None
    base = Path(folder).resolve()
    path = (base / str(entry.get("subfolder") or "") / name).resolve()
    if not path.is_relative_to(base) or not path.is_file():
        log.warning("node %s names an output that is not there or not ComfyUI's", node_id)
        return None
    return Produced(node_id, path, is_preview=entry.get("type") == "temp")
