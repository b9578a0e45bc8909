"""Saved: the files that the nodes of a prompt name in their outputs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...workflows import is_file, is_passing
from ..private import close_file, make_private_folder
from ..prompt import Produced

log = logging.getLogger(__name__)

#: "output", "temp" or another type of ComfyUI's -> its folder; None for a type that it has not.
FolderOf = Callable[[str], Path | None]


def saved(outputs: Mapping[str, Any], folder_of: FolderOf, *, own: Path) -> Iterator[Produced]:
    """Every file that any node names, whatever the kind is called.

    What lies outside the prompt's `own` folder is copied into it. Raises OSError if the disk
    refuses that.
    """
    entries = [
        (node_id, entry)
        for node_id, kinds in outputs.items()
        if isinstance(kinds, dict)
        for entries in kinds.values()
        if isinstance(entries, list | tuple)
        for entry in entries
        if isinstance(entry, dict)
    ]
    for number, (node_id, entry) in enumerate(entries):
        if path := _path_of(node_id, entry, folder_of):
            is_preview = entry.get("type") == "temp"
            yield Produced(node_id, _secured(path, own, number), is_preview=is_preview)


def _path_of(node_id: str, entry: dict[str, Any], folder_of: FolderOf) -> Path | None:
    """None for what is no file inside one of ComfyUI's folders: third-party nodes say anything."""
    folder = folder_of(str(entry.get("type") or "output"))
    name = entry.get("filename")
    if folder is None or not isinstance(name, str) or entry.get("type") == "input":
        return None
    path = _file_inside(folder.resolve(), str(entry.get("subfolder") or ""), name)
    if path is None:
        log.warning("node %s names an output that is not there or not ComfyUI's", node_id)
    return path


def _file_inside(base: Path, subfolder: str, name: str) -> Path | None:
    try:
        path = (base / subfolder / name).resolve()
        return path if path.is_relative_to(base) and is_file(path) else None
    except OSError as error:
        if is_passing(error):
            raise
    except ValueError:
        pass
    # A name no file can have: too long, or with a zero byte in it.
    return None


def _secured(path: Path, own: Path, number: int) -> Path:
    """A file outside the prompt's folder may be overwritten by the next prompt: copy it."""
    if path.is_relative_to(own):
        return path
    copy = own / "copies" / f"{number}-{path.name}"
    make_private_folder(copy.parent)
    shutil.copyfile(path, copy)
    close_file(copy)
    return copy
