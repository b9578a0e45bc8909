"""Records that a server asks for keys, so that a key file which vanishes does not open it."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..jobs.counted_log import CountedLog

log = logging.getLogger(__name__)

#: Of the copy beside the key file, and at the end of that beside its folder, which may vanish as
#: well. The key command has the same name.
NAME = "keys-required.json"
FIELD = "keys_required"


class KeyRecord:
    """Some copies of one fact: whether keys are required. Only the key command says that not.

    Without files, nothing is recorded. All methods block.
    """

    def __init__(self, files: Iterable[Path] = ()) -> None:
        self._files = tuple(files)
        self._failures = CountedLog(log)

    @classmethod
    def beside(cls, key_file: Path) -> KeyRecord:
        """The record of a key file."""
        folder = key_file.parent
        return cls((folder / NAME, folder.parent / f"{folder.name}.{NAME}"))

    def read(self) -> bool | None:
        """Whether keys are required, as one copy at least says; None if none says anything."""
        found = {_read(file) for file in self._files}
        return True if True in found else (False if False in found else None)

    def write(self) -> bool:
        """Record that keys are required. Whether a restart will know of it."""
        problems = [_write(file) for file in self._files]
        for problem in filter(None, problems):
            self._failures.log(logging.WARNING, "Unified API: %s", problem)
        return None in problems or not self._files


def _read(file: Path) -> bool | None:
    try:
        known = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        # What cannot be read may have said that keys are required.
        return True if os.path.lexists(file) else None
    return not (isinstance(known, dict) and known.get(FIELD) is False)


def _write(file: Path) -> str | None:
    """All or nothing. What went wrong, if anything."""
    try:
        number, part = tempfile.mkstemp(dir=file.parent, prefix="keys.", suffix=".part")
        with os.fdopen(number, "w", encoding="utf-8") as content:
            json.dump({FIELD: True}, content)
        Path(part).replace(file)
    except OSError as error:
        return f"{file.name} cannot be written: {error.strerror}"
    return None
