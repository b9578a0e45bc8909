"""`install.sh uninstall`: takes away services and link; ComfyUI is as it was."""

from __future__ import annotations

from pathlib import Path

from ..comfyui.existing import named_tree, surrounding_tree
from ..comfyui.places import OURS, ROOT, SERVE_BASE
from ..comfyui.report import say
from .installed import DRAINING, options_of, our_units, require_writable, served, systemctl
from .units import SETTINGS, UNITS


def uninstall(options: list[str]) -> None:
    """What is the user's stays, and it says where."""
    root: Path = options_of("uninstall").parse_args(options).into
    by_unit = served(root)
    tree = named_tree() or surrounding_tree() or (by_unit and by_unit.tree)
    if units := our_units(root):
        require_writable(root / UNITS)
        remove(units, is_running=root == Path("/"))
    if tree:
        unlink_from(tree / "custom_nodes")
    tell_what_stays(root, tree or SERVE_BASE)


def remove(units: list[Path], *, is_running: bool) -> None:
    if is_running:
        say(f"Ending the services: {DRAINING}")
        systemctl("disable", "--now", *(unit.name for unit in units))
    for unit in units:
        unit.unlink()
        say(f"Removed      {unit}")
    if is_running:
        systemctl("daemon-reload")


def unlink_from(nodes: Path) -> None:
    for entry in nodes.iterdir():
        if entry.is_symlink() and entry.resolve() == ROOT:
            entry.unlink()
            say(f"Removed      {entry}")


def tell_what_stays(root: Path, base: Path) -> None:
    """Nothing of it is ours to delete."""
    places = {
        root / SETTINGS: "settings",
        base / "user" / "unified_api": "jobs, results, definitions, keys",
        base / "input" / "unified_api": "pictures that came with jobs",
        root / "var" / "cache" / "comfyui": "what was compiled for the GPU",
        OURS: "ComfyUI and Python of our own",
        ROOT: "this clone",
    }
    say("What stays is yours to keep or to delete:")
    for place, what in places.items():
        if place.exists():
            say(f"  {place}  ({what})")
    say("  the packages of requirements.txt in ComfyUI's Python: other nodes may need them")
