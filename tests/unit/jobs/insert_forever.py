"""A process that stores jobs and tells each one that is safe, until it is killed."""

import asyncio
import itertools
import runpy
import sys
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[2] / "conftest.py"))

from unified_api.jobs.job import Job  # noqa: E402
from unified_api.jobs.store import Store  # noqa: E402


async def insert_forever(path):
    store = Store(path)
    await store.open()
    for number in itertools.count():
        await store.insert(
            Job(job_id=f"job-{number}", workflow="draw", parameters={}, created_at=0.0)
        )
        print(f"job-{number}", flush=True)


asyncio.run(insert_forever(Path(sys.argv[1])))
