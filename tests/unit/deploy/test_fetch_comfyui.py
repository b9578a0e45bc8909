"""ComfyUI comes as the very commit that was tested, or from the archive whose hash is known."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from unified_api.deploy.comfyui.fetch import COMMITS, cloned, head_of
from unified_api.deploy.comfyui.places import SOURCES
from unified_api.deploy.comfyui.provide import NEWEST, OLDEST

ROOT = Path(__file__).resolve().parents[3]
VERSION = "0.0.1"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with a release."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "main.py").touch()
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false"]
    for call in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "All"]):
        subprocess.run(["git", *call], cwd=folder, check=True)
    subprocess.run(["git", "tag", f"v{VERSION}"], cwd=folder, check=True)
    return folder


def test_the_known_commit_is_taken(repository: Path, tmp_path: Path) -> None:
    commits = {VERSION: head_of(repository)}

    done = cloned(VERSION, tmp_path / "tree", repository=str(repository), commits=commits)

    assert done
    assert (tmp_path / "tree" / "main.py").exists()


def test_a_tag_that_was_moved_is_not_taken(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commits = {VERSION: "0" * 40}

    done = cloned(VERSION, tmp_path / "tree", repository=str(repository), commits=commits)

    assert not done
    assert not (tmp_path / "tree").exists()
    assert "is not the commit that was tested" in capsys.readouterr().out


def test_a_repository_out_of_reach_is_told_apart_from_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "gone")

    done = cloned(VERSION, tmp_path / "tree", repository=gone, commits={VERSION: "0" * 40})

    assert not done
    assert "not reachable" in capsys.readouterr().out


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_each_version_has_a_commit_and_an_archive_with_a_hash(version: str) -> None:
    assert re.fullmatch("[0-9a-f]{40}", COMMITS[version])
    archive = (SOURCES / f"{version}.txt").read_text()
    assert re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}\n", archive)


def test_the_guide_to_a_fleet_checks_the_same_commit() -> None:
    guide = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")

    assert f"--branch v{NEWEST} " in guide
    assert f'test "$(git rev-parse HEAD)" = {COMMITS[NEWEST]}' in guide
