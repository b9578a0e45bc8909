"""What GitHub is told to do: its steps are run here, but for those that publish."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from unified_api import __version__
from unified_api.deploy.comfyui.__main__ import HELP

ROOT = Path(__file__).resolve().parents[3]
TESTS, PUBLISH = (
    yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())["jobs"]
    for name in ("tests.yml", "publish.yml")
)
JOBS = [*TESTS.values(), *PUBLISH.values()]
STEPS: list[dict[str, Any]] = [step for job in JOBS for step in job.get("steps", [])]
SCRIPTS = [step["run"] for step in STEPS if "run" in step]


def is_accepted(name: str, *, folder: Path, tag: str) -> bool:
    """By the step of that name, run as GitHub runs it."""
    (script,) = (step["run"] for step in STEPS if step.get("name") == name)
    environment = {**os.environ, "TAG": tag, "RUNNER_TEMP": str(folder)}
    call = ["bash", "-e", "-c", script]
    return subprocess.run(call, cwd=folder, env=environment, check=False).returncode == 0


def test_actions_are_used_by_commit_and_say_their_version() -> None:
    """A tag can be moved to other code."""
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    used = [line.split("uses:")[1].strip() for line in lines if "uses:" in line]
    others = [action for action in used if not action.startswith("./")]

    assert others
    assert all(
        re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in others
    )
    assert len({each.split("@")[0] for each in others}) == len(set(others))


def test_tools_are_installed_in_one_version_each() -> None:
    installed = {tool for script in SCRIPTS for tool in re.findall(r"pip install (.+)", script)}

    assert all(re.fullmatch(r"[\w-]+==[\d.]+", tool) for tool in installed)
    assert sorted(tool.split("==")[0] for tool in installed) == ["build", "comfy-cli"]


def test_all_tests_run_on_one_python_and_some_on_others() -> None:
    matrix = TESTS["tests"]["strategy"]["matrix"]["include"]

    assert "./install.sh test ${{ matrix.tests }}" in SCRIPTS
    assert "./install.sh test " in HELP
    parts = [each["tests"] for each in matrix if "--part" in each["tests"]]
    assert parts == [f"--full --part {number}/4" for number in (1, 2, 3, 4)]
    others = [each["tests"] for each in matrix if each["tests"] not in parts]
    assert others
    assert all((ROOT / tests).exists() for tests in others)


def test_nothing_is_published_untested() -> None:
    assert PUBLISH["tests"]["uses"] == "./.github/workflows/tests.yml"
    assert PUBLISH["release"]["needs"] == "tests"
    assert PUBLISH["registry"]["needs"] == "release"


@pytest.mark.parametrize(("tag", "is_ours"), [(f"v{__version__}", True), ("v9.9.9", False)])
def test_a_tag_that_is_not_the_version_is_refused(tag: str, is_ours: bool) -> None:
    assert is_accepted("The tag is the version", folder=ROOT, tag=tag) == is_ours


@pytest.mark.parametrize(
    ("heading", "notes"),
    [
        ("## 1.2.0 - 2026-12-01", "### Added\n- This.\n\n"),
        ("## 1.2.0, not released", ""),
        ("## 1.2.1 - 2026-12-01", ""),
    ],
)
def test_a_release_tells_its_section_of_the_changelog_and_needs_one(
    tmp_path: Path, heading: str, notes: str
) -> None:
    sections = (f"{heading}\n### Added\n- This.\n", "## 1.1.0 - 2026-11-01\n- That.\n")
    (tmp_path / "CHANGELOG.md").write_text("\n".join(["# Changelog\n", *sections]))

    accepted = is_accepted(
        "The changelog has a section of it, with a date", folder=tmp_path, tag="v1.2.0"
    )

    assert accepted == bool(notes)
    assert (tmp_path / "notes.md").read_text() == notes
