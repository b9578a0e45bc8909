"""Warm-up: has each workflow that says with what run once after the start, before the first job.

What a first run takes longer, for loading models above all, no caller waits for then. It is a
prompt in ComfyUI's queue and nobody's job: its pictures are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from math import inf
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..workflows import Workflow, render
from .errors import JobFailed, Unfit
from .health import Component, State
from .private import FOLDER_MODE, make_private_folder
from .prompt import FOLDER, Prompt
from .threads import off_loop
from .workshop import Workshop

log = logging.getLogger(__name__)

#: Beside the folders of jobs, whose names have no dots.
WARM_UP = ".warm-up"
#: A white picture of 64 x 64, for one that is required and not named.
BLANK = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAFElEQVR42mP8zwABTAyjjFEG"
    "yQwAzx8Bf7QK4E8AAAAASUVORK5CYII="
)
LEFT_OUT = "it is left out this once, as the last one did not come to its end"
NO_TIME = "there was no time for it (UNIFIED_API_WARM_UP_SECONDS)"
FAULT = "a fault of this service; the log has the reason"
IMPORTED = time.monotonic()


class WarmUp:
    """One workflow after the other. What goes wrong is told, and keeps nothing from working."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._left: list[Workflow] = []
        #: By workflow, why it is not warm.
        self._failures: dict[str, str] = {}
        self._history: str | None = None

    @property
    def is_over(self) -> bool:
        return not self._left

    @property
    def component(self) -> Component:
        """How it goes, or went."""
        if self._left:
            return Component(State.DEGRADED, f"warming up: {self._left[0].slug}")
        if not self._failures:
            return Component(reason=self._history)
        told = (f"{slug} is not warmed up: {reason}" for slug, reason in self._failures.items())
        return Component(State.DEGRADED, "; ".join(told))

    def prepare(self) -> None:
        """Choose what is to run, of what can run here now."""
        if self._shop.settings.warm_up_seconds:
            healthy = [each.workflow for each in self._shop.offer.all() if each.is_healthy]
            self._left = [each for each in healthy if each and each.warmup is not None]

    async def run(self) -> None:
        """Run what was chosen, for as long as may be; before all jobs that are begun after this."""
        async with self._shop.places.take(self._shop.places.number):
            await self._run_in_time()
        seconds = seconds_since_start()
        self._shop.metrics.started(seconds)
        self._history = f"the start took {seconds:.1f} s, warm-ups included"
        log.info("Unified API: %s", self._history)

    async def _run_in_time(self) -> None:
        work = asyncio.ensure_future(self._run_all())
        try:
            await asyncio.wait({work}, timeout=self._shop.settings.warm_up_seconds)
        finally:
            work.cancel()
            late, self._left = self._left, []
        for workflow in late:
            self._fail(workflow, NO_TIME)

    async def _run_all(self) -> None:
        while self._left:
            await self._try(self._left[0])
            self._left = self._left[1:]

    async def _try(self, workflow: Workflow) -> None:
        begun = time.monotonic()
        place = f"{FOLDER}/{WARM_UP}/{workflow.slug}"
        folder = self._shop.host.output_folder / place
        log.info("Unified API: warming up %s", workflow.slug)
        try:
            await off_loop(make_private_folder, folder.parent)
            await off_loop(folder.mkdir, FOLDER_MODE)
            await self._run(workflow, place)
            self._shop.metrics.warmed_up(workflow.slug, time.monotonic() - begun)
        except FileExistsError:
            self._fail(workflow, LEFT_OUT)
        except JobFailed as failure:
            self._fail(workflow, str(failure))
        except Exception:
            log.exception("the warm-up of %s met a fault of this service", workflow.slug)
            self._fail(workflow, FAULT)
        # Not if this is cancelled, or the process dies: what never ended is not begun again.
        await off_loop(shutil.rmtree, folder, ignore_errors=True)

    async def _run(self, workflow: Workflow, place: str) -> None:
        parameters = _parameters(workflow)
        images = await self._shop.inputs.fetch(workflow.pictures(parameters))
        graph = render(workflow, parameters, images=images, prefix=place)
        ending = await self._shop.host.run(Prompt(str(uuid4()), graph, place, inf), _pass_over)
        if ending.failure:
            raise ending.failure

    def _fail(self, workflow: Workflow, reason: str) -> None:
        self._failures[workflow.slug] = reason
        log.warning("Unified API: %s is not warmed up: %s", workflow.slug, reason)


def _parameters(workflow: Workflow) -> dict[str, Any]:
    """Complete ones. Raises Unfit."""
    blank = {name: BLANK for name in workflow.images if name in workflow.schema.get("required", ())}
    given = {**blank, **(workflow.warmup or {})}
    if violations := workflow.violations(given):
        raise Unfit("; ".join(violation.message for violation in violations))
    return workflow.complete(given, seed=0)


def _pass_over(event: str, data: dict[str, Any]) -> None:
    """Nobody watches."""


def seconds_since_start() -> float:
    """Since this process began; where the system does not tell, since it loaded this file."""
    try:
        # As bytes: the name of a process may be in any encoding.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - begun
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - IMPORTED
