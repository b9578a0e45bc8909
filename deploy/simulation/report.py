"""How days and limits are shown: Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from .day import Day
from .limits import LIMITS, Limit, Load
from .world import Prices

#: Of a fleet. Waits are in seconds.
HEAD = (
    *("wait p50", "p95", "longest", "paid h", "used %", "$ a day"),
    *("peak workers", "launches", "interruptions", "lost runs"),
)


def figures(days: Sequence[Day], prices: Prices) -> list[str]:
    """The means of days, as HEAD names them."""
    rows = [
        (
            *(day.waited(part) for part in (0.5, 0.95, 1.0)),
            *(day.paid_hours, 100 * day.utilisation, day.cost(prices)),
            *(day.peak_workers, day.launches, day.interruptions, day.lost_runs),
        )
        for day in days
    ]
    return [number(fmean(column)) for column in zip(*rows, strict=True)]


def limits(loads: Sequence[Load]) -> str:
    """What breaks first comes first, by the largest of the loads."""
    found = sorted(LIMITS, key=lambda limit: limit.reached_at(loads[-1]) or 0)
    days = (f"{load.demand.jobs:,} a day" for load in loads)
    head = ("needed in the busiest hour", *days, "allowed", "reached at, jobs a day")
    return table(head, [_limit(limit, loads) for limit in found])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _limit(limit: Limit, loads: Sequence[Load]) -> list[str]:
    needs = [number(limit.needs(load)) for load in loads]
    if limit.allowed is None:
        return [limit.name, *needs, "the account's", "its quota"]
    reached = limit.reached_at(loads[-1])
    return [limit.name, *needs, number(limit.allowed), _millions(reached) if reached else "never"]


def _millions(jobs: float) -> str:
    return f"{jobs / 1e6:.2g} million" if jobs < 1e8 else f"{jobs / 1e6:.0f} million"
