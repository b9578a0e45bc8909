"""All checks of the project: style, types, and the tests on real ComfyUI processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .places import ROOT, TYPING, link_to_clone
from .report import say


def run_checks(python: Path, pytest_arguments: list[str]) -> int:
    """Runs all of them, also after one has failed; the status is 0 only if all were clean."""
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy", "-p", "unified_api"],
        "pytest": ["pytest", "--durations=15", *pytest_arguments],
    }
    # mypy takes the name of a package from its folder.
    link_to_clone(TYPING / "unified_api")
    failed = [name for name, call in checks.items() if not is_clean(python, name, call)]
    say(f"Failed: {', '.join(failed)}" if failed else "All checks are clean")
    return 1 if failed else 0


def is_clean(python: Path, name: str, call: list[str]) -> bool:
    say(f"== {name}")
    environment = {**os.environ, "MYPYPATH": str(TYPING)}
    done = subprocess.run([str(python), "-m", *call], cwd=ROOT, env=environment, check=False)
    return done.returncode == 0
