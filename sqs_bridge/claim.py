"""What a worker is told when it asks for a task, and what becomes of a claim."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..jobs.job import Job


@dataclass(frozen=True)
class Claim:
    """The right to run a task, until the lease ends and somebody else gets a higher fence."""

    job: Job
    fence: int
    wants_cancel: bool = False


@dataclass(frozen=True)
class Terminal:
    """The task has ended already: its message may go."""

    job: Job
    #: Then nobody is told of it any more.
    is_deleted: bool = False


@dataclass(frozen=True)
class HeldByOther:
    """Somebody else runs the task, and may until then (seconds since the epoch)."""

    until: float


class Hold(Enum):
    """What has become of a claim."""

    KEPT = "kept"
    CANCEL_WANTED = "kept, but somebody wants the job cancelled"
    LOST = "the task has ended, or somebody else runs it"
