"""The ways to other versions and back: nothing of the user's is lost."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from unified_api.deploy.systemd.installed import our_units

from .machine import NEVER, PIP, SOMEBODY, Machine, needs_root

#: What lies below `unified_api` in ComfyUI's user folder.
USERS = ("jobs.sqlite3", "keys.json", "workflows/mine/workflow.json", "results/1/0.png")


@pytest.fixture
def released(machine: Machine) -> Machine:
    """The clone is of a repository with two releases, and stands at the first."""
    if shutil.which("git") is None:
        pytest.skip("NOT TESTED: upgrade and rollback; install git")
    upstream = machine.clone.with_name("upstream")
    (machine.clone / ".gitignore").write_text(".comfyui/\n__pycache__/\n")
    machine.git("init", "--quiet", "--initial-branch=main")
    machine.git("add", "--all")
    machine.git("commit", "--quiet", "--message=one")
    machine.git("tag", "v1.9.0")
    machine.git("clone", "--quiet", str(machine.clone), str(upstream), at=machine.root.parent)
    machine.git("remote", "add", "origin", str(upstream))
    for version in ("v1.10.0", "v2.0.0-rc1"):
        (upstream / "news.txt").write_text(version)
        machine.git("add", "--all", at=upstream)
        machine.git("commit", "--quiet", f"--message={version}", at=upstream)
        machine.git("tag", version, at=upstream)
    return machine


def version(machine: Machine) -> str:
    return machine.git("describe", "--tags")


def publish(machine: Machine, file: str) -> None:
    """Somebody changes that file of the project."""
    upstream = machine.clone.with_name("upstream")
    with (upstream / file).open("a") as opened:
        opened.write("# newer")
    machine.git("add", "--all", at=upstream)
    machine.git("commit", "--quiet", f"--message={file}", at=upstream)


def test_an_upgrade_takes_the_newest_release_and_its_requirements(released: Machine) -> None:
    done = released.run("upgrade")

    assert done.returncode == 0, done.stdout
    assert version(released) == "v1.10.0"
    assert "pip install" in released.called()
    assert "./install.sh rollback" in done.stdout


def test_an_upgrade_goes_to_any_tag_or_branch(released: Machine) -> None:
    released.run("upgrade", "v1.10.0")
    assert version(released) == "v1.10.0"

    released.run("upgrade", "main")
    assert version(released) == "v2.0.0-rc1"


def test_a_shallow_clone_of_one_branch_goes_to_another(released: Machine) -> None:
    upstream = clone_anew(released)
    released.git("branch", "other", "v1.10.0", at=upstream)

    done = released.run("upgrade", "other")

    assert done.returncode == 0, done.stdout
    assert version(released) == "v1.10.0"


def clone_anew(machine: Machine) -> Path:
    """As a worker's machine does; where from."""
    upstream = machine.clone.with_name("upstream")
    shutil.rmtree(machine.clone)
    shallow = ["clone", "--quiet", "--depth=1", "--branch=main"]
    machine.git(*shallow, upstream.as_uri(), str(machine.clone), at=upstream)
    return upstream


def test_a_shallow_clone_of_what_is_newer_than_all_releases_stays(released: Machine) -> None:
    clone_anew(released)

    said = released.run("upgrade").stdout

    assert "v2.0.0-rc1 already" in said


def test_a_rollback_leads_back_once(released: Machine) -> None:
    released.run("upgrade")

    back, again = released.run("rollback"), released.run("rollback")

    assert back.returncode == 0, back.stdout
    assert version(released) == "v1.9.0"
    assert again.returncode == 1
    assert "nothing to go back to" in again.stdout


def test_what_is_the_users_outlives_upgrade_and_rollback(released: Machine) -> None:
    folders = (released.comfyui / "user", released.clone / ".comfyui" / "base" / "user")
    files = [folder / "unified_api" / name for folder in folders for name in USERS]
    files.append(released.clone / "notes.txt")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file))

    for verb in ("upgrade", "rollback"):
        assert released.run(verb).returncode == 0
        assert all(file.read_text() == str(file) for file in files)


