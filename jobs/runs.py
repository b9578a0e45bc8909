"""Runs: the jobs that are under way on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from .job import RANKS, Job, Priority, Stage
from .prompt import Progress
from .run import Run
from .workshop import Keeper, Workshop

#: How long a cancellation is waited for before the job is told as it is.
CANCEL_SECONDS = 5.0


class Runs:
    """`moved` is called when one has gone on so far that others may follow, `ended` at its end."""

    def __init__(
        self, workshop: Workshop, *, moved: Callable[[], None], ended: Callable[[Run], None]
    ) -> None:
        self._shop = workshop
        self._moved = moved
        self._ended = ended
        self._runs: dict[str, Run] = {}

    def ahead(self, least: Priority) -> int:
        """How many of this priority at least are not yet in ComfyUI's queue."""
        runs = self._runs.values()
        return sum(run.is_ahead and RANKS[run.job.priority] <= RANKS[least] for run in runs)

    @property
    def unrun(self) -> int:
        """How many have a prompt that is yet to end."""
        runs = self._runs.values()
        return sum(run.needs_gpu and run.job.stage is not Stage.PUBLISHING for run in runs)

    def begin(self, job: Job, keeper: Keeper, moved: Callable[[], None] = lambda: None) -> Run:
        """Take a job to its end. `moved` is called beside that of all."""

        def tell(run: Run) -> None:
            if run.is_over:
                self._put_down(run)
            elif not run.needs_gpu:
                self._shop.metrics.prompt_ended(run.job.job_id)
            self._moved()
            moved()

        run = Run(job, self._shop, keeper, tell)
        self._runs[job.job_id] = run
        self._shop.watchers.tell(job.job_id)
        return run

    def __iter__(self) -> Iterator[Run]:
        """In the order in which they were begun."""
        return iter(self._runs.values())

    def find(self, job_id: str) -> Run | None:
        return self._runs.get(job_id)

    def live(self, job: Job) -> tuple[Job, Progress]:
        """A job that was read from the store, as it is now."""
        run = self._runs.get(job.job_id)
        return (run.job, run.progress) if run else (job, Progress())

    async def cancel(self, job_id: str) -> None:
        """Cancel a job if it is under way; wait a little for that."""
        if run := self._runs.get(job_id):
            run.cancel()
            await run.ended(timeout=CANCEL_SECONDS)

    async def drain(self) -> None:
        """Let go of what has not got far; return when the rest has ended."""
        ours = [run for run in self._runs.values() if not run.job.is_shared]
        for run in ours:
            if not run.is_under_way:
                run.abandon()
        await asyncio.gather(*(run.ended() for run in ours))

    async def stop(self) -> None:
        """Let go of everything as it is."""
        runs = list(self._runs.values())
        for run in runs:
            run.abandon()
        await asyncio.gather(*(run.ended() for run in runs))

    def _put_down(self, run: Run) -> None:
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]
        self._shop.metrics.put_down(run.job)
        self._ended(run)
