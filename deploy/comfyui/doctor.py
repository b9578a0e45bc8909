"""Starts the doctor on the Python of this worker's ComfyUI."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from .existing import NOWHERE, existing_comfyui, from_users_folder
from .keys import Parser
from .places import (
    PACKAGE,
    PACKAGES,
    REQUIREMENTS,
    SERVE_BASE,
    VENV,
    ComfyUI,
    link_to_clone,
    own_tree,
    python_in,
)
from .provide import NEWEST, package
from .report import Failure

#: Prints the packages that this Python lacks.
LACKING = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print(name)
"""


def doctor(options: list[str]) -> int:
    """Examines this worker; 1 if something failed. Installs and starts nothing."""
    chosen = parser().parse_args(options)
    environment = {**os.environ, **variables_in(chosen.env_file)}
    comfyui = examined()
    require_packages(comfyui.python)
    link_to_clone(PACKAGE)
    base = from_users_folder(chosen.base_directory) if chosen.base_directory else base_of(comfyui)
    call = [str(comfyui.python), "-m", "unified_api.sqs_bridge.doctor"]
    call += ["--worker", str(comfyui.tree), "--base-directory", str(base)]
    call += ["--json"] if chosen.json else []
    # From elsewhere: modules of the clone must not be found by their plain names.
    environment["PYTHONPATH"] = str(PACKAGES)
    return subprocess.run(call, cwd=PACKAGES, env=environment, check=False).returncode


def parser() -> Parser:
    options = Parser(prog="./install.sh doctor", allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="the findings for programs")
    options.add_argument("--env-file", metavar="FILE", help="settings, as systemd reads them")
    options.add_argument("--base-directory", metavar="DIR", help="as ComfyUI is given it")
    return options


def examined() -> ComfyUI:
    """The user's ComfyUI, else the one that `serve` has made."""
    own = ComfyUI(own_tree(NEWEST), python_in(VENV))
    comfyui = existing_comfyui() or (own if own.tree.exists() and own.python.exists() else None)
    if comfyui is None:
        raise Failure(NOWHERE)
    return comfyui


def base_of(comfyui: ComfyUI) -> Path:
    return SERVE_BASE if comfyui.is_ours else comfyui.tree


def require_packages(python: Path) -> None:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    call = [str(python), "-c", LACKING, *(package(line) for line in lines if line)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{python} does not run: set COMFYUI_PYTHON to ComfyUI's Python.")
    if lacking := done.stdout.split():
        raise Failure(f"{python} lacks {', '.join(lacking)}: run ./install.sh to install them.")


def variables_in(file: str | None) -> dict[str, str]:
    """Of lines as 'NAME=value' or 'NAME="a value"'."""
    if file is None:
        return {}
    try:
        lines = from_users_folder(file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}.") from error
    given = [line.strip() for line in lines if "=" in line and line.lstrip()[0] not in "#;"]
    return {name.strip(): unquoted(value) for name, _, value in (g.partition("=") for g in given)}


def unquoted(value: str) -> str:
    value = value.strip()
    return "".join(shlex.split(value)) if value[:1] in {'"', "'"} else value
