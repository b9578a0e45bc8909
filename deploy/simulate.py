"""Prints what fleets do with a day's jobs, as Markdown: `python -m deploy.simulate`.

Every number that is assumed is an option. docs/capacity.md tells what they mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .simulation.day import Day
from .simulation.fleet import NeverDone, live
from .simulation.limits import Load
from .simulation.report import HEAD, figures, limits, table
from .simulation.world import Demand, Machine, Policy, Prices

LOADS = (100, 10_000, 1_000_000)


@dataclass(frozen=True)
class World:
    """One fleet. What is told of it are the means of some days."""

    demand: Demand
    machine: Machine
    policy: Policy
    prices: Prices
    days: int

    def with_jobs(self, jobs: int) -> World:
        return replace(self, demand=replace(self.demand, jobs=jobs))

    def day(self, seed: int) -> Day:
        return live(self.demand, self.machine, self.policy, seed=seed)

    def figures(self) -> list[str]:
        return figures([self.day(seed + 1) for seed in range(self.days)], self.prices)


@dataclass(frozen=True)
class Sweep:
    """One number of a part of the world, and what else it might be."""

    part: str
    name: str
    values: tuple[float, ...]


IDLE = Sweep("policy", "idle_minutes", (1, 2, 5, 10, 20, 60))
MIN_WORKERS = Sweep("policy", "min_workers", (0, 1))
SWEEPS = (
    Sweep("policy", "jobs_per_worker", (2, 5, 10, 25, 50)),
    IDLE,
    Sweep("policy", "on_demand_percent", (0, 50, 100)),
    Sweep("policy", "on_demand_workers", (0, 1)),
    Sweep("machine", "interruptions_per_hour", (0, 0.05, 0.5)),
    Sweep("machine", "cold_start_seconds", (60, 240, 600)),
    Sweep("machine", "prefetch", (0, 1)),
)
#: What matters where jobs are so few that nothing runs most of the time.
SWEEPS_OF_FEW = (IDLE, MIN_WORKERS)


def main() -> None:
    try:
        show(_world(_options()))
    except NeverDone as lack:
        raise SystemExit(f"{lack}: these workers cannot keep up (--max-workers)") from lack


def show(world: World) -> None:
    worlds = [world.with_jobs(jobs) for jobs in LOADS]
    days = [each.day(seed=1) for each in worlds]
    print(f"How many workers\n\n{workers(worlds, days)}")
    loads = [Load(each.demand, each.machine, day) for each, day in zip(worlds, days, strict=True)]
    print(f"What breaks first\n\n{limits(loads)}")
    for sweep in SWEEPS:
        print(swept(world, sweep))
    for sweep in SWEEPS_OF_FEW:
        print(swept(worlds[0], sweep))


def workers(worlds: Sequence[World], days: Sequence[Day]) -> str:
    rows = [
        [
            f"{each.demand.jobs:,}",
            f"{each.demand.peak_per_second:.3g}",
            *figures([day], each.prices),
        ]
        for each, day in zip(worlds, days, strict=True)
    ]
    return table(("jobs a day", "jobs/s at peak", *HEAD), rows)


def swept(world: World, sweep: Sweep) -> str:
    rows = [_row(world, sweep, value) for value in sweep.values]
    return f"{world.demand.jobs:,} jobs a day\n\n{table((f'`{sweep.name}`', *HEAD), rows)}"


def _row(world: World, sweep: Sweep, value: float) -> list[str]:
    """What that value does. The world's own is in bold."""
    part = getattr(world, sweep.part)
    other: dict[str, Any] = {sweep.part: replace(part, **{sweep.name: value})}
    shown = f"**{value:g}**" if value == getattr(part, sweep.name) else f"{value:g}"
    return [shown, *replace(world, **other).figures()]


def _options() -> dict[str, Any]:
    options = argparse.ArgumentParser(prog="python -m deploy.simulate")
    options.add_argument("--jobs", type=int, default=10_000, help="a day; default %(default)s")
    options.add_argument("--days", type=int, default=3, help="of each fleet; default %(default)s")
    for name, default in defaults().items():
        flag = f"--{name.replace('_', '-')}"
        options.add_argument(flag, type=type(default), default=default, help="default %(default)s")
    return vars(options.parse_args())


def _world(given: dict[str, Any]) -> World:
    return World(
        demand=Demand(**_of(Demand, given)),
        machine=Machine(**_of(Machine, given)),
        policy=Policy(**_of(Policy, given)),
        prices=Prices(**_of(Prices, given)),
        days=given["days"],
    )


def defaults() -> dict[str, float]:
    """Every number that has one, by its name."""
    found = [each for part in (Demand, Machine, Policy, Prices) for each in fields(part)]
    return {each.name: each.default for each in found if isinstance(each.default, int | float)}


def _of(part: type, given: dict[str, Any]) -> dict[str, Any]:
    return {each.name: given[each.name] for each in fields(part) if each.name in given}


if __name__ == "__main__":
    main()
