"""Outlook: when a job will have its turn, and when it is expected to be done."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import takewhile
from math import ceil

from .estimates import Estimates
from .job import RANKS, Job, Stage
from .line import Line, Turn, head
from .prompt import Progress
from .run import Run
from .runs import Runs

#: Before every rank: it stands in ComfyUI's queue.
NEXT = head(min(RANKS.values()) - 1)


class Outlook:
    """Of jobs that are under way, and of those that wait in line."""

    def __init__(self, line: Line, estimates: Estimates, runs: Runs) -> None:
        self._line = line
        self._estimates = estimates
        self._runs = runs

    def is_waiting(self, job_id: str) -> bool:
        """Whether its turn is yet to come."""
        run = self._runs.find(job_id)
        return _is_waiting(run) if run else self._line.turn(job_id) is not None

    @property
    def seconds_of_work(self) -> float | None:
        """Until the prompts of all jobs under way have ended; None where one is not foreseen."""
        return _sum([self._needed(run) for run in self._runs if run.needs_gpu])

    def seen(self, job: Job, progress: Progress) -> Progress:
        """How far a job is, with its outlook."""
        if job.status.is_final:
            return progress
        run = self._runs.find(job.job_id)
        if run and not _is_waiting(run):
            return replace(progress, eta_seconds=_whole(self._left(run)))
        turn = _turn(run) if run else self._line.turn(job.job_id)
        if turn is None:
            return progress
        ahead = self._ahead(turn, run)
        return replace(
            progress,
            queue_position=ahead.total() + 1,
            eta_seconds=_whole(self._until_done(ahead, job.workflow)),
        )

    def _ahead(self, turn: Turn, own: Run | None) -> Counter[str]:
        """How many of each workflow will run before this turn."""
        waiting = sorted(filter(_is_waiting, self._runs), key=_turn)
        before = takewhile(lambda run: run is not own and _turn(run) <= turn, waiting)
        return Counter(run.job.workflow for run in before) + self._line.before(turn)

    def _until_done(self, ahead: Counter[str], workflow: str) -> float | None:
        lefts = [self._left(run) for run in self._runs if not _is_waiting(run)]
        waits = ((self._estimates.run_seconds(name), n) for name, n in ahead.items())
        parts = [each and each * n for each, n in waits]
        return _sum([*lefts, *parts, self._estimates.run_seconds(workflow)])

    def _needed(self, run: Run) -> float | None:
        if _is_waiting(run):
            return self._estimates.run_seconds(run.job.workflow)
        return self._left(run)

    def _left(self, run: Run) -> float | None:
        """What is left of one whose prompt has begun."""
        if not run.needs_gpu or run.job.stage is not Stage.RUNNING:
            return 0.0
        seconds = self._estimates.run_seconds(run.job.workflow)
        return None if seconds is None else run.seconds_left(of=seconds)


def _turn(run: Run) -> Turn:
    return head(RANKS[run.job.priority]) if run.is_ahead else NEXT


def _is_waiting(run: Run) -> bool:
    return run.needs_gpu and not run.is_under_way


def _sum(parts: list[float | None]) -> float | None:
    """None if one of them is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else ceil(seconds)
