"""Sees to the programs that tests need: Debian's own, where we may install them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .node import OLDEST_NODE, TESTS, has_node
from .report import Failure, run_step, say

#: Also in tests/comfyui/browser.py, which starts it.
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Also in tests/comfyui/test_host.py, which loads it.
FAKETIME = "*/faketime/libfaketime.so.1"
CURE = "Install them yourself, or go on without the tests that need them."


class Program(NamedTuple):
    """By the name of its package in Debian."""

    package: str
    is_there: Callable[[], bool]
    tests: str

    @property
    def untested(self) -> str:
        return f"NOT TESTED: {self.tests} (Debian: apt-get install {self.package})."


PROGRAMS = (
    Program(
        "chromium",
        lambda: any(shutil.which(name) for name in CHROMIUMS),
        "the web pages. They need a Chromium",
    ),
    Program(
        "faketime",
        lambda: any(Path("/usr/lib").glob(FAKETIME)),
        "a clock that jumps. It needs libfaketime",
    ),
    # Node comes with it.
    Program(
        "npm",
        has_node,
        f"{TESTS}. They need npm and Node {'.'.join(map(str, OLDEST_NODE))} or newer",
    ),
)


def provide_programs(*, may_install: bool) -> None:
    """What cannot be had is said; it stops nothing."""
    packages = [program.package for program in missing_programs()]
    if packages and may_install and shutil.which("apt-get"):
        try:
            install(packages)
        except Failure as failure:
            say(f"{failure.details}\n{failure}")
    say_untested()


def missing_programs() -> list[Program]:
    return [program for program in PROGRAMS if not program.is_there()]


def say_untested() -> None:
    for program in missing_programs():
        say(program.untested)


def install(packages: list[str]) -> None:
    run_step("Asking Debian for its packages", ["apt-get", "update"], log="debian", cure=CURE)
    title = f"Installing {' and '.join(packages)}, for the tests"
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    run_step(title, command, log="debian", cure=CURE)
