"""What is written for each service: its unit, filled in for this machine, and its settings."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..comfyui.existing import add_requirements, existing_comfyui, owner_of
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
from ..comfyui.provide import install_once, own_comfyui, own_python
from ..comfyui.report import Failure, is_root, say
from ..comfyui.server import device, prepare
from .environment import settings_file

TEMPLATES = Path(__file__).resolve().parent
WORKER, ORCHESTRATOR = "comfyui.service", "unified-api-orchestrator.service"
#: Below the root of the machine.
UNITS, SETTINGS = Path("etc/systemd/system"), Path("etc/unified-api")
#: What would mean something to systemd, or to Python in a list of folders.
ODD = re.compile(r"[\"'\\$%:\x00-\x1f]")
OPTIONS = """\

# ComfyUI's own options, say --port 9000 --lowvram
COMFYUI_OPTIONS={options}
"""
CLOSED = (
    "The orchestrator runs as a user of its own, to whom {closed} is closed. Put this clone and a"
    " Python where all may read, say into /opt, or do without:  ./install.sh systemd --only worker"
)


class Unit(NamedTuple):
    name: str
    text: str
    settings_name: str
    settings: str


def worker() -> Unit:
    """ComfyUI as its user has it, our clone among its custom nodes; else one of our own."""
    comfyui, base = existing_comfyui(), None
    if comfyui is None:
        comfyui, base = own_comfyui(), prepare(SERVE_BASE)
    else:
        add_packages(comfyui)
        link_into(comfyui.tree / "custom_nodes")
    first = OPTIONS.format(options=" ".join(device(comfyui.python, [])))
    settings = settings_file("ComfyUI", "comfyui", first=first)
    return Unit(WORKER, worker_unit(comfyui, base), "worker.env", settings)


def worker_unit(comfyui: ComfyUI, base: Path | None = None) -> str:
    options: list[Path | str] = ["--base-directory", base] if base else []
    folders = [comfyui.tree, base] if base else [comfyui.tree]
    values = {
        "USER": owner_of(comfyui.tree),
        "TREE": safe(comfyui.tree),
        "CALL": words([comfyui.python, LAUNCHER, comfyui.tree, *options]),
        "WRITABLE": words(writable(folders)),
    }
    return filled(WORKER, values)


def orchestrator() -> Unit:
    """With the packages in a Python of our own, which need not be ComfyUI's."""
    python = own_python()
    install_once(python, "plugin", REQUIREMENTS.read_text(encoding="utf-8"))
    link_to_clone(PACKAGE)
    settings = settings_file("the orchestrator", "unified-api-orchestrator")
    return Unit(ORCHESTRATOR, orchestrator_unit(python), "orchestrator.env", settings)


def orchestrator_unit(python: Path) -> str:
    call = words([python, "-m", "unified_api.sqs_bridge.orchestrator"])
    return filled(ORCHESTRATOR, {"CALL": call, "PACKAGES": safe(PACKAGES)})


def filled(template: str, values: dict[str, str]) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda name: values[name[1]], text)


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


def add_packages(comfyui: ComfyUI) -> None:
    """Root leaves no logs of its own in a user's clone."""
    if is_root() and ROOT.stat().st_uid != 0:
        say(f"Packages     left to {owner_of(ROOT)}, who runs ./install.sh for them")
    else:
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


def require_open() -> None:
    """The orchestrator's user owns nothing, so everybody must be able to look in."""
    python = Path(sys.executable)
    for place in (ROOT, *ROOT.parents, *python.parents, *python.resolve().parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            raise Failure(CLOSED.format(closed=place))
