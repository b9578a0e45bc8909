"""How many jobs a second the orchestrator accepts, and how long a submit takes.

`python -m benchmarks.submits` in the project's folder, with boto3 and aiohttp installed. Three
processes: an AWS stand-in that answers each call in 10 ms, the orchestrator, and this one, which
submits over 32 connections. Meant for an otherwise idle machine with 2 cores.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from statistics import median, quantiles
from typing import NamedTuple

import aiohttp

from .processes import ROOT, free_port, running
from .stand_in import HOST

CONNECTIONS = 32
WARM_UP = 300
SUBMITS = 1500
ROUNDS = 5
BODY = {"image_url": "https://pictures.example/a.jpg", "prompt": "make it a rainy evening"}
ORCHESTRATOR = (
    f"import runpy; runpy.run_path({str(ROOT / 'tests' / 'conftest.py')!r});"
    " from unified_api.sqs_bridge import orchestrator; orchestrator.main()"
)


class Round(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float


async def measure(url: str) -> list[Round]:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await one_round(session, WARM_UP)
        return [await one_round(session, SUBMITS) for _ in range(ROUNDS)]


async def one_round(session: aiohttp.ClientSession, submits: int) -> Round:
    """Every connection submits again as soon as it is answered."""
    left, times = iter(range(submits)), list[float]()
    began = time.perf_counter()
    await asyncio.gather(*(submit(session, left, times) for _ in range(CONNECTIONS)))
    spent = time.perf_counter() - began
    cuts = quantiles(times, n=100)
    return Round(submits / spent, cuts[49] * 1000, cuts[98] * 1000)


async def submit(session: aiohttp.ClientSession, left: Iterator[int], times: list[float]) -> None:
    for _ in left:
        began = time.perf_counter()
        async with session.post("/api/v1/qwen-image-edit/jobs", json=BODY) as reply:
            if reply.status != 202:
                raise RuntimeError(await reply.text())
            await reply.read()
        times.append(time.perf_counter() - began)


def environment(aws_port: int, port: int) -> dict[str, str]:
    endpoint = f"http://{HOST}:{aws_port}"
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "SQS_QUEUE_URL": f"{endpoint}/1/tasks",
        "UNIFIED_API_PORT": str(port),
    }


def main() -> None:
    aws_port, port = free_port(), free_port()
    with (
        running("-m", "benchmarks.stand_in", str(aws_port), port=aws_port),
        running("-c", ORCHESTRATOR, port=port, **environment(aws_port, port)),
    ):
        rounds = asyncio.run(measure(f"http://{HOST}:{port}"))
    per_second, p50_ms, p99_ms = (median(values) for values in zip(*rounds, strict=True))
    sys.stdout.write(f"{per_second:.0f} submits/s, p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms\n")


if __name__ == "__main__":
    main()