def test_an_upgrade_that_was_killed_goes_on_or_back(released: Machine) -> None:
    released.python(fails=PIP, end="kill -9 $PPID")
    killed = released.run("upgrade")
    released.python(fails=NEVER)
    released.record.unlink()

    on = released.run("upgrade")
    called = released.called()
    back = released.run("rollback")

    assert killed.returncode == -signal.SIGKILL
    assert "v1.10.0 already" in on.stdout
    assert "pip install" in called
    assert back.returncode == 0, back.stdout
    assert version(released) == "v1.9.0"


def test_an_upgrade_to_what_is_there_keeps_the_way_back(released: Machine) -> None:
    released.run("upgrade")

    said = released.run("upgrade").stdout
    released.run("rollback")

    assert "v1.10.0 already" in said
    assert version(released) == "v1.9.0"


def test_an_upgrade_without_its_packages_is_none(released: Machine) -> None:
    released.python(fails=PIP)

    done = released.run("upgrade")

    assert done.returncode == 1
    assert version(released) == "v1.9.0"
    assert "nothing to go back to" in released.run("rollback").stdout


@pytest.mark.parametrize("reason", ["Installing the requirements", "git checkout failed"])
def test_an_upgrade_that_fails_leaves_the_way_back_of_the_last(
    released: Machine, reason: str
) -> None:
    released.run("upgrade")
    publish(released, "more.txt")
    if "git" in reason:
        (released.clone / "more.txt").write_text("of the user's, and in git's way")
    else:
        released.python(fails=PIP)

    failed = released.run("upgrade", "main")
    released.python(fails=NEVER)
    back = released.run("rollback")

    assert failed.returncode == 1
    assert reason in failed.stdout
    assert back.returncode == 0, back.stdout
    assert version(released) == "v1.9.0"


@pytest.mark.parametrize(
    ("file", "is_told"), [("deploy/systemd/comfyui.service", True), ("README.md", False)]
)
def test_units_that_changed_are_told_of(released: Machine, file: str, is_told: bool) -> None:
    publish(released, file)

    there, back = released.run("upgrade", "main"), released.run("rollback")

    assert ["The units changed" in done.stdout for done in (there, back)] == [is_told] * 2


def test_services_of_this_machine_are_told_by_nobody_but_the_stub(released: Machine) -> None:
    here = [unit.stem for unit in our_units(Path("/"))]
    expected = ["try-restart", *here] if here and os.geteuid() == 0 else []

    released.run("upgrade")

    told = released.told.read_text() if released.told.exists() else ""
    assert told.split() == expected


@pytest.mark.parametrize("verb", ["upgrade", "rollback"])
def test_local_changes_are_not_lost(released: Machine, verb: str) -> None:
    changed = released.clone / "README.md"
    changed.write_text("mine")

    done = released.run(verb)

    assert done.returncode == 1
    assert "local changes" in done.stdout
    assert changed.read_text() == "mine"


@needs_root
def test_root_leaves_a_users_clone_alone(released: Machine) -> None:
    os.chown(released.clone, SOMEBODY, SOMEBODY)

    done = released.run("upgrade")

    assert done.returncode == 1
    assert "run this as that user" in done.stdout


@pytest.mark.parametrize("verb", ["upgrade", "rollback"])
def test_without_git_the_way_is_by_hand(machine: Machine, verb: str) -> None:
    done = machine.run(verb)

    assert done.returncode == 1
    assert "no git clone" in done.stdout


def test_an_upgrade_to_nowhere_changes_nothing(released: Machine) -> None:
    done = released.run("upgrade", "v9")

    assert done.returncode == 1
    assert "no tag, branch or commit v9" in done.stdout
    assert version(released) == "v1.9.0"
