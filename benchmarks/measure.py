"""Measures systems under a load, by turns, so that what else the machine does meets all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median, quantiles

from .bench import Bench, Task
from .systems import System

JOBS = 20
SINGLES = 5
WARM_UP_JOBS = 3
PING_SECONDS = 0.1


@dataclass(frozen=True)
class Load:
    """So much GPU time a job, so many pictures in."""

    milliseconds: int
    pictures: int = 1

    def __str__(self) -> str:
        pictures = "1 picture" if self.pictures == 1 else f"{self.pictures} pictures"
        return f"{self.milliseconds} ms, {pictures}"


@dataclass
class Times:
    """All that was measured of a system under a load, in seconds.

    A batch: of all jobs; between runs on the GPU; of a POST, a look at a job and one at the
    health, while jobs run. One job: beyond its GPU time; of its POST and a look at it.
    """

    walls: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    busy_posts: list[float] = field(default_factory=list)
    busy_reads: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    beyond: list[float] = field(default_factory=list)
    idle_posts: list[float] = field(default_factory=list)
    idle_reads: list[float] = field(default_factory=list)


async def measure(
    bench: Bench, systems: Sequence[System], load: Load, *, rounds: int
) -> Mapping[str, Times]:
    """Times by the name of the system."""
    for system in systems:
        await _batch(bench, system, load, Times(), jobs=WARM_UP_JOBS)
    found = {system.name: Times() for system in systems}
    for _ in range(rounds):
        for system in systems:
            await _batch(bench, system, load, found[system.name], jobs=JOBS)
    for _ in range(SINGLES):
        for system in systems:
            await _single(bench, system, load, found[system.name])
    return found


async def _batch(bench: Bench, system: System, load: Load, times: Times, *, jobs: int) -> None:
    """One POST after another; while the jobs run, somebody looks how things are."""
    before = len(bench.runs())
    began = time.monotonic()
    async with _watched(system, times) as submitted:
        for _ in range(jobs):
            submitted.append(await submit(system, _task(bench, load), times.busy_posts))
        await asyncio.gather(*map(system.done, submitted))
        times.walls.append(time.monotonic() - began)
    runs = bench.runs()[before:]
    times.gaps += [begin - end for (_, end), (begin, _) in pairwise(runs)]


async def _single(bench: Bench, system: System, load: Load, times: Times) -> None:
    began = time.monotonic()
    job = await submit(system, _task(bench, load), times.idle_posts)
    await system.done(job)
    times.beyond.append(time.monotonic() - began - load.milliseconds / 1000)
    times.idle_reads.append(await answer(system, system.status(job)))


def _task(bench: Bench, load: Load) -> Task:
    return bench.task(load.milliseconds, load.pictures)


async def submit(system: System, task: Task, posts: list[float]) -> str:
    """The job; how long the POST took is added to `posts`."""
    began = time.monotonic()
    job = await system.submit(task)
    posts.append(time.monotonic() - began)
    return job


@asynccontextmanager
async def _watched(system: System, times: Times) -> AsyncIterator[list[str]]:
    """Ask again and again how the system is, and how the job is that was submitted last."""
    jobs: list[str] = []

    async def ask() -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            times.health.append(await answer(system, system.health))
            if jobs:
                times.busy_reads.append(await answer(system, system.status(jobs[-1])))

    asking = asyncio.ensure_future(ask())
    yield jobs
    asking.cancel()


async def answer(system: System, path: str) -> float:
    """How long a GET takes."""
    began = time.monotonic()
    async with system.session.get(path) as reply:
        await reply.read()
    return time.monotonic() - began


def ms(seconds: float) -> float:
    return seconds * 1000


def middle(seconds: Iterable[float]) -> float:
    """The median, in milliseconds."""
    return ms(median(seconds))


def percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return ms(quantiles(seconds, n=100, method="inclusive")[percent - 1])
