"""Readable: which objects of S3 may be read with this machine's credentials, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: Where an orchestrator keeps uploads and large requests, below the results bucket.
DEPOSIT = "unified-api"
INPUTS = f"{DEPOSIT}/inputs"
#: What `UNIFIED_API_S3_READ_BUCKETS` opens of the results bucket while it is not set.
DEFAULT_FOLDER = "images"


class Access(Enum):
    """Who may have an object read."""

    ANYBODY = "anybody who may submit jobs"
    OWNER = "the owner of the job that it was published or uploaded for"
    NOBODY = "nobody"


@dataclass(frozen=True)
class Prefix:
    """What lies below a folder of a bucket; below none, all of the bucket."""

    bucket: str
    folders: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """'bucket' or 'bucket/images/in'."""
        bucket, _, key = text.partition("/")
        return cls(bucket, _folders(key))

    def holds(self, bucket: str, key: str) -> bool:
        """Whether an object lies below this prefix, folder by folder."""
        folders = _folders(key)
        within = folders[: len(self.folders)] == self.folders
        return bucket == self.bucket and within and len(folders) > len(self.folders)

    def is_within(self, other: Prefix) -> bool:
        """Whether this prefix is the other one, or lies below it."""
        return self.bucket == other.bucket and (self.folders[: len(other.folders)] == other.folders)


@dataclass(frozen=True)
class Readable:
    """`opened` is what an operator named, `default` what is open where nothing was named.

    What lies below the `owned` prefixes belongs to those whose jobs made it. A prefix that was
    named opens them only from within: whoever names a whole bucket does not mean others' results.
    """

    opened: tuple[Prefix, ...] = ()
    default: tuple[Prefix, ...] = ()
    owned: tuple[Prefix, ...] = ()

    def access(self, bucket: str, key: str) -> Access:
        """Who may have this object read."""
        owned = [area for area in self.owned if area.holds(bucket, key)]
        for prefix in self.opened:
            if prefix.holds(bucket, key) and all(map(prefix.is_within, owned)):
                return Access.ANYBODY
        if owned:
            return Access.OWNER
        is_default = any(prefix.holds(bucket, key) for prefix in self.default)
        return Access.ANYBODY if is_default else Access.NOBODY

    @property
    def buckets(self) -> frozenset[str]:
        """The buckets that something may be read from."""
        return frozenset(prefix.bucket for prefix in (*self.opened, *self.default, *self.owned))


def _folders(key: str) -> tuple[str, ...]:
    """The parts of a key. Some stores take `a//b` and `a/./b` for `a/b`, so they count as that."""
    return tuple(part for part in key.split("/") if part not in ("", "."))
