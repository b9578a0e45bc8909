"""What goes into ComfyUI's queue for a job, and what comes out of it, in words of our own."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .errors import DiskFull, ExecutionFailed, Interrupted, JobFailed, OutOfMemory

if TYPE_CHECKING:
    # An orchestrator has no Pillow.
    from PIL.Image import Image

#: Ours below ComfyUI's input and output folders, so that cleaning up touches nobody else's, and
#: ComfyUI's own listings stay short.
FOLDER = "unified_api"


@dataclass(frozen=True)
class Prompt:
    """One execution of a rendered graph. The id is unique to the attempt.

    Its files belong into `folder`, below ComfyUI's output folder. It is interrupted when it has
    run for `limit_seconds`.
    """

    prompt_id: str
    graph: dict[str, Any]
    folder: str
    limit_seconds: float


@dataclass(frozen=True)
class Produced:
    """A file that a node left behind, or a picture that it handed over and nobody wrote yet.

    Previews are the files that ComfyUI keeps as temporary.
    """

    node_id: str
    content: Path | Image
    is_preview: bool = False


@dataclass(frozen=True)
class Lack:
    """Something a graph needs and this ComfyUI has not. `input` is None when it is the node."""

    node_id: str
    input: str | None
    text: str


@dataclass(frozen=True)
class Ending:
    """How a prompt ended: what it produced, and why it failed if it did."""

    produced: tuple[Produced, ...] = ()
    failure: JobFailed | None = None


@dataclass(frozen=True)
class Preview:
    """A small picture of what is not yet done."""

    content: bytes
    content_type: str
    width: int
    height: int


@dataclass(frozen=True)
class Progress:
    """How far a job is. `step` of `steps` belongs to the node named by its title.

    The next job to run has queue position 1. It is expected to be done in `eta_seconds`.
    """

    percent: int = 0
    node: str | None = None
    step: int | None = None
    steps: int | None = None
    queue_position: int | None = None
    eta_seconds: int | None = None


class ProgressMeter:
    """Turns ComfyUI's events of one prompt into Progress; the percentage never falls.

    Nodes weigh what they took in earlier runs, in `seconds`. Without any, steps are counted; a
    node that tells of none is one.
    """

    def __init__(
        self,
        graph: dict[str, Any],
        seconds: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = Progress()
        #: What part is done of the whole, and when that was told.
        self.share = 0.0
        self.told_at = clock()
        #: What each node took that has finished; nothing if its result was still there.
        self.seconds: dict[str, float] = {}
        self._titles = {node_id: _title(node) for node_id, node in graph.items()}
        self._weights = _weights(graph, seconds or {})
        self._counts_steps = not any((seconds or {}).values())
        self._clock = clock
        self._begun: dict[str, float] = {}
        #: What part is done of the nodes that run.
        self._parts: dict[str, float] = {}

    def hear(self, event: str, data: dict[str, Any]) -> None:
        if event == "execution_start":
            self.told_at = self._clock()
        elif event == "execution_cached":
            self.seconds |= dict.fromkeys(set(data.get("nodes") or ()) & set(self._titles), 0.0)
            self._tell(self.now)
        elif event == "progress_state":
            self._hear_nodes(data.get("nodes") or {})

    def _hear_nodes(self, nodes: dict[str, Any]) -> None:
        now = self.now
        for node_id, state in nodes.items():
            if state.get("state") == "finished":
                self._finish(node_id)
            elif state.get("state") == "running":
                steps = int(state.get("max") or 0)
                now = self._move(node_id, int(state.get("value") or 0), steps)
        self._tell(now)

    def _move(self, node_id: str, step: int, steps: int) -> Progress:
        self._begun.setdefault(node_id, self._clock())
        self._parts[node_id] = min(1.0, step / steps) if steps else 0.0
        if self._counts_steps:
            self._weights[node_id] = max(1, steps)
        shown = (step, steps) if steps > 1 else (None, None)
        return Progress(0, self._titles.get(node_id), *shown)

    def _finish(self, node_id: str) -> None:
        now = self._clock()
        if node_id in self._titles:
            self.seconds.setdefault(node_id, now - self._begun.get(node_id, now))

    def _tell(self, now: Progress) -> None:
        parts = {**self._parts, **dict.fromkeys(self.seconds, 1.0)}
        done = sum(self._weights[name] * parts.get(name, 0.0) for name in self._titles)
        share = done / (sum(self._weights[name] for name in self._titles) or 1.0)
        if share != self.share:
            self.share, self.told_at = share, self._clock()
        self.now = replace(now, percent=min(99, max(self.now.percent, int(100 * share))))


def _weights(graph: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, float]:
    """A node that has never run weighs what is usual among those that have."""
    usual = median([each for each in seconds.values() if each > 0] or [1.0])
    return {node_id: seconds.get(node_id, usual) for node_id in graph}


def failure_of(status: str, messages: list[Any]) -> JobFailed | None:
    """Why a prompt failed, from the status and messages ComfyUI keeps; None if it succeeded.

    The last message decides beside the status, which a failure before the first node leaves as
    the previous prompt had it.
    """
    event, data = messages[-1] if messages else ("", {})
    if event == "execution_interrupted":
        return Interrupted(**_node(data))
    if event == "execution_error":
        return _execution_failure(data)
    return None if status == "success" else ExecutionFailed()


def _execution_failure(data: dict[str, Any]) -> JobFailed:
    kind = str(data.get("exception_type", "")).rsplit(".", 1)[-1]
    node = _node(data)
    if kind == "OutOfMemoryError":
        return OutOfMemory(**node)
    if failure := disk_failure(str(data.get("exception_message", "")), **node):
        return failure
    # The exception's own text may hold paths and tensors: it stays in ComfyUI's log.
    where = f"node {node['node_id']} ({node['node_class']})"
    return ExecutionFailed(f"{where} raised {kind or 'an error'}; ComfyUI's log has it.", **node)


def disk_failure(text: str, **node: str | None) -> DiskFull | None:
    """The failure of a job if an exception's text says that the disk refused for a while."""
    if os.strerror(errno.ENOSPC) in text:
        return DiskFull(**node)
    if any(os.strerror(number) in text for number in (errno.EMFILE, errno.ENFILE)):
        return DiskFull("ComfyUI could open no more files.", **node)
    return None


def _node(data: dict[str, Any]) -> dict[str, str | None]:
    return {"node_id": data.get("node_id"), "node_class": data.get("node_type")}


def _title(node: dict[str, Any]) -> str:
    return str(node.get("_meta", {}).get("title") or node.get("class_type"))
