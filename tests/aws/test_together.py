"""Calls that are made at the same time share the work, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from unified_api.sqs_bridge.together import Together


class Bench:
    """Work that waits until it is told to go on, and answers what it was asked, doubled."""

    def __init__(self) -> None:
        self.groups: list[list[Any]] = []
        self.gate = asyncio.Event()
        self.hung: set[Any] = set()

    async def do(self, asked: Sequence[Any]) -> list[Any]:
        self.groups.append(list(asked))
        if self.hung & set(asked):
            await asyncio.Event().wait()
        await self.gate.wait()
        if "all fail" in asked:
            raise ValueError("all")
        return [ValueError(one) if one == "fail" else one * 2 for one in asked]

    def together(self, most: int = 10) -> Together[Any, Any]:
        return Together(self.do, fit=lambda asked: len(asked) <= most)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def ask(together: Together[Any, Any], *asked: Any) -> list[asyncio.Task[Any]]:
    """Ask for each, and go on when all have been asked for."""
    tasks = [asyncio.ensure_future(together(one)) for one in asked]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_the_first_goes_at_once_and_the_others_go_together(bench: Bench) -> None:
    together = bench.together()

    first = await ask(together, 1)
    others = await ask(together, 2, 3, 4)
    assert bench.groups == [[1]]
    bench.gate.set()

    assert await asyncio.gather(*first, *others) == [2, 4, 6, 8]
    assert bench.groups == [[1], [2, 3, 4]]


async def test_no_more_go_together_than_fit(bench: Bench) -> None:
    bench.gate.set()

    tasks = await ask(bench.together(most=2), 1, 2, 3, 4, 5)

    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert bench.groups == [[1, 2], [3, 4], [5]]


async def test_one_that_fits_nowhere_goes_alone(bench: Bench) -> None:
    bench.gate.set()

    tasks = await ask(bench.together(most=0), 1, 2)

    assert await asyncio.gather(*tasks) == [2, 4]
    assert bench.groups == [[1], [2]]


async def test_one_that_fails_harms_no_other(bench: Bench) -> None:
    bench.gate.set()

    tasks = await ask(bench.together(), 1, "fail", 3)

    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, third) == (2, 6)
    assert isinstance(second, ValueError)


async def test_a_call_that_fails_is_told_to_all_and_the_next_go_on(bench: Bench) -> None:
    bench.gate.set()
    together = bench.together()

    failed = await ask(together, 1, "all fail")
    told = await asyncio.gather(*failed, return_exceptions=True)

    assert [str(error) for error in told] == ["all", "all"]
    assert await together(3) == 6


async def test_who_gives_up_harms_no_other(bench: Bench) -> None:
    one, other = await ask(bench.together(), 1, 2)

    one.cancel()
    bench.gate.set()

    assert await other == 4


async def test_a_call_that_hangs_does_not_hold_up_the_next(bench: Bench) -> None:
    bench.hung, together = {"hang"}, bench.together(most=1)
    bench.gate.set()

    hung, other = await ask(together, "hang", 2)

    assert await other == 4
    assert not hung.done()
    hung.cancel()
