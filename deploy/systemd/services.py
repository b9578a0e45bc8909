"""`install.sh systemd` and `install.sh uninstall`: puts the units in place and takes them away."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..comfyui.existing import from_users_folder, named_tree, surrounding_tree
from ..comfyui.keys import Parser
from ..comfyui.places import OURS, ROOT, SERVE_BASE
from ..comfyui.report import Failure, say
from .units import ORCHESTRATOR, SETTINGS, UNITS, WORKER, Unit, closed_folder, orchestrator, worker

MARK = "# Written by ./install.sh systemd"


def systemd(options: list[str]) -> None:
    """Writes units and environment files, and says how they are started."""
    asked = install_options().parse_args(options)
    root = from_users_folder(asked.into)
    require_writable(root / UNITS)
    for name in (WORKER, ORCHESTRATOR):
        require_ours(root / UNITS / name)
    units = list(wanted(asked.only, asked.user))
    for unit in units:
        write_settings(root / SETTINGS / unit.settings_name, unit.settings)
        write_unit(root / UNITS / unit.name, unit.text)
    names = " ".join(unit.name.removesuffix(".service") for unit in units)
    say("Fill in the environment files, then:")
    say(f"  systemctl daemon-reload && systemctl enable --now {names}")


def wanted(only: str | None, user: str | None) -> Iterator[Unit]:
    closed = closed_folder()
    if only != "orchestrator":
        yield worker(user)
    if only != "worker" and closed is None:
        yield orchestrator()
    if only == "orchestrator" and closed:
        raise Failure(closed_to_everybody(closed))
    if only is None and closed:
        say(f"No {ORCHESTRATOR}: {closed_to_everybody(closed)}")


def closed_to_everybody(folder: Path) -> str:
    return (
        "the orchestrator runs as a user of its own, who must be able to read this clone and its"
        f" Python, and {folder} is closed to others. Put both where all may read, say into /opt."
    )


def require_writable(folder: Path) -> None:
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(existing, os.W_OK):
        raise Failure(f"You may not write to {existing}: use sudo, or --into DIR.")


def require_ours(unit: Path) -> None:
    if unit.exists() and not is_ours(unit):
        raise Failure(f"{unit} was not written by this command: move it away, then run this again.")


def is_ours(unit: Path) -> bool:
    return unit.exists() and unit.read_text(encoding="utf-8", errors="replace").startswith(MARK)


def write_unit(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
    say(f"Unit         {file}")


def write_settings(file: Path, text: str) -> None:
    """Never over one that is there. It may come to hold secrets, so it is its owner's alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        say(f"Settings     {file} (there already, left as it is)")
        return
    with os.fdopen(number, "w", encoding="utf-8") as opened:
        opened.write(text)
    say(f"Settings     {file}")


def uninstall(options: list[str]) -> None:
    """Takes away units and link; what is the user's stays, and it says where."""
    asked = uninstall_options().parse_args(options)
    root = from_users_folder(asked.into)
    units = [unit for name in (WORKER, ORCHESTRATOR) if is_ours(unit := root / UNITS / name)]
    if units:
        remove(units, is_running=root == Path("/"))
    tree = named_tree() or surrounding_tree()
    if tree:
        unlink_from(tree / "custom_nodes")
    tell_what_stays(root / SETTINGS, (tree or SERVE_BASE) / "user" / "unified_api")


def remove(units: list[Path], *, is_running: bool) -> None:
    require_writable(units[0].parent)
    if is_running:
        say("Ending the services: jobs under way have 100 s, unless you changed that")
        systemctl("disable", "--now", *(unit.name for unit in units))
    for unit in units:
        unit.unlink()
        say(f"Removed      {unit}")
    if is_running:
        systemctl("daemon-reload")


def systemctl(*arguments: str) -> None:
    """Where systemd does not run there is nothing to end: it says so itself."""
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", *arguments], check=False)


def unlink_from(nodes: Path) -> None:
    for entry in nodes.iterdir():
        if entry.is_symlink() and entry.resolve() == ROOT:
            entry.unlink()
            say(f"Removed      {entry}")


def tell_what_stays(settings: Path, data: Path) -> None:
    """Nothing of it is ours to delete."""
    say("What stays is yours to keep or to delete:")
    places = {"settings": settings, "jobs, results, definitions, keys": data}
    places |= {"ComfyUI and Python of our own": OURS, "this clone": ROOT}
    for what, place in places.items():
        if place.exists():
            say(f"  {place}  ({what})")
    say("  the packages of requirements.txt in ComfyUI's Python: other nodes may need them")


def install_options() -> argparse.ArgumentParser:
    options = uninstall_options("./install.sh systemd")
    options.add_argument("--only", choices=("worker", "orchestrator"))
    options.add_argument("--user", metavar="NAME")
    return options


def uninstall_options(prog: str = "./install.sh uninstall") -> argparse.ArgumentParser:
    options = Parser(prog, allow_abbrev=False, add_help=False)
    options.add_argument("--into", metavar="DIR", default="/")
    return options
