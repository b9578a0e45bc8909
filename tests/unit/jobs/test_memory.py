"""Freed memory goes back to the system when there is nothing to do, and not before."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from threading import Event

import pytest
from unified_api.jobs.memory import IDLE_SECONDS, give_back_memory, glibc_trim
from unified_api.jobs.threads import Pool

from ..fake_host import until

pytestmark = pytest.mark.skipif(glibc_trim() is None, reason="there is no glibc")


class Day:
    """A clock, the pools' idleness, and how often memory was given back."""

    def __init__(self) -> None:
        self.now = 100.0
        self.idle_since: float | None = float("-inf")
        self.looks = 0
        self.trims = 0

    def look(self) -> float | None:
        self.looks += 1
        return self.idle_since

    def trim(self) -> None:
        self.trims += 1

    async def looked_at(self) -> int:
        """The number of trims when all that is now was seen."""
        looks = self.looks
        await until(lambda: self.looks > looks + 2)
        return self.trims


@pytest.fixture
async def day() -> AsyncIterator[Day]:
    day = Day()
    giving = asyncio.ensure_future(
        give_back_memory(day.trim, idle_since=day.look, clock=lambda: day.now, look_seconds=0)
    )
    yield day
    giving.cancel()


async def test_memory_is_given_back_once_after_work(day: Day) -> None:
    assert await day.looked_at() == 0

    day.idle_since, day.now = 110.0, 110.0 + IDLE_SECONDS
    assert await day.looked_at() == 1
    day.now = 200.0
    assert await day.looked_at() == 1

    day.idle_since = 210.0
    day.now = 220.0
    assert await day.looked_at() == 2


async def test_nothing_is_given_back_beside_work_or_right_after_it(day: Day) -> None:
    day.idle_since, day.now = None, 110.0
    assert await day.looked_at() == 0

    day.idle_since = day.now
    assert await day.looked_at() == 0


def test_a_pool_tells_since_when_it_is_idle() -> None:
    pool, go_on = Pool(2, "test"), Event()
    assert pool.idle_since == float("-inf")

    works = [pool.submit(go_on.wait, 10), pool.submit(lambda: None)]
    works[1].result()
    assert pool.idle_since is None

    go_on.set()
    pool.shutdown()
    assert pool.idle_since is not None
    assert pool.idle_since > 0


#: What threads have freed: as much as eight pictures.
FREED = """
import threading, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import tests.conftest
from unified_api.jobs.memory import glibc_trim

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def work():
    kept = [b"x" * 60_000 for _ in range(500)]
    pins.append(kept.pop())

pins = []
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
before = resident()
glibc_trim()()
print(before - resident())
"""


def test_glibc_gives_back_what_threads_have_freed(pytestconfig: pytest.Config) -> None:
    script = FREED.format(root=str(pytestconfig.rootpath))

    told = subprocess.check_output([sys.executable, "-c", script])

    assert int(told) > 5_000_000
