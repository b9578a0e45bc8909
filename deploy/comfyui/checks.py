"""All checks of the project: style, types, and the tests on real ComfyUI processes."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .node import page_tools
from .places import PACKAGE, PACKAGES, ROOT, link_to_clone
from .programs import say_untested
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
#: Needs the network, and what it finds does not depend on a change: once in a full run.
AUDIT = "deploy.comfyui.audit"
#: A run that takes longer keeps people from running it.
WARN_SECONDS = 12 * 60
TOO_LONG = (
    f"this run took more than {WARN_SECONDS // 60} minutes. Tests that repeat another one for a"
    " version, an emulator or a kill point can be marked `full`: see tests/common/runs.py."
)
#: What a check could not do begins with this; it is repeated at the end.
UNTESTED = "NOT TESTED"
#: Tests wait for clocks and processes half of their time, so that two share a core.
PROCESSES = min(16, 2 * (os.cpu_count() or 1))
#: By file, since tests of a file share servers; those that start a ComfyUI come first.
SPREAD = ["--numprocesses", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]


class Check(NamedTuple):
    """A command that fails if something is wrong."""

    name: str
    command: list[str]

    @classmethod
    def of_module(cls, name: str, python: Path, call: list[str]) -> Check:
        """A module that one of our Pythons runs."""
        return cls(name, [str(python), "-m", *call])


class Result(NamedTuple):
    """`output` is what was captured of a check, `again` the shell command that repeats it."""

    name: str
    seconds: float
    status: int = 0
    output: str = ""
    again: str = ""


def run_checks(prepare: Callable[[], Path], arguments: list[str]) -> int:
    """Runs all checks, also after one has failed; the status is 0 only if all were clean.

    `prepare` returns the Python to test with. Where `arguments` name tests, pytest runs alone.
    """
    began = time.monotonic()
    python = prepare()
    others = beside_pytest(python, arguments)
    # mypy takes the name of a package from its folder.
    link_to_clone(PACKAGE)
    prepared = Result("preparing", time.monotonic() - began)
    with ThreadPoolExecutor() as pool:
        beside = [pool.submit(captured, check) for check in others]
        tested = shown(pytest_with(python, arguments))
        results = [prepared, *(each.result() for each in beside), tested]
    return report(results, time.monotonic() - began)


def pytest_with(python: Path, arguments: list[str]) -> Check:
    spread = [] if names_tests(arguments) else SPREAD
    return Check.of_module("pytest", python, ["pytest", "--durations=10", *spread, *arguments])


def names_tests(arguments: list[str]) -> bool:
    """Whether so few are asked for that one process is sooner done."""
    return any(word == "-k" or "::" in word or word.endswith(".py") for word in arguments)


def beside_pytest(
    python: Path,
    arguments: list[str],
    *,
    oldest: Callable[[], Path] = python_with_oldest_aiohttp,
    tools: Callable[[], Path | None] = page_tools,
) -> list[Check]:
    """The other checks of a whole run, or of the first of its parts."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--part", default="1/1")
    run, for_pytest = parser.parse_known_args(arguments)
    if for_pytest or not run.part.startswith("1/"):
        return []
    files = [f"tests/unit/{name}.py" for name in ON_OLDEST_AIOHTTP]
    pytest = ["pytest", "-p", "no:cacheprovider", *files]
    return [
        Check.of_module("ruff check", python, ["ruff", "check", "."]),
        Check.of_module("ruff format", python, ["ruff", "format", "--check", "."]),
        Check.of_module("mypy", python, ["mypy", "-p", "unified_api"]),
        *page_checks(tools()),
        *([Check.of_module("pip-audit", python, [AUDIT])] if run.full else []),
        Check.of_module("pytest on the oldest aiohttp", oldest(), pytest),
    ]


def page_checks(tools: Path | None) -> list[Check]:
    """The types and the style of the web pages' scripts; nothing without `tools`."""
    if tools is None:
        return []
    tsc, eslint = tools / "typescript" / "bin" / "tsc", tools / "eslint" / "bin" / "eslint.js"
    style = ["--config", "tests/web/eslint.config.js", "--max-warnings", "0", "web"]
    return [
        Check("tsc", ["node", str(tsc), "--project", "tests/web"]),
        Check("eslint", ["node", str(eslint), *style]),
    ]


def shown(check: Check) -> Result:
    """The output appears as it comes."""
    return result_of(check, output=None)


def captured(check: Check) -> Result:
    """The output is kept, so that it does not mix with that of pytest."""
    return result_of(check, output=subprocess.PIPE)


def result_of(check: Check, *, output: int | None) -> Result:
    began = time.monotonic()
    # Hundreds of Pythons start in a run: what one has compiled, the others need not compile again.
    ours = {"MYPYPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        env={**os.environ, **ours},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    again = f"cd {ROOT}; MYPYPATH={PACKAGES} {shlex.join(check.command)}"
    return Result(check.name, seconds, done.returncode, done.stdout or "", again)


def report(results: Sequence[Result], seconds: float) -> int:
    """Say what failed and how long everything took. Returns the exit status."""
    failed = [result for result in results if result.status != 0]
    for result in failed:
        if result.output:
            say(f"== {result.name}\n{result.output}\nRun again: {result.again}")
    for result in results:
        say(f"{result.seconds:6.0f} s  {result.name}{'' if result.status == 0 else ': FAILED'}")
    say(f"{seconds:6.0f} s  together")
    if seconds > WARN_SECONDS:
        say(f"WARNING: {TOO_LONG}")
    say_untested()
    for line in [line for result in results for line in result.output.splitlines()]:
        if line.startswith(UNTESTED):
            say(line)
    names = ", ".join(result.name for result in failed)
    say(f"Failed: {names}" if failed else "All checks are clean")
    return 1 if failed else 0


def run_kills(python: Path, rounds: list[str]) -> int:
    """The longer crash test; its own exit status."""
    script = ROOT / "tests" / "comfyui" / "kills.py"
    paths = (ROOT, ROOT / "tests" / "aws")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [str(python), str(script), *rounds]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
