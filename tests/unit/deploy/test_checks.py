"""The runs of `./install.sh test`: what is in each, its parts, and what it says at its end."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from unified_api.deploy.comfyui import checks
from unified_api.deploy.comfyui.checks import (
    Check,
    Result,
    beside_pytest,
    captured,
    pytest_with,
    report,
)

from tests.common.runs import Part, again

ROOT = Path(__file__).resolve().parents[3]
FILES = [Path(f"tests/{folder}/test_{name}.py") for folder in "ab" for name in "stuvw"]
PYTHON = Path(sys.executable)

TESTS = """
import pytest

def test_short(): pass

@pytest.mark.full
def test_long(is_full): assert is_full
"""
FAILING = "def test_wrong(): assert False"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Four files of two tests, one of them for the full run."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = full: in the full run only\n")
    for name in "abcd":
        (tmp_path / f"test_{name}.py").write_text(TESTS)
    return tmp_path


def run(suite: Path, *arguments: str) -> str:
    call = [sys.executable, "-m", "pytest", "-p", "tests.common.runs", "-v", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        call, cwd=suite, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def passed(said: str) -> list[str]:
    return [line.split()[0] for line in said.splitlines() if " PASSED " in line]


# What is in a run


def test_the_short_run_leaves_out_what_is_marked_and_the_full_run_nothing(suite: Path) -> None:
    short, full = run(suite), run(suite, "--full")

    assert passed(short) == [f"test_{name}.py::test_short" for name in "abcd"]
    assert len(passed(full)) == 8
    assert "FAILED" not in short + full


def test_the_parts_of_a_run_are_the_run(suite: Path) -> None:
    parts = [passed(run(suite, "--full", "--part", f"{number}/3")) for number in (1, 2, 3)]

    assert sorted(itertools.chain(*parts)) == sorted(passed(run(suite, "--full")))
    assert all(parts)


@pytest.mark.parametrize("of", [1, 2, 3, 4, 10])
def test_parts_have_about_as_many_files_and_no_file_twice(of: int) -> None:
    parts = [Part(number, of).files(FILES) for number in range(1, of + 1)]

    assert sorted(file for part in parts for file in part) == sorted(FILES)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["0/4", "5/4", "2", "2/0", "two/4", "1/4/4"])
def test_what_is_no_part_is_refused(suite: Path, part: str) -> None:
    said = run(suite, "--part", part)

    assert f"--part {part}: a part is given as 2/4" in said
    assert passed(said) == []


# What a run says


def test_what_failed_is_named_with_the_command_that_runs_it_again(suite: Path) -> None:
    (suite / "test_e.py").write_text(FAILING)

    said = run(suite, "--full")
    (line,) = [line for line in said.splitlines() if line.startswith("./install.sh")]

    assert shlex.split(line) == ["./install.sh", "test", "--full", "test_e.py::test_wrong"]
    assert passed(run(suite, *shlex.split(line)[2:])) == []
    assert "test_e.py::test_wrong FAILED" in run(suite, *shlex.split(line)[2:])


def test_a_test_whose_name_means_something_to_the_shell_is_quoted() -> None:
    command = again(["tests/a.py::test_b[x y-$z]"], is_full=False)

    assert shlex.split(command) == ["./install.sh", "test", "tests/a.py::test_b[x y-$z]"]


def test_the_report_has_each_part_and_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    status = report([Result("mypy", 7.4), Result("pytest", 300.0)], 301.0)

    said = capsys.readouterr().out.splitlines()
    assert status == 0
    assert said[:3] == ["     7 s  mypy", "   300 s  pytest", "   301 s  together"]
    assert said[-1] == "All checks are clean"
    assert not any("WARNING" in line for line in said)


def test_the_report_names_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([Result("mypy", 7.0, status=1), Result("pytest", 9.0, status=2)], 9.0) == 1

    assert "Failed: mypy, pytest" in capsys.readouterr().out


def test_what_a_check_said_is_shown_if_it_failed_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clean = Result("ruff check", 1.0, output="fine", again="ruff")
    broken = Result("mypy", 1.0, status=1, output="error: no", again="mypy -p unified_api")

    report([clean, broken], 1.0)

    said = capsys.readouterr().out
    assert "== mypy\nerror: no\nRun again: mypy -p unified_api\n" in said
    assert "fine" not in said


@pytest.mark.parametrize(("code", "status"), [("print('well')", 0), ("assert not 'well'", 1)])
def test_the_command_that_repeats_a_check_does(code: str, status: int) -> None:
    result = captured(Check.of_module("a check", PYTHON, ["timeit", "-n1", "-r1", code]))

    again = subprocess.run(result.again, shell=True, capture_output=True, text=True, check=False)
    assert result.status == again.returncode == status
    assert "well" in result.output
    assert "well" in again.stdout + again.stderr


def test_a_run_that_takes_too_long_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    report([], checks.WARN_SECONDS + 1)

    assert "WARNING: this run took more than 12 minutes" in capsys.readouterr().out


# What is run beside pytest, and how pytest is run


@pytest.mark.parametrize(
    ("arguments", "is_whole"),
    [
        ([], True),
        (["--full"], True),
        (["--full", "--part", "1/4"], True),
        (["--full", "--part=1/4"], True),
        (["--part", "1/4"], True),
        (["--full", "--part", "2/4"], False),
        (["--full", "--part=2/4"], False),
        (["--full", "--part", "11/12"], False),
        (["tests/unit"], False),
        (["-k", "restart"], False),
    ],
)
def test_style_and_types_are_checked_in_a_whole_run_and_in_the_first_part(
    arguments: list[str], is_whole: bool
) -> None:
    beside = beside_pytest(PYTHON, arguments, oldest=lambda: PYTHON, tools=lambda: ROOT)

    names = {check.name for check in beside}

    assert ({"mypy", "ruff check", "tsc", "eslint"} <= names, bool(names)) == (is_whole, is_whole)


def test_without_node_all_else_is_checked() -> None:
    beside = beside_pytest(PYTHON, [], oldest=lambda: PYTHON, tools=lambda: None)

    names = {check.name for check in beside}

    assert "mypy" in names
    assert not {"tsc", "eslint"} & names


@pytest.mark.parametrize(
    ("arguments", "is_spread"),
    [
        ([], True),
        (["--full", "--part", "2/4"], True),
        (["tests/unit"], True),
        (["tests/unit", "-k", "word"], False),
        (["tests/unit/test_a.py"], False),
        (["tests/unit/test_a.py::test_b"], False),
    ],
)
def test_few_tests_run_in_one_process(arguments: list[str], is_spread: bool) -> None:
    call = pytest_with(PYTHON, arguments).command

    assert ("--numprocesses" in call) == is_spread
    assert call[len(call) - len(arguments) :] == arguments


def test_ci_runs_the_command_of_the_readme_and_the_part_of_the_commit(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "install.sh").write_text('#!/bin/sh\necho "$CI $*" >> called.txt\n')
    (tmp_path / "install.sh").chmod(0o755)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for call in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "All of it"]):
        subprocess.run(["git", *call], cwd=tmp_path, check=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True)

    subprocess.run(["bash", ".ci/run"], cwd=tmp_path, check=True)

    part = int(head, 16) % 4 + 1
    assert (tmp_path / "called.txt").read_text().splitlines() == [
        "true test",
        f"true test --full --part {part}/4",
    ]
    assert "\n./install.sh test\n" in (ROOT / "README.md").read_text()
