"""Takes this clone to another version and back. What is the user's lies elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess

from ..comfyui.existing import add_requirements, named_tree, python_of, surrounding_tree
from ..comfyui.places import REQUIREMENTS, ROOT, VENV, ComfyUI, python_in
from ..comfyui.provide import has_pip, install_once
from ..comfyui.report import Failure, say

#: The commit before the last upgrade. As a ref of git it keeps what it names.
FORMER = "refs/unified-api/former"
NEWEST_FIRST = "--sort=-version:refname"


def upgrade(options: list[str]) -> None:
    """To the tag, branch or commit that is named; else to the newest release."""
    if len(options) > 1:
        raise Failure("./install.sh upgrade takes one tag, branch or commit.")
    require_clean_clone()
    git("fetch", "--quiet", "--tags", cure="Check the network and the name of the remote.")
    former = head()
    target = named(options[0]) if options else newest()
    if target == former:
        say(f"This is {described()} already.")
        return
    move(target, back=former)
    git("update-ref", FORMER, former)
    say(f"This is now {described()}. Start ComfyUI again:  systemctl restart comfyui")
    say("Back to what was before:  ./install.sh rollback")


def rollback(options: list[str]) -> None:
    """To where the last upgrade came from."""
    if options:
        raise Failure(
            "./install.sh rollback takes nothing: ./install.sh upgrade REF goes anywhere."
        )
    require_clean_clone()
    former = commit(FORMER)
    if former is None:
        raise Failure("There is nothing to go back to: no upgrade was made since the last one.")
    move(former, back=head())
    git("update-ref", "-d", FORMER)
    say(f"This is {described()} again. Start ComfyUI again:  systemctl restart comfyui")


def require_clean_clone() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        raise Failure("This folder is no git clone: put the other version in its place by hand.")
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


def move(target: str, *, back: str) -> None:
    """Clone and packages together; without the packages the clone stays where it was."""
    git("checkout", "--quiet", "--detach", target)
    try:
        install_requirements()
    except Failure:
        git("checkout", "--quiet", "--detach", back)
        say("This clone is where it was.")
        raise


def install_requirements() -> None:
    """For ComfyUI, and for the orchestrator where it has a Python of its own."""
    tree = named_tree() or surrounding_tree()
    if tree:
        add_requirements(ComfyUI(tree, python_of(tree)))
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
