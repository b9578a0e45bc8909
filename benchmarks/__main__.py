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
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from .backlog import backlog
from .bench import Bench
from .delivery import delivery
from .encoding import encoding
from .footprint import footprint
from .measure import JOBS, Load, measure
from .report import machine, table
from .systems import OverHttp, OverQueue, Plain

#: Load -> rounds. Long jobs differ less.
FULL = {Load(500): 5, Load(0): 5, Load(500, pictures=3): 3, Load(5000): 1}
QUICK = {Load(500): 1, Load(0): 1}


async def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks")
    options.add_argument("--quick", action="store_true", help="two loads, once")
    is_quick = options.parse_args().quick
    _print(machine())
    encoded, encode_ms = encoding()
    _print(encoded)
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        await compare(bench, QUICK if is_quick else FULL, encode_ms, with_extremes=not is_quick)


async def compare(
    bench: Bench, loads: Mapping[Load, int], encode_ms: float, *, with_extremes: bool
) -> None:
    """`with_extremes`: also at rest, and with many jobs waiting."""
    async with AsyncExitStack() as stack:
        far = stack.enter_context(bench.far_away())
        aws = stack.enter_context(bench.aws())
        plain = stack.enter_context(bench.plain())
        ours = stack.enter_context(bench.ours(far, aws))
        if with_extremes:
            _print(await footprint(plain, ours))
        _print(await delivery(aws))
        systems = [
            await stack.enter_async_context(Plain.at(plain.url)),
            await stack.enter_async_context(OverHttp.at(ours.url, far)),
            await stack.enter_async_context(OverQueue.at(ours.url, far, aws)),
        ]
        for load, rounds in loads.items():
            found = await measure(bench, systems, load, rounds=rounds)
            _print(table(load, found, jobs=JOBS, encode_ms=encode_ms))
        if with_extremes:
            _print(await backlog(bench, ours, far))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
