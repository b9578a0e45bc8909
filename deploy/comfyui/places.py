"""Where things lie: the clone, and what we put into its git-ignored folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements.txt"
TEST_REQUIREMENTS = ROOT / "tests" / "requirements.txt"
MOTO_SERVER = ROOT / "tests" / "aws" / "moto_server.py"
LAUNCHER = ROOT / "deploy" / "comfyui" / "launch.py"
SOURCES = ROOT / "deploy" / "comfyui" / "sources"
PICTURE = ROOT / "deploy" / "comfyui" / "picture.png"

OURS = ROOT / ".comfyui"
VENV = OURS / "venv"
OLDEST_AIOHTTP_VENV = OURS / "venv-oldest-aiohttp"
AUDIT_VENV = OURS / "venv-pip-audit"
NODE = OURS / "node"
LOGS = OURS / "logs"
# The clone by the name of its package, for whatever imports it.
PACKAGES = OURS / "packages"
PACKAGE = PACKAGES / "unified_api"
# Two bases: a demo must not share the job store of a `serve` that is running.
SERVE_BASE = OURS / "base"
DEMO_BASE = OURS / "demo"


class ComfyUI(NamedTuple):
    """A ComfyUI that can be started: its folder and the Python it runs on."""

    tree: Path
    python: Path

    @property
    def is_ours(self) -> bool:
        return self.tree.parent == OURS


def own_tree(version: str) -> Path:
    return OURS / f"ComfyUI-{version}"


def python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "nodes.py").is_file()


def link_to_clone(link: Path) -> None:
    """The clone under a name of our choice: its own folder may be called anything."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.resolve() != ROOT:
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT, target_is_directory=True)
