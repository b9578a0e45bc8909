"""Line: the jobs that wait to be taken up, in their order, for everybody who asks how many.

It holds what the store holds, so that nobody reads ten thousand jobs to be told a number.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from itertools import count
from math import inf
from typing import NamedTuple

from .job import RANKS, Job


class Turn(NamedTuple):
    """Whose turn is smaller comes first. In each rank, `number` is the order of arrival."""

    rank: int
    number: float


class Waiting(NamedTuple):
    """A job that waits."""

    job_id: str
    workflow: str
    rank: int

    @classmethod
    def of(cls, job: Job) -> Waiting:
        return cls(job.job_id, job.workflow, RANKS[job.priority])


class Line:
    """They are ordered as the store takes them up: by rank, then by arrival."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._turns: dict[str, tuple[str, Turn]] = {}
        self._by_workflow: defaultdict[str, list[Turn]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._turns)

    def join(self, job: Waiting) -> None:
        """Behind all of its rank."""
        self._add(job, next(self._numbers))

    def rejoin(self, job: Waiting) -> None:
        """Before all of its rank: it had been taken up before them."""
        self._add(job, -next(self._numbers))

    def leave(self, job_id: str) -> None:
        """It has been taken up, or has ended."""
        if found := self._turns.pop(job_id, None):
            workflow, turn = found
            turns = self._by_workflow[workflow]
            turns.pop(bisect_left(turns, turn))
            if not turns:
                del self._by_workflow[workflow]

    def turn(self, job_id: str) -> Turn | None:
        """None if it does not wait."""
        found = self._turns.get(job_id)
        return found[1] if found else None

    def before(self, turn: Turn) -> Counter[str]:
        """How many of each workflow are before this turn."""
        found = ((name, bisect_left(turns, turn)) for name, turns in self._by_workflow.items())
        return Counter(dict(found))

    def _add(self, job: Waiting, number: float) -> None:
        self.leave(job.job_id)
        turn = Turn(job.rank, number)
        self._turns[job.job_id] = job.workflow, turn
        insort(self._by_workflow[job.workflow], turn)


def head(rank: int) -> Turn:
    """The turn of one who comes before all of this rank."""
    return Turn(rank, -inf)
