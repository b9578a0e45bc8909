"""Machine: what can be told of a machine without asking anybody."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...jobs.disk import Disk
from ...jobs.settings import Settings
from ...workflows import Catalog, Workflow
from .finding import Finding, failed, ok, skipped, warning

OLDEST_PYTHON = (3, 10)
OLDEST, NEWEST = (0, 3, 64), (0, 30, 0)
VERSION = re.compile(r"""^__version__\s*=\s*["'](\d+)\.(\d+)\.(\d+)""", re.MULTILINE)
#: First version without it -> what those before it let happen.
LIMITS = {
    (0, 30, 0): "LoadImage reads any picture of this machine for whoever reaches ComfyUI's own"
    " port: keep that on loopback, or set UNIFIED_API_PROTECT=all"
}
PATIENCE_SECONDS = 30


class Folders(NamedTuple):
    """Where a ComfyUI keeps what."""

    output: Path
    input: Path
    user: Path
    models: Path
    #: Kind of model -> where it may lie besides.
    kinds: dict[str, list[str]]

    @classmethod
    def usual(cls, tree: Path) -> Folders:
        return cls(tree / "output", tree / "input", tree / "user", tree / "models", {})

    @classmethod
    def told(cls, text: str) -> Folders:
        """Of JSON with a field for each."""
        told = json.loads(text)
        kinds = told.pop("kinds")
        return cls(**{name: Path(folder) for name, folder in told.items()}, kinds=kinds)


def python() -> Finding:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return failed("Python", f"{version} is too old", "Use Python 3.10 or newer.")
    return ok("Python", f"{version} at {sys.executable}")


def settings_given(settings: Settings) -> Iterator[Finding]:
    for problem in settings.problems:
        yield failed("settings", problem, "Correct this variable; the README lists its values.")
    if not settings.problems:
        yield ok("settings", "all that are given can be used")


def comfyui(tree: Path) -> Iterator[Finding]:
    """The version of a ComfyUI, what is known of it, and whether somebody changed its code."""
    version = _version(tree)
    if version is None:
        yield failed("ComfyUI", f"{tree} tells no version", "Name a ComfyUI folder: COMFYUI_PATH.")
        return
    yield _judged(version)
    yield from (
        warning("ComfyUI", limit) for beginning, limit in LIMITS.items() if version < beginning
    )
    yield _changes(tree)


def disk(at: Folders, settings: Settings) -> Finding:
    folders = {"output": at.output, "input": at.input, "user": at.user}
    watched = Disk(folders, min_free_bytes=settings.min_free_bytes)
    watched.look()
    return (
        failed("disk", watched.problem)
        if watched.problem
        else ok("disk", "there is room in each folder")
    )


def workflows(catalog: Catalog, at: Folders) -> Iterator[Finding]:
    """What keeps each workflow from running, as far as the disk tells."""
    yield skipped("nodes", "are known to a running ComfyUI alone: GET /api/v1/workflows tells")
    for slug, fault in catalog.broken.items():
        yield failed(f"workflow {slug}", fault)
    for problem in catalog.problems:
        yield warning("workflows", problem)
    for slug, workflow in catalog.workflows.items():
        if missing := [*_missing(workflow, at)]:
            text = f"cannot run: files are missing in {at.models}"
            yield warning(f"workflow {slug}", text, "\n".join(missing))
        else:
            yield ok(f"workflow {slug}", "has all model files that it needs")


def _version(tree: Path) -> tuple[int, ...] | None:
    try:
        found = VERSION.search((tree / "comfyui_version.py").read_text(encoding="utf-8"))
    except OSError:
        return None
    return tuple(map(int, found.groups())) if found else None


def _judged(version: tuple[int, ...]) -> Finding:
    name = ".".join(map(str, version))
    if version < OLDEST:
        return failed("ComfyUI", f"{name} is too old", "Update it to 0.3.64 or newer.")
    if version > NEWEST:
        return warning("ComfyUI", f"{name} is newer than what was tried, which ends with 0.30.0")
    return ok("ComfyUI", name)


def _changes(tree: Path) -> Finding:
    """Code that differs from what was published may differ in what it does."""
    if not (tree / ".git").exists():
        return skipped("ComfyUI's code", "is no git checkout, so changes to it cannot be seen")
    told = _told(["git", "status", "--porcelain", "--untracked-files=no"], tree)
    if told is None:
        return skipped("ComfyUI's code", "git cannot tell whether it was changed")
    if changed := [line[3:] for line in told.splitlines()]:
        return warning("ComfyUI's code", f"was changed here: {', '.join(changed)}")
    return ok("ComfyUI's code", "is as it was published")


def _missing(workflow: Workflow, at: Folders) -> Iterator[str]:
    for slot in workflow.models.values():
        name = str(workflow.graph[slot.binding.node]["inputs"][slot.binding.input])
        places = (at.models / slot.folder, *at.kinds.get(slot.folder, ()))
        if not any(Path(place, name).is_file() for place in places):
            yield f"Add {slot.folder}/{name}{f' ({slot.source})' if slot.source else ''}"


def _told(call: list[str], folder: Path) -> str | None:
    """What a program prints; None if it fails."""
    try:
        done = subprocess.run(
            call, cwd=folder, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
