"""What is written for each service: its unit, filled in for this machine, and its settings."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..comfyui.existing import add_requirements, existing_comfyui
from ..comfyui.places import (
    LAUNCHER,
    PACKAGE,
    PACKAGES,
    REQUIREMENTS,
    ROOT,
    SERVE_BASE,
    ComfyUI,
    link_to_clone,
)
from ..comfyui.provide import install_once, own_comfyui, own_python, package, succeeds
from ..comfyui.report import Failure, say
from ..comfyui.server import device, prepare
from .environment import settings_file

TEMPLATES = Path(__file__).resolve().parent
WORKER, ORCHESTRATOR = "comfyui.service", "unified-api-orchestrator.service"
#: Below the root of the machine.
UNITS, SETTINGS = Path("etc/systemd/system"), Path("etc/unified-api")
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
#: What would mean something to systemd, or to Python in a list of folders.
ODD = re.compile(r"[\"'\\$%:\x00-\x1f]")
KNOWS = "import importlib.metadata as m, sys; [m.version(name) for name in sys.argv[1:]]"
OPTIONS = """\

# ComfyUI's own options (--port 9000 --lowvram); they go before --listen 127.0.0.1.
COMFYUI_OPTIONS={options}
"""


class Unit(NamedTuple):
    name: str
    text: str
    settings_name: str
    settings: str


def worker(user: str | None) -> Unit:
    """ComfyUI as its user has it, our clone among its custom nodes; else one of our own."""
    comfyui = existing_comfyui()
    folders: list[Path] = []
    options: list[Path | str] = []
    if comfyui is None:
        comfyui, base = own_comfyui(), prepare(SERVE_BASE)
        folders, options = [base], ["--base-directory", base]
    else:
        require_packages(comfyui)
        link_into(comfyui.tree / "custom_nodes")
    first = OPTIONS.format(options=" ".join(device(comfyui.python, [])))
    return Unit(
        WORKER,
        worker_unit(comfyui, options, folders, user=user_of(comfyui.tree, user)),
        "worker.env",
        settings_file("ComfyUI", "comfyui", first=first),
    )


def worker_unit(
    comfyui: ComfyUI, options: Sequence[Path | str], folders: Sequence[Path], *, user: str
) -> str:
    values = {
        "USER": user,
        "TREE": safe(comfyui.tree),
        "CALL": words([comfyui.python, LAUNCHER, comfyui.tree, *options]),
        "WRITABLE": words(writable([comfyui.tree, *folders])),
        "SETTINGS": f"/{SETTINGS}/worker.env",
    }
    return filled(WORKER, values)


def orchestrator() -> Unit:
    """With the packages in a Python of our own, which need not be ComfyUI's."""
    python = own_python()
    install_once(python, "plugin", REQUIREMENTS.read_text(encoding="utf-8"))
    link_to_clone(PACKAGE)
    return Unit(
        ORCHESTRATOR,
        orchestrator_unit(python, PACKAGES),
        "orchestrator.env",
        settings_file("the orchestrator", "unified-api-orchestrator"),
    )


def orchestrator_unit(python: Path, packages: Path) -> str:
    values = {
        "CALL": words([python, "-m", "unified_api.sqs_bridge.orchestrator"]),
        "PACKAGES": safe(packages),
        "PROTECT_HOME": "read-only" if in_a_home(python) else "yes",
        "SETTINGS": f"/{SETTINGS}/orchestrator.env",
    }
    return filled(ORCHESTRATOR, values)


def filled(template: str, values: dict[str, str]) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z_]+)@", lambda name: values[name[1]], text)


def words(call: Sequence[Path | str]) -> str:
    return " ".join(f'"{safe(word)}"' for word in call)


def safe(word: Path | str) -> str:
    if ODD.search(str(word)):
        raise Failure(f"systemd cannot be told of {word}: take \" ' \\ $ % : out of its name.")
    return str(word)


def writable(folders: Sequence[Path]) -> list[Path]:
    """They, and where links in them lead: results often go to another disk."""
    inside = [entry for folder in folders for entry in folder.iterdir() if entry.is_dir()]
    found = {folder.resolve() for folder in (*folders, *inside)}
    return sorted(one for one in found if found.isdisjoint(one.parents))


def user_of(tree: Path, named: str | None) -> str:
    """Who is named, else who owns ComfyUI."""
    owner = tree.owner()
    if named is None or named == owner:
        return owner
    if not succeeds(["id", "--", named]):
        cure = f"useradd --system --no-create-home {named}"
        raise Failure(f"There is no user {named}. Make one, then run this again: {cure}")
    say(f'ComfyUI\'s files belong to {owner}; hand them over:  chown -R {named} "{tree}"')
    return named


def require_packages(comfyui: ComfyUI) -> None:
    """Root leaves no files of its own among a user's packages."""
    names = [package(line) for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    if succeeds([str(comfyui.python), "-c", KNOWS, *names]):
        return
    owner = comfyui.tree.owner()
    if os.geteuid() == 0 and owner != "root":
        raise Failure(f"ComfyUI's Python lacks our packages: run ./install.sh as {owner} first.")
    add_requirements(comfyui)


def link_into(nodes: Path) -> None:
    """Put our clone among the custom nodes, unless it is there under any name."""
    if any(entry.resolve() == ROOT for entry in nodes.iterdir()):
        return
    link = nodes / "unified-api"
    if link.exists() and not link.is_symlink():
        raise Failure(f"{link} is another copy of this plugin: move one of the two away.")
    link_to_clone(link)
    say(f"Link         {link}")


def in_a_home(place: Path) -> bool:
    return any(home in (*place.parents, *place.resolve().parents) for home in HOMES)


def closed_folder() -> Path | None:
    """The first folder that the orchestrator's user, who owns nothing, could not look into."""
    python = Path(sys.executable)
    for place in (ROOT, *ROOT.parents, *python.parents, *python.resolve().parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            return place
    return None
