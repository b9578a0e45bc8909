"""What goes into ComfyUI's queue for a job, and what comes out of it, in words of our own."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DiskFull, ExecutionFailed, Interrupted, JobFailed, OutOfMemory

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
    """A file that a node left behind. Previews are those ComfyUI keeps as temporary."""

    node_id: str
    path: Path
    is_preview: bool


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
class Progress:
    """How far a running prompt is. `step` of `steps` belongs to the node named by its title."""

    percent: int = 0
    node: str | None = None
    step: int | None = None
    steps: int | None = None


class ProgressMeter:
    """Turns ComfyUI's events of one prompt into Progress; the percentage never falls."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self._titles = {node_id: _title(node) for node_id, node in graph.items()}
        self._done: set[str] = set()
        self.now = Progress()

    def hear(self, event: str, data: dict[str, Any]) -> None:
        if event == "execution_cached":
            self._done.update(set(data.get("nodes") or ()) & set(self._titles))
            self._move(None, 0, 0)
        elif event == "progress_state":
            self._hear_nodes(data.get("nodes") or {})

    def _hear_nodes(self, nodes: dict[str, Any]) -> None:
        for node_id, state in nodes.items():
            if state.get("state") == "finished":
                self._done.add(node_id)
            elif state.get("state") == "running":
                self._move(node_id, int(state.get("value") or 0), int(state.get("max") or 0))
        self._done &= set(self._titles)

    def _move(self, node_id: str | None, step: int, steps: int) -> None:
        part = step / steps if steps else 0.0
        percent = int(100 * (len(self._done - {node_id}) + part) / max(1, len(self._titles)))
        self.now = Progress(
            percent=min(99, max(self.now.percent, percent)),
            node=self._titles.get(node_id) if node_id else self.now.node,
            step=step if steps > 1 else None,
            steps=steps if steps > 1 else None,
        )


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
    if os.strerror(errno.ENOSPC) in str(data.get("exception_message", "")):
        return DiskFull(**node)
    # The exception's own text may hold paths and tensors: it stays in ComfyUI's log.
    where = f"node {node['node_id']} ({node['node_class']})"
    return ExecutionFailed(f"{where} raised {kind or 'an error'}; ComfyUI's log has it.", **node)


def _node(data: dict[str, Any]) -> dict[str, str | None]:
    return {"node_id": data.get("node_id"), "node_class": data.get("node_type")}


def _title(node: dict[str, Any]) -> str:
    return str(node.get("_meta", {}).get("title") or node.get("class_type"))
