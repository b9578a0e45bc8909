"""Doctor: what is found where a machine is examined, and what its own disk tells."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..workflows import Catalog, Workflow
from .disk import Disk
from .settings import Settings

OLDEST_PYTHON = (3, 10)
OLDEST, NEWEST = (0, 3, 64), (0, 30, 0)
VERSION = re.compile(r"""^__version__\s*=\s*["'](\d+)\.(\d+)\.(\d+)""", re.MULTILINE)
GIT_SECONDS = 20
#: First version without it -> what those before it let happen.
LIMITS = {
    (0, 30, 0): "LoadImage reads any picture of this machine for whoever reaches ComfyUI's own"
    " port: keep that on loopback, or set UNIFIED_API_PROTECT=all"
}
#: ComfyUI looks into these folders as well.
OLDER_NAMES = {"diffusion_models": "unet", "text_encoders": "clip"}
EXTRA_PATHS = "extra_model_paths.yaml"


class Level(str, Enum):
    OK = "ok"
    #: It could not be looked at, or there is nothing to look at. No fault.
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do, a line each. A missing permission names
    itself."""

    level: Level
    subject: str
    text: str
    cure: str | None = None
    action: str | None = None
    resource: str | None = None

    @property
    def is_general(self) -> bool:
        """Whether it would be the same whatever else were asked of the same thing."""
        return self.level is Level.FAILED and self.action is None

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        first = f"{self.level.value:<8}  {self.subject}: {self.text}"
        return "\n          -> ".join([first, *(self.cure or "").splitlines()])


def ok(subject: str, text: str) -> Finding:
    return Finding(Level.OK, subject, text)


def skipped(subject: str, text: str) -> Finding:
    return Finding(Level.SKIPPED, subject, text)


def warning(subject: str, text: str, cure: str | None = None) -> Finding:
    return Finding(Level.WARNING, subject, text, cure)


def failed(subject: str, text: str, cure: str | None = None) -> Finding:
    return Finding(Level.FAILED, subject, text, cure)


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


def disk(folders: dict[str, Path], settings: Settings) -> Finding:
    problem = Disk(folders, min_free_bytes=settings.min_free_bytes).problem
    return failed("disk", problem) if problem else ok("disk", "there is room in each folder")


def workflows(catalog: Catalog, tree: Path, models: Path) -> Iterator[Finding]:
    """Of each workflow, the model files that are missing and where they go."""
    yield skipped("nodes", "are known to a running ComfyUI alone: GET /api/v1/workflows tells")
    for slug, fault in catalog.broken.items():
        yield failed(f"workflow {slug}", fault)
    for problem in catalog.problems:
        yield warning("workflows", problem)
    elsewhere = f" (or into a folder of {EXTRA_PATHS})" if (tree / EXTRA_PATHS).exists() else ""
    for slug, workflow in catalog.workflows.items():
        missing = [f"{line}{elsewhere}" for line in _missing(workflow, models)]
        text = "cannot run: model files are missing"
        yield (
            warning(f"workflow {slug}", text, "\n".join(missing))
            if missing
            else ok(f"workflow {slug}", f"has its {len(workflow.models)} model files")
        )


def worst(findings: Iterable[Finding]) -> Level:
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


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
    call = ["git", "-C", str(tree), "status", "--porcelain", "--untracked-files=no"]
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return skipped("ComfyUI's code", "git cannot tell whether it was changed")
    changed = [line[3:] for line in done.stdout.splitlines()]
    if changed:
        return warning("ComfyUI's code", f"was changed here: {', '.join(changed)}")
    return ok("ComfyUI's code", "is as it was published")


def _missing(workflow: Workflow, models: Path) -> Iterator[str]:
    for slot in workflow.models.values():
        name = str(workflow.graph[slot.binding.node]["inputs"][slot.binding.input])
        folders = filter(None, (slot.folder, OLDER_NAMES.get(slot.folder)))
        if not any((models / folder / name).is_file() for folder in folders):
            source = f" (from {slot.source})" if slot.source else ""
            yield f"put {name} into {models / slot.folder}{source}"
