"""Disk: whether there is room to work in."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..workflows import is_there
from .threads import repeat_in_daemon

LOOK_SECONDS = 1.0


class Disk:
    """Watches the folders that jobs are written to. Work stops before one of them is full."""

    def __init__(
        self, folders: dict[str, Path], *, min_free_bytes: int, look_seconds: float = LOOK_SECONDS
    ) -> None:
        """`folders` by the names that messages give them."""
        self._folders = folders
        self._min_free_bytes = min_free_bytes
        self._look_seconds = look_seconds
        #: Which folder has no room, and how much there should be; None if all had at the last look.
        self.problem: str | None = None

    def look(self) -> None:
        """Look at all folders. Blocks for as long as a disk takes to answer."""
        self.problem = self._found()

    async def keep_looking(self) -> None:
        """Look again every few seconds, in a thread, until cancelled."""
        await repeat_in_daemon("unified-api-disk", self.look, seconds=self._look_seconds)

    def _found(self) -> str | None:
        for name, folder in self._folders.items():
            try:
                free = shutil.disk_usage(_existing(folder)).free
            except OSError as error:
                return f"The {name} folder cannot be looked at: {error.strerror}."
            if free < self._min_free_bytes:
                return (
                    f"The disk of the {name} folder has {free >> 20} MiB free and needs"
                    f" {self._min_free_bytes >> 20} (UNIFIED_API_MIN_FREE_BYTES). Make room on it."
                )
        return None


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if is_there(place))
