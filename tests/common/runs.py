"""The runs there are: the short one, the full one, and one part of several of either.

A test marked `full` is for the full run; one of its kind stays in the short run. A test that spends
a budget, as fuzzing does, asks the fixture `is_full` for it.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

#: Of the sum over all processes.
ROW = "{seconds:8.0f} s {tests:6}  {name}"


class Part(NamedTuple):
    """One of several parts of about the same size: whole files, so that fixtures are shared."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        found = re.fullmatch(r"([1-9]\d?)/([1-9]\d?)", text)
        if found is None or int(found[1]) > int(found[2]):
            raise pytest.UsageError(f"--part {text}: a part is given as 2/4")
        return cls(int(found[1]), int(found[2]))

    def files(self, files: Iterable[Path]) -> set[Path]:
        """Every so many'th, by name."""
        return set(sorted(files)[self.number - 1 :: self.of])


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("runs")
    group.addoption("--full", action="store_true", help="also the tests marked `full`")
    group.addoption("--part", default="1/1", metavar="K/N", help="one part of N")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    files = Part.parse(config.option.part).files({item.path for item in items})

    def is_chosen(item: pytest.Item) -> bool:
        is_short = item.get_closest_marker("full") is None
        return item.path in files and (is_short or config.option.full)

    chosen = [item for item in items if is_chosen(item)]
    config.hook.pytest_deselected(items=[item for item in items if not is_chosen(item)])
    items[:] = chosen


@pytest.fixture(scope="session")
def is_full(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.option.full)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What took how long, and how to run again what failed."""
    reports = [
        report
        for category in terminalreporter.stats.values()
        for report in category
        if isinstance(report, pytest.TestReport)
    ]
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in reports:
        folder = "/".join(Path(report.nodeid.split("::")[0]).parts[:2])
        seconds[folder] += report.duration
        tests[folder] += report.when == "call"
    if len(seconds) > 1:
        terminalreporter.section("seconds by folder, of all processes together")
        for name, spent in seconds.most_common():
            terminalreporter.line(ROW.format(seconds=spent, tests=tests[name], name=name))
    failed = sorted({report.nodeid for report in reports if report.failed})
    if failed:
        terminalreporter.section("run again what failed")
        terminalreporter.line(again(failed, is_full=terminalreporter.config.option.full))


def again(failed: list[str], *, is_full: bool) -> str:
    """One command for the shell."""
    words = ["./install.sh", "test", *(["--full"] if is_full else []), *map(shlex.quote, failed)]
    return " ".join(words)
