"""What 500 watchers of a job cost a ComfyUI: memory, and time of the job; and how soon one who
waits for a job is answered.

`python -m benchmarks.watchers` in the project's folder, by the Python that the tests use, after
`./install.sh test` has fetched a ComfyUI. Two processes: ComfyUI on the CPU, and this one. The job
multiplies matrices in Python, on one thread: if the event loop took the processor from it, it
would show.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from tests.comfyui.comfy_process import ComfyProcess

VERSION = "0.30.0"
WATCHERS = 500
ROUNDS = 5
WAITS = 20
STEPS = 500
#: More than it takes to open all streams.
AHEAD_SECONDS = 60
PROGRESS = b"event: progress\n"
WORK = {
    "graph.json": {
        "1": {"class_type": "ProbeWork", "inputs": {"steps": STEPS, "seed": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    },
    "workflow.json": {
        "title": "Work",
        "description": "Keeps Python busy.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "seed": {"type": "integer", "minimum": 0},
                "steps": {"type": "integer", "default": STEPS},
            },
        },
        "bindings": {
            name: [{"node": "1", "class_type": "ProbeWork", "input": name}]
            for name in ("seed", "steps")
        },
        "outputs": {"image": {"node": "2", "class_type": "SaveImage"}},
    },
}


class Watcher:
    """Counts the frames of progress of one job."""

    def __init__(self, session: aiohttp.ClientSession, job: dict[str, Any]) -> None:
        self.frames = 0
        self.is_open = asyncio.Event()
        self.task = asyncio.create_task(self._watch(session, job["urls"]["events"]))

    async def _watch(self, session: aiohttp.ClientSession, path: str) -> None:
        async with session.get(path) as stream:
            stream.raise_for_status()
            self.is_open.set()
            async for line in stream.content:
                self.frames += line == PROGRESS


@asynccontextmanager
async def watching(
    session: aiohttp.ClientSession, job: dict[str, Any]
) -> AsyncIterator[list[Watcher]]:
    """All of them, to the end of the job."""
    watchers = [Watcher(session, job) for _ in range(WATCHERS)]
    await asyncio.gather(*(watcher.is_open.wait() for watcher in watchers))
    yield watchers
    await asyncio.gather(*(watcher.task for watcher in watchers))


async def submit(session: aiohttp.ClientSession, workflow: str, **body: Any) -> dict[str, Any]:
    async with session.post(f"/api/v1/{workflow}/jobs", json=body) as reply:
        reply.raise_for_status()
        return dict(await reply.json())


async def ended(session: aiohttp.ClientSession, job: dict[str, Any]) -> dict[str, Any]:
    while job["status"] not in ("completed", "failed", "cancelled"):
        async with session.get(job["urls"]["self"], params={"wait": "60"}) as reply:
            job = await reply.json()
    return job


async def run_seconds(session: aiohttp.ClientSession, *, is_watched: bool) -> tuple[float, int]:
    """How long a job ran, and the least that a watcher saw of it."""
    # All have come when it begins.
    ahead = await submit(session, "probe", seconds=AHEAD_SECONDS, steps=600)
    job = await submit(session, "work")
    frames = 0
    if is_watched:
        async with watching(session, job) as watchers:
            await session.post(ahead["urls"]["cancel"])
        frames = min(watcher.frames for watcher in watchers)
    await session.post(ahead["urls"]["cancel"])
    return (await ended(session, job))["timings"]["run_ms"] / 1000, frames


async def cost_in_mb(session: aiohttp.ClientSession, comfy: ComfyProcess) -> float:
    """What the process is larger by while a job is watched that takes its time."""
    job = await submit(session, "probe", seconds=600, steps=1000)
    await asyncio.sleep(5)
    before = comfy.resident_mb
    async with watching(session, job):
        await asyncio.sleep(10)
        after = comfy.resident_mb
        await session.post(job["urls"]["cancel"])
    return after - before


async def answer_ms(session: aiohttp.ClientSession) -> float:
    """From the end of a job to the answer to one who waits for it."""
    body, prefer = {"seconds": 0.3, "steps": 3}, {"Prefer": "wait=30"}
    async with session.post("/api/v1/probe/jobs", json=body, headers=prefer) as reply:
        job = await reply.json()
    answered = time.time()
    async with session.get(job["urls"]["self"]) as reply:
        finished = (await reply.json())["finished_at"]
    return (answered - seconds_of(finished)) * 1000


def seconds_of(moment: str) -> float:
    """2026-01-31T12:00:00.500Z as seconds since the epoch."""
    whole, _, fraction = moment.rstrip("Z").partition(".")
    return (
        time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
        - time.timezone
        + float(f".{fraction}")
    )


async def measure(comfy: ComfyProcess) -> list[str]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(comfy.url, connector=connector, timeout=timeout) as session:
        await run_seconds(session, is_watched=False)
        # First, since a process keeps the memory of those who have gone.
        memory = await cost_in_mb(session, comfy)
        rounds = [
            (
                await run_seconds(session, is_watched=False),
                await run_seconds(session, is_watched=True),
            )
            for _ in range(ROUNDS)
        ]
        answers = [await answer_ms(session) for _ in range(WAITS)]
    alone = median(seconds for (seconds, _), _ in rounds)
    watched = median(seconds for _, (seconds, _) in rounds)
    frames = min(frames for _, (_, frames) in rounds)
    return [
        f"{WATCHERS} watchers cost {memory:.0f} MB",
        f"the job ran {alone:.2f} s alone and {watched:.2f} s watched ({watched / alone:.3f});"
        f" every watcher got {frames} frames of progress at least",
        f"one who waits was answered {median(answers):.0f} ms after the end"
        f" ({max(answers):.0f} at most)",
    ]


def main() -> None:
    with TemporaryDirectory() as folder:
        comfy = ComfyProcess(VERSION, Path(folder), OMP_NUM_THREADS="1")
        comfy.define("work", {name: json.dumps(content) for name, content in WORK.items()})
        comfy.start()
        try:
            lines = asyncio.run(measure(comfy))
        finally:
            comfy.kill()
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
