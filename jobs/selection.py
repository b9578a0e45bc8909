"""Selection: which jobs of all a list is to have, and the page of it that somebody gets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from .errors import InvalidQuery
from .job import Job, Status
from .prompt import Progress

NUMBER = re.compile(r"[0-9]{1,18}")
WRONG_CURSOR = "`after` must be a cursor from an earlier reply."


@dataclass(frozen=True)
class Selection:
    """None is any. What was created at `created_after` is among them, at `created_before` not."""

    status: Status | None = None
    workflow: str | None = None
    owner: str | None = None
    created_after: float | None = None
    created_before: float | None = None


ALL = Selection()


class Page(NamedTuple):
    """Some jobs of a list. It may be short, or empty; the last page is the one without a cursor."""

    jobs: list[tuple[Job, Progress]]
    next_cursor: str | None


def sequence_of(cursor: str | None) -> int | None:
    """The number that a cursor is where it is no more than that. Raises InvalidQuery."""
    if cursor is not None and not NUMBER.fullmatch(cursor):
        raise InvalidQuery(WRONG_CURSOR)
    return None if cursor is None else int(cursor)
