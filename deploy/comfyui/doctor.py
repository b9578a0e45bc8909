"""Starts the doctor on the Python of this worker's ComfyUI, or of this orchestrator."""

from __future__ import annotations

import os
import shlex
import subprocess
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from .existing import NOWHERE, existing_comfyui, from_users_folder
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
from .report import Failure, Parser, note

FOLDERS = Path(__file__).with_name("folders.py")
INSTALL_ORCHESTRATOR = "./install.sh systemd --only orchestrator"
#: In seconds, for ComfyUI to tell its folders.
PATIENCE = 30
#: The Python that the doctor runs on, and what tells it the role.
Role = tuple[Path, list[str]]
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
    """Examines this machine; 1 if something failed. Installs and starts nothing."""
    chosen = parser().parse_args(options)
    environment = {**os.environ, **variables_in(chosen.env_file)}
    python, role = orchestrator() if chosen.orchestrator else worker(chosen, environment)
    link_to_clone(PACKAGE)
    call = [str(python), "-m", "unified_api.sqs_bridge.doctor", *role]
    call += ["--json"] if chosen.json else []
    # From elsewhere: modules of the clone must not be found by their plain names.
    environment["PYTHONPATH"] = str(PACKAGES)
    return subprocess.run(call, cwd=PACKAGES, env=environment, check=False).returncode


def parser() -> Parser:
    options = Parser(prog="./install.sh doctor", allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="the findings for programs")
    options.add_argument("--env-file", metavar="FILE", help="settings, as systemd reads them")
    role = options.add_mutually_exclusive_group()
    role.add_argument("--orchestrator", action="store_true", help="instead of a worker")
    role.add_argument("--base-directory", metavar="DIR", help="as ComfyUI is given it")
    return options


def orchestrator() -> Role:
    """On the Python of the service that `./install.sh systemd` makes."""
    python = python_in(VENV)
    if not python.exists():
        raise Failure(f"This clone runs no orchestrator: {INSTALL_ORCHESTRATOR} makes one.")
    require_packages(python, cure=INSTALL_ORCHESTRATOR)
    return python, []


def worker(chosen: Namespace, environment: Mapping[str, str]) -> Role:
    """With the options that its unit gives to ComfyUI, and then those that are given here."""
    comfyui = examined()
    require_packages(comfyui.python, cure="./install.sh")
    options = split(environment.get("COMFYUI_OPTIONS", ""), "COMFYUI_OPTIONS")
    if chosen.base_directory:
        options += ["--base-directory", str(from_users_folder(chosen.base_directory))]
    told = folders_of(comfyui, options)
    return comfyui.python, ["--worker", str(comfyui.tree), *(["--folders", told] if told else [])]


def examined() -> ComfyUI:
    """The user's ComfyUI, else the one that `serve` has made."""
    own = ComfyUI(own_tree(NEWEST), python_in(VENV))
    comfyui = existing_comfyui() or (own if own.tree.exists() and own.python.exists() else None)
    if comfyui is None:
        raise Failure(NOWHERE)
    return comfyui


def folders_of(comfyui: ComfyUI, options: list[str]) -> str | None:
    """What FOLDERS prints of a ComfyUI with these options; None if ComfyUI fails."""
    base = ["--base-directory", str(SERVE_BASE)] if comfyui.is_ours else []
    call = [str(comfyui.python), "-B", str(FOLDERS), *base, *options]
    try:
        done = subprocess.run(
            call, cwd=comfyui.tree, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        note(f"ComfyUI has not told its folders in {PATIENCE} s.")
    except subprocess.CalledProcessError as error:
        note(error.stderr.rstrip())
    else:
        # Custom code in ComfyUI may print as well, before.
        return str(done.stdout.splitlines()[-1])
    return None


def require_packages(python: Path, *, cure: str) -> None:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    # What is for some platforms only can be done without.
    needed = [package(line) for line in lines if line and ";" not in line]
    call = [str(python), "-c", LACKING, *needed]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{python} does not run: set COMFYUI_PYTHON to ComfyUI's Python.")
    if lacking := done.stdout.split():
        raise Failure(f"{python} lacks {', '.join(lacking)}: run {cure} to install them.")


def variables_in(file: str | None) -> dict[str, str]:
    """Of lines as 'NAME=value' or 'NAME="a value"'."""
    if file is None:
        return {}
    try:
        lines = from_users_folder(file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}.") from error
    given = [line.strip() for line in lines if "=" in line and line.lstrip()[0] not in "#;"]
    parts = [(name.strip(), value.strip()) for name, _, value in (g.partition("=") for g in given)]
    return {name: unquoted(value, f"{name} in {file}") for name, value in parts}


def unquoted(value: str, name: str) -> str:
    return "".join(split(value, name)) if value[:1] in {'"', "'"} else value


def split(value: str, name: str) -> list[str]:
    """Into words, as a shell does. The value is not shown: it may be a secret."""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise Failure(f"{name} cannot be read: {error}.") from error
