"""Ours beside plain ComfyUI, under the same load, on the same machine, by turns.

`python -m benchmarks` in the project's folder, by the Python that the tests use, after
`./install.sh test` has fetched a ComfyUI; `--quick` takes two minutes. A node that sleeps plays
the GPU. Plain ComfyUI has its pictures on its disk and leaves its results there; ours fetches them
from a server that is 100 ms away, and puts its results into a bucket that is as far.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from .backlog import backlog
from .bench import Bench
from .encoding import encoding
from .footprint import footprint
from .measure import JOBS, Load, measure
from .report import machine, table
from .systems import OverHttp, OverQueue, Plain

FULL = (Load(500), Load(0), Load(500, pictures=3), Load(5000))
QUICK = (Load(500), Load(0))
FULL_ROUNDS, QUICK_ROUNDS = 5, 1


async def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks")
    options.add_argument("--quick", action="store_true", help="two loads, once")
    is_quick = options.parse_args().quick
    _print(machine())
    _print(encoding())
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        if is_quick:
            await compare(bench, QUICK, rounds=QUICK_ROUNDS)
        else:
            await compare(bench, FULL, rounds=FULL_ROUNDS, with_extremes=True)


async def compare(
    bench: Bench, loads: tuple[Load, ...], *, rounds: int, with_extremes: bool = False
) -> None:
    """`with_extremes`: also at rest, and with many jobs waiting."""
    async with AsyncExitStack() as stack:
        far = stack.enter_context(bench.far_away())
        aws = stack.enter_context(bench.aws())
        plain = stack.enter_context(bench.plain())
        ours = stack.enter_context(bench.ours(far, aws))
        if with_extremes:
            _print(await footprint(plain, ours))
        systems = [
            await stack.enter_async_context(Plain.at(plain.url)),
            await stack.enter_async_context(OverHttp.at(ours.url, far)),
            await stack.enter_async_context(OverQueue.at(ours.url, far, aws)),
        ]
        for load in loads:
            found = await measure(bench, systems, load, rounds=rounds)
            _print(table(load, found, jobs=JOBS))
        if with_extremes:
            _print(await backlog(bench, ours, far))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
