"""Gives us a ComfyUI of our own: its source, a virtual environment, the packages of both."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .fetch import fetch
from .places import (
    OLDEST_AIOHTTP_VENV,
    OURS,
    REQUIREMENTS,
    TEST_REQUIREMENTS,
    VENV,
    ComfyUI,
    python_in,
)
from .programs import provide_programs
from .report import is_root, run_step

NEWEST = "0.30.0"
OLDEST = "0.16.3"
TORCH = "torch==2.13.0"
#: The oldest that ComfyUI allows, and what the tests on it need.
OLDEST_AIOHTTP = "aiohttp==3.11.8"
BESIDE_OLDEST_AIOHTTP = {
    *("hypothesis", "pytest", "pytest-aiohttp", "pytest-timeout"),
    *("pillow", "pydantic", "jsonschema", "prometheus-client"),
}
TORCH_FAMILY = {"torch", "torchvision", "torchaudio"}


def own_comfyui() -> ComfyUI:
    """Our own ComfyUI, ready to start; what a former run has finished is kept."""
    python = own_python()
    tree = fetch(NEWEST, python)
    # ComfyUI keeps a database of its own there, and complains if it cannot.
    (tree / "user").mkdir(exist_ok=True)
    for name, requirements in package_sets(tree).items():
        install_once(python, name, requirements)
    return ComfyUI(tree, python)


def everything_for_tests() -> Path:
    """The Python to test with, beside both ComfyUI versions that the tests start."""
    comfyui = own_comfyui()
    fetch(OLDEST, comfyui.python)
    install_once(comfyui.python, "tests", TEST_REQUIREMENTS.read_text(encoding="utf-8"))
    provide_programs(may_install=is_root())
    return comfyui.python


def python_with_oldest_aiohttp() -> Path:
    """A Python for the few tests that depend on how aiohttp dials."""
    python = own_python(OLDEST_AIOHTTP_VENV)
    files = (REQUIREMENTS, TEST_REQUIREMENTS)
    known = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    beside = [line for line in known if package(line) in BESIDE_OLDEST_AIOHTTP]
    install_once(python, "aiohttp", "\n".join([OLDEST_AIOHTTP, *beside]))
    return python


def python_with_moto() -> Path:
    """A Python with the plugin's packages and the AWS emulator; it need not be ComfyUI's."""
    python = own_python()
    install_once(python, "plugin", REQUIREMENTS.read_text(encoding="utf-8"))
    for_tests = TEST_REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    (moto,) = (line for line in for_tests if package(line) == "moto")
    install_once(python, "moto", moto)
    return python


def own_python(venv: Path = VENV) -> Path:
    python = python_in(venv)
    if not has_pip(python):
        OURS.mkdir(exist_ok=True)
        run_step(
            f"Creating a virtual environment (Python {sys.version.split()[0]})",
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            log="venv",
            cure="Install Python's venv module (Debian, Ubuntu: apt install python3-venv).",
        )
    return python


def has_pip(python: Path) -> bool:
    return python.exists() and succeeds([str(python), "-c", "import pip"])


def package_sets(tree: Path) -> dict[str, str]:
    """What is installed, in this order."""
    comfyui = (tree / "requirements.txt").read_text(encoding="utf-8")
    plugin = REQUIREMENTS.read_text(encoding="utf-8")
    if has_nvidia_gpu():
        return {"ComfyUI": comfyui, "plugin": plugin}
    # First and alone: pip takes a CPU build of torch where the index offers one.
    return {"torch": TORCH, "ComfyUI": for_cpu(comfyui), "plugin": plugin}


@functools.cache
def has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None and succeeds(["nvidia-smi"])


def succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def for_cpu(requirements: str) -> str:
    """ComfyUI's requirements with one torch, and no torchaudio: its CUDA build does not load."""
    others = [line for line in requirements.splitlines() if package(line) not in TORCH_FAMILY]
    return "\n".join([*others, TORCH, "torchvision", "requests>=2.32"])


def package(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def install_once(python: Path, name: str, requirements: str) -> None:
    """Install, unless the list of a finished installation says the same."""
    venv = python.parent.parent
    finished = venv / f"installed-{name}.txt"
    if finished.exists() and finished.read_text(encoding="utf-8") == requirements:
        return
    begun = venv / f"installing-{name}.txt"
    begun.write_text(requirements, encoding="utf-8")
    pip_install(python, begun, title=f"Installing packages: {name}")
    begun.replace(finished)


def pip_install(python: Path, requirements: Path, *, title: str) -> None:
    """Root leaves no files of its own in a user's Python."""
    command = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    # Most of what comes is never imported: left uncompiled, the first run is shorter.
    command += ["--no-compile", "--requirement", str(requirements)]
    run_step(
        title,
        command,
        log="pip",
        cure="Check the network, the free disk space and that this Python has pip; then run again.",
        among=python.parent,
    )
