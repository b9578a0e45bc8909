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
    """Whether there is anything. Raises OSError if that cannot be told: pathlib may say no."""
    try:
        path.stat()
    except ABSENT:
        return False
    return True


def is_file(path: Path) -> bool:
    """Whether there is such a file. Raises OSError if that cannot be told."""
    return is_there(path) and stat.S_ISREG(path.stat().st_mode)
