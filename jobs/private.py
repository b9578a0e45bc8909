"""Files and folders for the user of this process alone, whatever umask ComfyUI runs with.

The folders at the top protect: nobody else gets past them, so they are closed at every start, and
what older versions left inside need not be. Links are not followed: what a link leads to belongs
to whoever made the link.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

FOLDER_MODE = 0o700
FILE_MODE = 0o600
OTHERS = 0o077


def make_private_folder(path: Path) -> None:
    """Make a folder with the parents that it lacks, or close the one that is there.

    May raise OSError.
    """
    for missing in reversed([each for each in (path, *path.parents) if not each.exists()]):
        missing.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    close_folder(path)


def make_private_file(path: Path) -> None:
    """Make an empty file, or close the one that is there. May raise OSError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        close_file(path)


def write_private_file(path: Path, content: bytes) -> None:
    """Like `Path.write_bytes`, to a file that is private if it is new. May raise OSError."""
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
        file.write(content)


def close_folder(path: Path) -> None:
    """Keep other users out of a folder, as far as its file system and its owner let us."""
    if os.name != "posix":
        return
    try:
        # A folder that somebody replaces by a link meanwhile is not changed.
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        with _closing(folder):
            if (mode := os.fstat(folder).st_mode) & OTHERS:
                os.fchmod(folder, stat.S_IMODE(mode) & ~OTHERS)
    except NotADirectoryError:
        log.info("%s is a link: who may read what it leads to is left as it is", path)
    except OSError as error:
        _tell(path, error)


def close_file(path: Path) -> None:
    """Keep other users out of a file in a private folder.

    By its name: to close a descriptor of it would drop the locks that SQLite has on the file.
    """
    if os.name != "posix":
        return
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:
        pass
    except OSError as error:
        _tell(path, error)


def close_files_in(folder: Path) -> None:
    """Keep other users out of the files that lie directly in a private folder."""
    try:
        for file in folder.iterdir():
            close_file(file)
    except OSError as error:
        _tell(folder, error)


@contextmanager
def _closing(number: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(number)


def _tell(path: Path, error: OSError) -> None:
    log.warning("other users may be able to read %s: %s", path, error.strerror)
