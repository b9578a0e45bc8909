"""Memory over many jobs: a ComfyUI with the plugin beside one without.

`python -m benchmarks.memory [JOBS]` in the project's folder, by the Python that the tests use,
after `./install.sh test` has fetched a ComfyUI. Each job loads a picture of one megapixel and
saves one; both systems run the same number of jobs at the same time. Memory is the proportional
set size (PSS), so that what processes share counts once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.comfyui.comfy_process import ComfyProcess

from .bench import Bench
from .report import machine, row
from .systems import OverHttp, Plain, System

JOBS = 5000
LOOKS = 20
#: Submitted together, as a batch is.
AT_ONCE = 20
#: After load, until freed memory is to be back.
REST_SECONDS = 10.0


async def run_jobs(bench: Bench, system: System, jobs: int) -> None:
    for first in range(0, jobs, AT_ONCE):
        tasks = [bench.task(0, 1) for _ in range(min(AT_ONCE, jobs - first))]
        submitted = [await system.submit(task) for task in tasks]
        await asyncio.gather(*map(system.done, submitted))


async def curve(
    bench: Bench, systems: Mapping[str, tuple[System, ComfyProcess]], *, jobs: int
) -> list[tuple[int, list[float], list[float]]]:
    """(jobs so far, MB of each system right after them, MB after REST_SECONDS)."""
    found, step = [(0, _now(systems), _now(systems))], max(1, jobs // LOOKS)
    for done in range(step, jobs + 1, step):
        await asyncio.gather(*(run_jobs(bench, each, step) for each, _ in systems.values()))
        loaded = _now(systems)
        await asyncio.sleep(REST_SECONDS)
        found.append((done, loaded, _now(systems)))
    return found


def _now(systems: Mapping[str, tuple[System, ComfyProcess]]) -> list[float]:
    return [
        psutil.Process(comfy.pid).memory_full_info().pss / 2**20 for _, comfy in systems.values()
    ]


def report(found: Sequence[tuple[int, list[float], list[float]]], names: Sequence[str]) -> str:
    lines = [row(["jobs", *names, *(f"{name}, at rest" for name in names), "added at rest"])]
    lines.append(row(["---"] * (2 + 2 * len(names))))
    for jobs, loaded, rested in found:
        cells = [f"{each:.0f} MB" for each in (*loaded, *rested)]
        lines.append(row([f"{jobs:,}", *cells, f"{rested[1] - rested[0]:+.0f} MB"]))
    title = f"### Memory over {found[-1][0]:,} jobs of one megapixel"
    return "\n".join([title, "", machine(), "", *lines, ""])


async def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    options.add_argument("jobs", nargs="?", type=int, default=JOBS)
    jobs = options.parse_args().jobs
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        async with AsyncExitStack() as stack:
            far = stack.enter_context(bench.far_away())
            aws = stack.enter_context(bench.aws())
            plain = stack.enter_context(bench.plain())
            ours = stack.enter_context(bench.ours(far, aws))
            systems: dict[str, tuple[System, ComfyProcess]] = {
                Plain.name: (await stack.enter_async_context(Plain.at(plain.url)), plain),
                OverHttp.name: (await stack.enter_async_context(OverHttp.at(ours.url, far)), ours),
            }
            found = await curve(bench, systems, jobs=jobs)
            sys.stdout.write(report(found, list(systems)) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
