"""FileCache: small files that can be made again, in a folder of bounded size."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Lock

from ..workflows import ABSENT, is_file
from .private import make_private_folder, write_private_file

DIGEST_BYTES = 32


class FileCache:
    """Keeps files, `max_bytes` in total; the least recently used are deleted first.

    Blocking, for threads: every method may raise OSError. A digest stands before each content, so
    that a file is never read that a crash, a power cut or another process left half written.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = Lock()

    def read(self, name: str) -> bytes | None:
        """The content of a file, which is then the most recently used; None without it."""
        path = self._folder / name
        with self._lock:
            try:
                digest, content = _split(path.read_bytes())
            except FileNotFoundError:
                return None
            if digest != _digest_of(content):
                return None
            self._put_last(name, len(digest) + len(content))
            # For the next process; a disk that can only be read is no reason to make it again.
            with suppress(OSError):
                os.utime(path)
            return content

    def write(self, name: str, content: bytes) -> None:
        """Keep a file, in the place of those used longest ago; not one that is too large alone."""
        with self._lock:
            make_private_folder(self._folder)
            # First: where nothing can be deleted, nothing is added; and a part of a file counts.
            self._put_last(name, DIGEST_BYTES + len(content))
            self._trim()
            if name in self._sizes:
                write_private_file(self._folder / name, _digest_of(content) + content)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._lock:
            self._unlink(name)

    def trim(self) -> None:
        """Delete the files used longest ago if all are too large: the limit may be a new one."""
        with self._lock:
            self._trim()

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """The size of each file, the least recently used first. Looked up once."""
        try:
            # Not a glob, which finds nothing in a folder that cannot be read.
            files = [(path.stat(), path.name) for path in self._folder.iterdir() if is_file(path)]
        except ABSENT:
            return {}
        files.sort(key=lambda file: file[0].st_mtime_ns)
        return {name: stat.st_size for stat, name in files}

    def _put_last(self, name: str, size: int) -> None:
        self._sizes.pop(name, None)
        self._sizes[name] = size

    def _trim(self) -> None:
        excess = sum(self._sizes.values()) - self._max_bytes
        while excess > 0:
            name, size = next(iter(self._sizes.items()))
            self._unlink(name)
            excess -= size

    def _unlink(self, name: str) -> None:
        # Not a directory: where the folder should be there is something else, and so no files.
        with suppress(FileNotFoundError, NotADirectoryError):
            (self._folder / name).unlink()
        self._sizes.pop(name, None)


def _digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _split(kept: bytes) -> tuple[bytes, bytes]:
    return kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
