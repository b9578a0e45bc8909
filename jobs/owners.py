"""Owners: marks that tell whose a file or an object is, without naming the owner.

An owner is the name of the key that submitted a job; None stands for all jobs without one, which
count as one caller's. A mark holds for one thing alone, so that two things of one owner do not
look alike to others, who may see the names of files and the metadata of objects.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256

MARK_DIGITS = 16
#: Patterns of a file's name: the SHA-256 of its content, and the mark of its owner.
DIGEST, MARK = "[0-9a-f]{64}", f"[0-9a-f]{{{MARK_DIGITS}}}"
OWNED_NAME = re.compile(f"({DIGEST})({MARK})")


def owner_mark(owner: str | None, of: str) -> str:
    """The mark of an owner on the thing called `of`."""
    return sha256(json.dumps([owner, of]).encode()).hexdigest()[:MARK_DIGITS]


def owned_name(digest: str, owner: str | None) -> str:
    """The name of a file with this SHA-256 that belongs to an owner."""
    return digest + owner_mark(owner, digest)


def is_owned_name(name: str, owner: str | None) -> bool:
    """Whether a name was made by `owned_name` for this owner."""
    found = OWNED_NAME.fullmatch(name)
    return found is not None and found[2] == owner_mark(owner, found[1])
