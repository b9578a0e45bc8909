"""A pretended machine with a ComfyUI of somebody's, and a clone of ours beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ("install.sh", "requirements.txt", "README.md")
STUB = """\
echo "$*" >> "{record}"
case "$*" in {fails}) {end};; esac
"""
#: What its Python is asked.
ACCELERATOR, PIP = "*is_available*", "*pip*"
NEVER = "'never'"
#: A user of no special rights on every Unix.
SOMEBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: what root leaves to a user")


class Machine:
    """A pretended machine with a ComfyUI of somebody's, and a clone of ours beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.comfyui = folder / "Comfy UI"
        self.clone = folder / "our clone"
        self.record = folder / "called.txt"
        self.systemctl = folder / "bin" / "systemctl"
        self.told = folder / "told.txt"
        self.units = self.root / "etc" / "systemd" / "system"
        self.settings = self.root / "etc" / "unified-api"
        self.python_folder = self.comfyui / "venv" / "bin"
        self.link = self.comfyui / "custom_nodes" / "unified-api"
        self.link.parent.mkdir(parents=True)
        for name in ("main.py", "nodes.py"):
            (self.comfyui / name).touch()
        self.python(fails=NEVER)
        write_stub(self.systemctl, f'echo "$*" $(/bin/ls "{self.units}") >>"{self.told}"\n')
        self._ship()

    def _ship(self) -> None:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "deploy", self.clone / "deploy", ignore=ignored)
        for name in SHIPPED:
            shutil.copy(ROOT / name, self.clone)

    def python(self, *, fails: str, end: str = "exit 1") -> None:
        stub = STUB.format(record=self.record, fails=fails, end=end)
        write_stub(self.python_folder / "python", stub)

    def install(self, *arguments: str, **environment: str) -> str:
        """What is said, also when it fails."""
        return self.run(*arguments, "--into", str(self.root), **environment).stdout

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        named = {"COMFYUI_PATH": str(self.comfyui), "PWD": str(self.clone)}
        # Services of the machine that the tests run on are none of their business.
        named["PATH"] = f"{self.systemctl.parent}:{os.environ['PATH']}"
        return subprocess.run(
            [self.clone / "install.sh", *arguments],
            env={**os.environ, **named, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def called(self) -> str:
        return self.record.read_text() if self.record.exists() else ""

    def git(self, *arguments: str, at: Path | None = None) -> str:
        me = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgSign=false"]
        call = ["git", *me, "-C", str(at or self.clone), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


def write_stub(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}")
    file.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)
