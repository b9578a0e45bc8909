"""All checks of the project: style, types, and the tests on real ComfyUI processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .browser import UNTESTED, has_chromium
from .places import PACKAGE, PACKAGES, ROOT, link_to_clone
from .provide import python_with_oldest_aiohttp
from .report import say

#: The tests whose outcome depends on how aiohttp dials, and what it takes for true.
ON_OLDEST_AIOHTTP = (
    "jobs/test_guard",
    "jobs/test_fetch",
    "routes/test_auth",
    "routes/test_browsers",
    "routes/test_limits",
    "routes/test_listener",
)


def run_checks(python: Path, pytest_arguments: list[str]) -> int:
    """Runs all of them, also after one has failed; the status is 0 only if all were clean."""
    checks = {
        "ruff check": (python, ["ruff", "check", "."]),
        "ruff format": (python, ["ruff", "format", "--check", "."]),
        "mypy": (python, ["mypy", "-p", "unified_api"]),
    }
    if not pytest_arguments:
        oldest = python_with_oldest_aiohttp()
        files = [f"tests/unit/{name}.py" for name in ON_OLDEST_AIOHTTP]
        checks["pytest on the oldest aiohttp"] = (
            oldest,
            ["pytest", "-p", "no:cacheprovider", *files],
        )
    checks["pytest"] = (python, ["pytest", "--durations=15", *pytest_arguments])
    # mypy takes the name of a package from its folder.
    link_to_clone(PACKAGE)
    failed = [
        name
        for name, (with_python, call) in checks.items()
        if not is_clean(with_python, name, call)
    ]
    if not has_chromium():
        say(UNTESTED)
    say(f"Failed: {', '.join(failed)}" if failed else "All checks are clean")
    return 1 if failed else 0


def is_clean(python: Path, name: str, call: list[str]) -> bool:
    say(f"== {name}")
    environment = {**os.environ, "MYPYPATH": str(PACKAGES)}
    done = subprocess.run([str(python), "-m", *call], cwd=ROOT, env=environment, check=False)
    return done.returncode == 0


def run_kills(python: Path, rounds: list[str]) -> int:
    """The longer crash test; its own exit status."""
    script = ROOT / "tests" / "comfyui" / "kills.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "aws")}
    command = [str(python), str(script), *rounds]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
