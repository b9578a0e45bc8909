"""Files: whether one is there, which a machine that is out of descriptors does not tell."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

#: The machine refuses for a while, or the disk does. That says nothing about what is on it.
PASSING = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EAGAIN,
        errno.EINTR,
        errno.EBUSY,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
#: How a system says that there is no such file.
ABSENT = (FileNotFoundError, NotADirectoryError)


def is_passing(error: OSError) -> bool:
    """Whether the same may succeed a little later, with everything on the disk as it is."""
    return error.errno in PASSING


def is_there(path: Path) -> bool:
    """Whether the path exists. Raises OSError if that cannot be told: pathlib may say no."""
    return _mode_of(path) is not None


def is_file(path: Path) -> bool:
    """Whether the path is a regular file. Raises OSError if that cannot be told."""
    mode = _mode_of(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except ABSENT:
        return None
