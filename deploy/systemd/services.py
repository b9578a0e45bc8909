"""`install.sh systemd`: puts units and environment files in place."""

from __future__ import annotations

import os
from pathlib import Path

from ..comfyui.report import Failure, say
from .installed import is_ours, options_of, require_writable
from .units import ORCHESTRATOR, SETTINGS, UNITS, WORKER, orchestrator, require_open, worker

SERVICES = {"worker": worker, "orchestrator": orchestrator}


def systemd(options: list[str]) -> None:
    """Writes what is asked for, and says how it is started."""
    known = options_of("systemd")
    known.add_argument("--only", choices=SERVICES)
    asked = known.parse_args(options)
    root: Path = asked.into
    require_writable(root / UNITS)
    for name in (WORKER, ORCHESTRATOR):
        require_free(root / UNITS / name)
    if asked.only != "worker":
        require_open()
    units = [make() for name, make in SERVICES.items() if asked.only in {None, name}]
    for unit in units:
        write_settings(root / SETTINGS / unit.settings_name, unit.settings)
        write_unit(root / UNITS / unit.name, unit.text)
    names = " ".join(unit.name.removesuffix(".service") for unit in units)
    say("Fill in the settings, then:")
    say(f"  systemctl daemon-reload && systemctl enable --now {names}")


def require_free(unit: Path) -> None:
    if unit.exists() and not is_ours(unit):
        raise Failure(f"{unit} was not written by this command: move it away, then run this again.")


def write_unit(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
    say(f"Unit         {file}")


def write_settings(file: Path, text: str) -> None:
    """Never over one that is there. It may come to hold secrets, so it is its owner's alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        say(f"Settings     {file} (there already, left as it is)")
        return
    with os.fdopen(number, "w", encoding="utf-8") as opened:
        opened.write(text)
    say(f"Settings     {file}")
