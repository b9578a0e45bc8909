"""The places in ComfyUI's queue: in order, in turns, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from unified_api.jobs.job import Priority
from unified_api.jobs.workshop import Places

from ..fake_host import until


async def settle() -> None:
    """Who can be served is served by then: at once, or a step later."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Line:
    """Takers of places, and who has one."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.served: list[str] = []

    async def join(self, name: str, source: str = "http", count: int = 1, **how: Priority) -> None:
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._take(name, source, count, **how))
        await settle()

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await self.tasks[name]
        await settle()

    async def _take(self, name: str, source: str, count: int, **how: Priority) -> None:
        async with self._places.take(count, source, **how):
            self.served.append(name)
            await self._leave[name].wait()


@pytest.fixture
def line() -> Callable[[int], Line]:
    return lambda number: Line(Places(number))


async def test_no_more_are_served_than_there_are_places(line) -> None:
    waiting = line(2)

    for name in "abc":
        await waiting.join(name)

    assert waiting.served == ["a", "b"]
    await waiting.leave("a")
    await until(lambda: waiting.served == ["a", "b", "c"])


async def test_who_is_served_at_once_does_not_overtake_one_who_has_waited() -> None:
    places, served = Places(2), []

    async def take(name: str) -> None:
        async with places.take(1):
            served.append(name)

    async with places.take(1), places.take(1):
        waited = asyncio.create_task(take("has waited"))
        await asyncio.sleep(0)
        # Begun before a place is free, it takes its first step after that.
        comes = asyncio.create_task(take("comes now"))
    await asyncio.gather(waited, comes)

    assert served == ["has waited", "comes now"]


async def test_sources_take_turns_however_many_of_one_wait(line) -> None:
    waiting = line(1)
    for name in ("h1", "h2", "h3", "h4"):
        await waiting.join(name, source="http")
    for name in ("q1", "q2"):
        await waiting.join(name, source="queue")

    for name in ("h1", "q1", "h2", "q2", "h3"):
        await until(lambda name=name: waiting.served[-1] == name)
        await waiting.leave(name)

    assert waiting.served == ["h1", "q1", "h2", "q2", "h3", "h4"]


async def test_high_priority_goes_before_all_that_wait_whatever_their_source(line) -> None:
    waiting = line(1)
    for name in ("n1", "n2"):
        await waiting.join(name, source="http")
    await waiting.join("n3", source="queue")
    for name in ("h1", "h2"):
        await waiting.join(name, source="queue", priority="high")
    await waiting.join("h3", source="http", priority="high")

    for name in ("n1", "h3", "h1", "h2", "n3"):
        await until(lambda name=name: waiting.served[-1] == name)
        await waiting.leave(name)

    assert waiting.served == ["n1", "h3", "h1", "h2", "n3", "n2"]


async def test_high_priority_overtakes_one_who_needs_all_places(line) -> None:
    waiting = line(2)
    await waiting.join("a")
    await waiting.join("alone", count=2)

    await waiting.join("high", priority="high")

    assert waiting.served == ["a", "high"]


async def test_who_needs_all_places_waits_for_them_and_is_not_overtaken(line) -> None:
    waiting = line(2)
    await waiting.join("a")
    await waiting.join("alone", count=2)
    await waiting.join("late")
    assert waiting.served == ["a"]

    await waiting.leave("a")

    assert waiting.served == ["a", "alone"]
    await waiting.leave("alone")
    await until(lambda: waiting.served == ["a", "alone", "late"])


async def test_who_gives_up_waiting_holds_nobody_back(line) -> None:
    waiting = line(1)
    for name in "abc":
        await waiting.join(name)

    waiting.tasks["b"].cancel()
    await asyncio.wait({waiting.tasks["b"]})
    await waiting.leave("a")

    assert waiting.served == ["a", "c"]


async def test_who_is_cancelled_in_the_moment_he_is_called_gives_his_place_back(line) -> None:
    waiting = line(1)
    for name in "abc":
        await waiting.join(name)

    waiting._leave["a"].set()
    await until(waiting.tasks["a"].done)
    waiting.tasks["b"].cancel()
    await asyncio.wait({waiting.tasks["b"]})

    await until(lambda: "c" in waiting.served)
