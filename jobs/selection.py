"""Selection: which jobs of all a list is to have."""

from __future__ import annotations

from dataclasses import dataclass

from .job import Status


@dataclass(frozen=True)
class Selection:
    """None is any. What was created at `created_after` is among them, at `created_before` not."""

    status: Status | None = None
    workflow: str | None = None
    owner: str | None = None
    created_after: float | None = None
    created_before: float | None = None


ALL = Selection()
