"""Run: takes one job to its end. Fetch, render, execute, publish, each step kept before the next.

What is written when decides what a crash leaves behind: the attempt before the execution (at its
start if another prompt ran before it), the files before they are published, the published result
before the status.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from math import inf
from typing import Any

from ..workflows import Workflow, render
from .errors import (
    CrashLoop,
    DeadlineExceeded,
    DiskFull,
    InternalError,
    JobFailed,
    ObjectUnknown,
    PublishFailed,
    StorageDenied,
    StorageUnreachable,
)
from .job import Job, Output, Rendered, Stage
from .outputs import chosen, intact
from .private import make_private_folder
from .prompt import FOLDER, Ending, Progress, ProgressMeter, Prompt
from .threads import off_loop
from .workshop import Disowned, Keeper, Workshop

log = logging.getLogger(__name__)

#: What may pass, by itself or by an operator's hand: no finished work is thrown away for it.
AWAY = (PublishFailed, StorageUnreachable, StorageDenied, ObjectUnknown)


class Run:
    """One job on its way. `job` is its latest state, `progress` how far its prompt is.

    `moved` is called with it when it has gone on so far that others may follow, and at its end.
    """

    def __init__(
        self, job: Job, workshop: Workshop, keeper: Keeper, moved: Callable[[Run], None]
    ) -> None:
        self.job = job
        #: Not yet in ComfyUI's queue.
        self.is_ahead = True
        #: Its prompt is yet to end.
        self.needs_gpu = True
        #: Somebody else has taken the job over.
        self.is_disowned = False
        self._moved = moved
        self._shop = workshop
        self._keeper = keeper
        #: It was running when the process died: should it be why, it must not drag others along.
        self._is_suspect = job.stage is Stage.RUNNING
        self._taken_up = time.monotonic()
        self._begun = 0.0
        self._meter = ProgressMeter({})
        self._start_kept: asyncio.Future[None] | None = None
        self._has_begun = False
        #: How it ends that was told to end before its time.
        self._early_end: Callable[[], Job] | None = None
        self._is_decided = False
        self._task = asyncio.get_running_loop().create_task(self._to_the_end())
        self._task.add_done_callback(self._close)
        self._alarm: asyncio.TimerHandle | None = None
        self._set_alarm()

    @property
    def is_under_way(self) -> bool:
        """Its prompt has begun, or its result is being published: work would be lost."""
        return self._start_kept is not None or self.job.stage is Stage.PUBLISHING

    @property
    def progress(self) -> Progress:
        return self._meter.now

    def seconds_left(self, *, of: float) -> float | None:
        """What is left of a prompt that takes so long as a rule; None if this one takes longer."""
        since = time.monotonic() - self._meter.told_at
        left = of * (1.0 - self._meter.share) - since
        return max(0.0, left) if left > -self._shop.timing.late_seconds else None

    def cancel(self) -> None:
        """Have it end cancelled, unless its end is decided: what is published stays."""
        self._end_early(lambda: self.job.cancelled(now=time.time()))

    def _give_up(self) -> None:
        log.warning("job %s is given up: its time is over", self.job.job_id)
        self._end_early(lambda: self.job.failed(DeadlineExceeded(), now=time.time()))

    def _end_early(self, end: Callable[[], Job]) -> None:
        if self._is_decided or self._early_end or self.job.stage is Stage.PUBLISHING:
            return
        self._early_end = end
        # A task that is cancelled before its first step never takes one.
        if self._has_begun:
            self._task.cancel()

    @property
    def is_over(self) -> bool:
        return self._task.done()

    async def ended(self, timeout: float | None = None) -> None:
        """Wait until it is over, for so many seconds at most."""
        await asyncio.wait({self._task}, timeout=timeout)

    def abandon(self) -> None:
        """Let go of it as it is, for somebody to take it up again."""
        self._task.cancel()

    async def _to_the_end(self) -> None:
        """Completed, failed, cancelled, or waiting to be run again."""
        self._has_begun = True
        try:
            end = await self._end()
            self._is_decided = True
            await self._keep(end)
        except Disowned:
            log.warning("job %s: somebody else has taken it over", self.job.job_id)
            self.is_disowned = True
        await self._clean_up()

    async def _end(self) -> Job:
        """The job as it ends here."""
        try:
            return await self._go_on()
        except JobFailed as failure:
            return self._failed(failure)
        except asyncio.CancelledError:
            if self._early_end is None:
                raise
            return self._early_end()
        except Disowned:
            raise
        except OSError as error:
            log.exception("job %s could not use the disk", self.job.job_id)
            return self._failed(DiskFull.of(error))
        except Exception:
            log.exception("job %s met a fault of this service", self.job.job_id)
            return self._failed(InternalError())

    async def _go_on(self) -> Job:
        if self._early_end:
            raise asyncio.CancelledError
        outputs = await self._find() if self.job.attempt else None
        if outputs is None and not await intact(self.job.rendered):
            await self._render()
        return await self._publish(outputs)

    async def _find(self) -> tuple[Output, ...] | None:
        """What an earlier attempt published, if that can be told now."""
        try:
            return await self._shop.results.find(self.job)
        except AWAY as failure:
            log.warning("job %s: %s", self.job.job_id, failure)
            return None

    async def _render(self) -> None:
        if self._is_suspect and self.job.attempt >= self._shop.settings.max_attempts:
            raise CrashLoop()
        workflow = self._shop.offer.definition(self.job.workflow)
        images = await self._fetch(workflow)
        async with AsyncExitStack() as room:
            async with self._place():
                self.is_ahead = False
                self._moved(self)
                ending = await self._execute(workflow, images)
                run_ms = _ms_since(self._begun)
                self.needs_gpu = False
                self._moved(self)
                # Without room for its pictures it keeps its place, and ComfyUI must wait.
                await room.enter_async_context(self._shop.finishing.room_for(ending.produced))
            rendered = await self._finish(ending, workflow)
        await self._keep(self.job.publishing(rendered, run_ms=run_ms))

    async def _finish(self, ending: Ending, workflow: Workflow) -> tuple[Rendered, ...]:
        if ending.failure:
            raise ending.failure
        return await self._shop.finishing.finish(
            chosen(ending.produced, workflow.outputs),
            delivery=self.job.delivery,
            folder=self._shop.host.output_folder / FOLDER / self.job.job_id / "finished",
        )

    def _place(self) -> AbstractAsyncContextManager[None]:
        places = self._shop.places
        source = "queue" if self.job.is_shared else "http"
        count = places.number if self._is_suspect else 1
        return places.take(count, source, priority=self.job.priority)

    async def _fetch(self, workflow: Workflow) -> dict[str, str]:
        begun = time.monotonic()
        pictures = workflow.pictures(self.job.parameters)
        names = await self._shop.inputs.fetch(pictures, self.job.owner)
        self._is_now(self.job.fetched(inputs_ms=_ms_since(begun)))
        return names

    async def _execute(self, workflow: Workflow, images: dict[str, str]) -> Ending:
        host, estimates = self._shop.host, self._shop.estimates
        prompt = self._prompt(workflow, images)
        self._meter = ProgressMeter(prompt.graph, estimates.node_seconds(workflow.slug))
        try:
            ending = await host.run(prompt, self._hear, first=self._come_next)
            # However it ended it was an attempt, or one that is removed would come back for ever.
            await self._start()
        finally:
            self._shop.begun.pop(self.job.job_id, None)
        if ending.failure is None:
            spent = time.monotonic() - self._begun
            estimates.learn(workflow.slug, spent, self._meter.seconds)
        return ending

    async def _come_next(self) -> None:
        """Count the attempt before the prompt is queued, if it will begin at once."""
        if others := list(self._shop.begun.values()):
            # Whoever is about to begin is not overtaken, unless he takes too long.
            await asyncio.wait(others, timeout=self._shop.timing.begin_seconds)
        elif self._shop.host.is_idle:
            await self._start()

    def _prompt(self, workflow: Workflow, images: dict[str, str]) -> Prompt:
        folder = f"{FOLDER}/{self.job.job_id}/{self.job.attempt + 1}"
        graph = render(workflow, self.job.parameters, images=images, prefix=folder)
        limit_seconds = min(self._shop.settings.job_timeout, workflow.max_run_seconds or inf)
        return Prompt(self.job.next_prompt_id, graph, folder, limit_seconds)

    def _hear(self, event: str, data: dict[str, Any]) -> None:
        if event == "preview":
            self._shop.previews.show(self.job.job_id, data["image"])
            return
        if event == "execution_start":
            self._start()
            self._shop.metrics.prompt_began(self.job.job_id, taken_up=self._taken_up)
        self._meter.hear(event, data)
        self._shop.watchers.tell(self.job.job_id)

    def _start(self) -> asyncio.Future[None]:
        """Count the attempt, once; the future ends when that is on disk."""
        if self._start_kept is None:
            self._begun = time.monotonic()
            self._is_now(self.job.running(now=time.time()))
            self._set_alarm()
            self._start_kept = asyncio.ensure_future(self._keep(self.job))
            self._shop.begun[self.job.job_id] = self._start_kept
            self._moved(self)
        return self._start_kept

    async def _publish(self, outputs: tuple[Output, ...] | None) -> Job:
        begun = time.monotonic()
        async with self._shop.spool.holding(self.job.rendered):
            while outputs is None:
                outputs = await self._try_to_publish()
        publish_ms = _ms_since(begun)
        return self.job.completed(outputs, now=time.time(), publish_ms=publish_ms)

    async def _try_to_publish(self) -> tuple[Output, ...] | None:
        """None after a failure that may pass."""
        try:
            return await self._shop.results.publish(self.job)
        except AWAY as failure:
            log.warning("job %s cannot be published yet: %s", self.job.job_id, failure)
            await asyncio.sleep(self._shop.timing.retry_seconds)
            return None

    def _failed(self, failure: JobFailed) -> Job:
        most_attempts = min(failure.retries + 1, self._shop.settings.max_attempts)
        if failure.retryable and self.job.attempt < most_attempts:
            log.warning("job %s is tried again: %s", self.job.job_id, failure)
            return self.job.put_back(due=time.time() + self._shop.timing.retry_seconds)
        log.warning("job %s failed: %s", self.job.job_id, failure)
        return self.job.failed(failure, now=time.time())

    async def _keep(self, job: Job) -> None:
        """Commit a state, then show it. Waits for a disk that is full or locked."""
        while True:
            try:
                await self._keeper.save(job)
                break
            except sqlite3.Error:
                log.exception("job %s cannot be saved; trying again", job.job_id)
                await asyncio.sleep(self._shop.timing.retry_seconds)
        self._is_now(job)

    def _is_now(self, job: Job) -> None:
        self.job = job
        self._shop.watchers.tell(job.job_id)

    async def _clean_up(self) -> None:
        if self.job.status.is_final or self.job.is_shared:
            folder = self._shop.host.output_folder / FOLDER / self.job.job_id
            await off_loop(shutil.rmtree, folder, ignore_errors=True)

    def _set_alarm(self) -> None:
        """Have it given up when its time is over."""
        if self._alarm:
            self._alarm.cancel()
        if self.job.give_up_at is not None:
            left = self.job.give_up_at - time.time()
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, left), self._give_up)

    def _close(self, _: asyncio.Task[None]) -> None:
        if self._alarm:
            self._alarm.cancel()
        self.needs_gpu = False
        self._moved(self)


def prepare_working_folder(shop: Workshop, keep: set[str]) -> None:
    """Make it private, and empty of jobs that are over; a killed process may leave theirs."""
    working = shop.host.output_folder / FOLDER
    make_private_folder(working)
    for folder in working.glob("*/"):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _ms_since(begun: float) -> int:
    return int((time.monotonic() - begun) * 1000)
