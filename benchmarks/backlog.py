"""What 10,000 waiting jobs cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.comfyui.comfy_process import ComfyProcess

from .bench import Bench
from .measure import answer, middle, percentile, submit
from .report import row
from .systems import OverHttp

WAITING = 10_000
CONNECTIONS = 16
#: The first and the last so many are compared.
SAMPLE = 100
READS = 300
#: Until the pictures of the first are fetched.
SETTLE_SECONDS = 5.0
GATE_MILLISECONDS = 3_600_000


async def backlog(bench: Bench, comfy: ComfyProcess, far: str) -> str:
    """Behind one job that does not end."""
    async with OverHttp.at(comfy.url, far) as system:
        gate = await system.submit(bench.task(GATE_MILLISECONDS, 1))
        # One picture for all, as the pictures themselves are not what is measured.
        task = bench.task(0, 1)
        for _ in range(SAMPLE):
            await system.submit(task)
        await asyncio.sleep(SETTLE_SECONDS)
        before, posts, jobs = comfy.resident_mb, list[float](), list[str]()

        async def submit_all(left: Iterator[int]) -> None:
            for _ in left:
                jobs.append(await submit(system, task, posts))

        began, left = time.monotonic(), iter(range(WAITING))
        await asyncio.gather(*(submit_all(left) for _ in range(CONNECTIONS)))
        spent = time.monotonic() - began
        added = comfy.resident_mb - before
        read = [system.status(jobs[n * WAITING // READS]) for n in range(READS)]
        reads = [await answer(system, path) for path in read]
        await system.session.post(f"{system.status(gate)}/cancel")
    lines = [
        row(["accepted", "POST p50 first 100 / last 100", "memory", "status p50, p99"]),
        row(["---"] * 4),
        row(
            [
                f"{WAITING / spent:.0f}/s",
                f"{middle(posts[:SAMPLE]):.0f} / {middle(posts[-SAMPLE:]):.0f} ms",
                f"{added:+.0f} MB",
                f"{middle(reads):.0f}, {percentile(reads, 99):.0f} ms",
            ]
        ),
    ]
    title = f"### {WAITING:,} waiting jobs, submitted over {CONNECTIONS} connections"
    return "\n".join([title, "", *lines, ""])
