"""Takes this clone to another version and back. What is the user's lies elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ..comfyui.existing import add_requirements, existing_comfyui, owner_of
from ..comfyui.places import REQUIREMENTS, ROOT, VENV, python_in
from ..comfyui.provide import has_pip, install_once
from ..comfyui.report import Failure, is_root, say
from .installed import restart, served

#: The commit before the last upgrade. As a ref of git it keeps what it names.
FORMER = "refs/unified-api/former"
UNIT_FILES = "deploy/systemd/*.service"
NEWEST_FIRST = "--sort=-version:refname"
#: A shallow clone knows neither what is older than itself nor other branches. (The number is
#: Git's word for no end.)
WHOLE = ("--tags", "--depth=2147483647", "origin", "+refs/heads/*:refs/remotes/origin/*")


def upgrade(options: list[str]) -> None:
    """To the tag, branch or commit that is named; else to the newest release."""
    if len(options) > 1:
        raise Failure("./install.sh upgrade takes one tag, branch or commit.")
    require_clone()
    git("fetch", "--quiet", *WHOLE, cure="Check the network and the name of the remote.")
    former = head()
    target = named(options[0]) if options else newest()
    if target == former:
        # An upgrade that was killed still lacks them.
        install_requirements()
        say(f"This is {described()} already.")
        return
    move_on(target, former)
    say(f"This is now {described()}. Back to what was before:  ./install.sh rollback")
    finish(former)


def rollback(options: list[str]) -> None:
    """To where the last upgrade came from."""
    if options:
        raise Failure(
            "./install.sh rollback takes nothing: ./install.sh upgrade REF goes anywhere."
        )
    require_clone()
    former, left = commit(FORMER), head()
    if former is None or former == left:
        raise Failure("There is nothing to go back to: no upgrade was made since the last one.")
    move(former, back=left)
    set_former(None)
    say(f"This is {described()} again.")
    finish(left)


def require_clone() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        raise Failure("This folder is no git clone: put the other version in its place by hand.")
    if is_root() and ROOT.stat().st_uid != 0:
        raise Failure(f"This clone belongs to {owner_of(ROOT)}: run this as that user.")
    changed = git("status", "--porcelain", "--untracked-files=no")
    if changed:
        raise Failure(
            "There are local changes: commit or stash them, then run this again.", changed
        )


def named(reference: str) -> str:
    """A branch is the remote's: the local one stands where it stood."""
    for spelling in (f"refs/remotes/origin/{reference}", f"refs/tags/{reference}", reference):
        if found := commit(spelling):
            return found
    raise Failure(f"There is no tag, branch or commit {reference}, here or at the remote.")


def newest() -> str:
    """The newest release; what is newer than all of them stays."""
    tags = git("tag", "--list", "v[0-9]*", NEWEST_FIRST).split()
    releases = [tag for tag in tags if "-" not in tag]
    if not releases:
        raise Failure("There is no release yet. Name a branch:  ./install.sh upgrade main")
    release = named(releases[0])
    is_older = run("merge-base", "--is-ancestor", release, "HEAD").returncode == 0
    return head() if is_older else release


def move_on(target: str, former: str) -> None:
    """The way back is there from the start, for whoever is killed on the way."""
    earlier = commit(FORMER)
    set_former(former)
    try:
        move(target, back=former)
    except (Failure, KeyboardInterrupt):
        if head() == former:
            set_former(earlier)
        raise


def move(target: str, *, back: str) -> None:
    """Clone and packages together; without the packages the clone stays where it was."""
    try:
        git("checkout", "--quiet", "--detach", target)
        install_requirements()
    except (Failure, KeyboardInterrupt):
        git("checkout", "--quiet", "--detach", back)
        say("This clone is where it was.")
        raise


def set_former(to: str | None) -> None:
    git("update-ref", *((FORMER, to) if to else ("-d", FORMER)))


def finish(left: str) -> None:
    """Written units stay: only whoever had them written knows the options."""
    if git("diff", "--name-only", left, "--", UNIT_FILES):
        say("The units changed. Where you use them run ./install.sh systemd, as you did before.")
    restart()


def install_requirements() -> None:
    """For ComfyUI, and for the orchestrator where it has a Python of its own."""
    if comfyui := existing_comfyui() or served(Path("/")):
        add_requirements(comfyui)
    if has_pip(python := python_in(VENV)):
        install_once(python, "plugin", REQUIREMENTS.read_text(encoding="utf-8"))


def commit(reference: str) -> str | None:
    found = run("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    return found.stdout.strip() or None


def head() -> str:
    return git("rev-parse", "HEAD")


def described() -> str:
    return git("describe", "--tags", "--always")


def git(*arguments: str, cure: str = "Read above what git says.") -> str:
    done = run(*arguments)
    if done.returncode != 0:
        raise Failure(f"git {arguments[0]} failed. {cure}", done.stderr.strip())
    return done.stdout.strip()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        check=False,
    )
