"""Finds the user's ComfyUI and its Python, and installs our requirements there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .places import REQUIREMENTS, ROOT, ComfyUI, is_comfyui, python_in
from .provide import pip_install
from .report import Failure, say

NOWHERE = """This folder stands in no ComfyUI. Three ways on:
  move it into the custom_nodes folder of your ComfyUI and run ./install.sh there;
  or name your ComfyUI:  COMFYUI_PATH=/path/to/ComfyUI ./install.sh
  or let us get one:     ./install.sh demo"""
NO_PYTHON = """ComfyUI's Python was not found beside {tree}.
Name it:  COMFYUI_PYTHON=/path/to/python ./install.sh"""


def install_into_existing() -> None:
    """Installs the requirements into the user's ComfyUI and says what comes next."""
    comfyui = existing_comfyui()
    if comfyui is None:
        raise Failure(NOWHERE)
    add_requirements(comfyui)
    say(next_step(comfyui))


def existing_comfyui() -> ComfyUI | None:
    """The ComfyUI that COMFYUI_PATH names, else the one whose custom_nodes we stand in."""
    tree = named_tree() or surrounding_tree()
    return None if tree is None else ComfyUI(tree, python_of(tree))


def add_requirements(comfyui: ComfyUI) -> None:
    title = f"Installing the requirements into {comfyui.python}"
    pip_install(comfyui.python, REQUIREMENTS, title=title)


def named_tree() -> Path | None:
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    tree = from_users_folder(named)
    if not is_comfyui(tree):
        raise Failure(f"COMFYUI_PATH names no ComfyUI: there is no main.py in {tree}. Correct it.")
    return tree


def surrounding_tree() -> Path | None:
    for stand in (folder_as_entered(), ROOT):
        if stand.parent.name == "custom_nodes" and is_comfyui(stand.parents[1]):
            return stand.parents[1]
    return None


def folder_as_entered() -> Path:
    """Our folder as the shell named it: a link in custom_nodes counts as standing there."""
    entered = Path(os.environ.get("PWD", ROOT))
    return entered if entered.exists() and entered.samefile(ROOT) else ROOT


def from_users_folder(path: str) -> Path:
    """A path as the user meant it: install.sh has moved here from where the user stood."""
    stood = Path(os.environ.get("OLDPWD", "."))
    return (stood / Path(path).expanduser()).absolute()


def python_of(tree: Path) -> Path:
    for python in candidates(tree):
        if python.is_file():
            return python
    raise Failure(NO_PYTHON.format(tree=tree))


def candidates(tree: Path) -> Iterator[Path]:
    named = os.environ.get("COMFYUI_PYTHON")
    if named:
        yield named_python(named)
    yield python_in(tree / "venv")
    yield python_in(tree / ".venv")
    yield tree.parent / "python_embeded" / "python.exe"
    yield tree.parent / "python_embeded" / "bin" / "python"
    active = os.environ.get("VIRTUAL_ENV")
    if active:
        yield python_in(Path(active))


def named_python(named: str) -> Path:
    python = from_users_folder(named)
    if python.is_file():
        return python
    command = shutil.which(named)
    if command is None:
        raise Failure(f"COMFYUI_PYTHON names no Python: there is no {python}. Correct it.")
    return Path(command)


def owner_of(path: Path) -> str:
    try:
        return path.owner()
    except KeyError as error:
        who = path.stat().st_uid
        raise Failure(f"{path} belongs to user {who}, who has no name: chown it.") from error


def next_step(comfyui: ComfyUI) -> str:
    if surrounding_tree() == comfyui.tree:
        return "Done. Start ComfyUI again; then open http://127.0.0.1:8188/api/v1/docs"
    nodes = comfyui.tree / "custom_nodes"
    link = f'ln -s "{ROOT}" "{nodes}/unified-api"'
    return f"Done. Put the plugin into ComfyUI, then start it again:\n  {link}"
