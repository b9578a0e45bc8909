"""The machine below --into: what services of ours it has, and how they are told."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path

from ..comfyui.existing import from_users_folder
from ..comfyui.places import ComfyUI, is_comfyui
from ..comfyui.report import Failure, Parser, is_root, say
from .units import ORCHESTRATOR, UNITS, WORKER

MARK = "# Written by ./install.sh systemd"
CALLED = re.compile(r'^ExecStart="(?P<python>.+?)" ".+?" "(?P<tree>.+?)"', re.MULTILINE)
DRAINING = "jobs under way have 100 s, unless you changed that"


def is_ours(unit: Path) -> bool:
    return unit.exists() and unit.read_text(encoding="utf-8", errors="replace").startswith(MARK)


def our_units(root: Path) -> list[Path]:
    return [unit for name in (WORKER, ORCHESTRATOR) if is_ours(unit := root / UNITS / name)]


def served(root: Path) -> ComfyUI | None:
    """The user's ComfyUI, if our unit starts it and it is still there."""
    unit = root / UNITS / WORKER
    called = CALLED.search(unit.read_text(encoding="utf-8")) if is_ours(unit) else None
    if called is None:
        return None
    comfyui = ComfyUI(Path(called["tree"]), Path(called["python"]))
    return comfyui if is_comfyui(comfyui.tree) and not comfyui.is_ours else None


def restart(root: Path = Path("/")) -> None:
    """Another version is in place; it counts from the next start on."""
    names = [unit.name.removesuffix(".service") for unit in our_units(root)]
    if not names:
        say("Start ComfyUI again.")
    elif is_root():
        say(f"Starting the services again: {DRAINING}")
        systemctl("try-restart", *names)
    else:
        say(f"Start the services again:  sudo systemctl restart {' '.join(names)}")


def systemctl(*arguments: str) -> None:
    """Where systemd does not run there is nothing to end: it says so itself."""
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", *arguments], check=False)


def require_writable(folder: Path) -> None:
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(existing, os.W_OK):
        raise Failure(f"You may not write to {existing}: use sudo, or --into DIR.")


def options_of(verb: str) -> argparse.ArgumentParser:
    options = Parser(f"./install.sh {verb}", allow_abbrev=False, add_help=False)
    options.add_argument("--into", metavar="DIR", type=from_users_folder, default=Path("/"))
    return options
