"""Known limits, and how much of each a day needs in its busiest hour.

Where AWS's figures come from, and which could not be verified, is told in docs/capacity.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .day import Day
from .world import Demand, Machine

#: A worker tells the table of each job that it holds so often.
TELL_SECONDS = 2.0
#: An orchestrator reads all that waits so often, twice: to count it, and to find what is overdue.
COUNT_SECONDS, COUNTS = 10.0, 2
#: Above it an orchestrator refuses jobs (UNIFIED_API_MAX_PENDING).
MOST_PENDING = 20_000
#: An item of the task table has 1 to 2 KB: a write is 2 units, a read from the index a quarter.
WRITE_UNITS, READ_UNITS = 2.0, 0.25
#: Of a job: accepted, sent, claimed, begun, ended. All of them are written to the index too.
WRITES = 5
#: To the index under one status. Who changes a status writes twice: out of one, into the other.
WRITES_PENDING, WRITES_PROCESSING, WRITES_COMPLETED = 3, 3, 1
#: Of a machine with one GPU, such as g5.xlarge or g6e.xlarge.
VCPUS = 4


@dataclass(frozen=True)
class Load:
    """The busiest moments of a day."""

    demand: Demand
    machine: Machine
    day: Day

    @property
    def per_second(self) -> float:
        return self.demand.peak_per_second

    @property
    def held(self) -> float:
        """Jobs that workers hold, if each that runs one holds more ahead."""
        return self.per_second * self.demand.job_seconds * (1 + self.machine.prefetch)

    @property
    def tellings(self) -> float:
        """Writes a second to keep claims and tell of progress."""
        return self.held / TELL_SECONDS


@dataclass(frozen=True)
class Limit:
    name: str
    #: None: each account has its own.
    allowed: float | None
    needs: Callable[[Load], float]

    def reached_at(self, load: Load) -> float | None:
        """About how many jobs a day need all of it, if all grows with their number."""
        need = self.needs(load)
        return load.demand.jobs * self.allowed / need if self.allowed and need else None


def index_writes(writes: int, load: Load) -> float:
    return WRITE_UNITS * writes * load.per_second


LIMITS = (
    Limit("vCPUs of GPU machines", None, lambda load: VCPUS * load.day.peak_workers),
    Limit(
        "write units/s, index key `processing`",
        1_000,
        lambda load: index_writes(WRITES_PROCESSING, load) + WRITE_UNITS * load.tellings,
    ),
    Limit(
        "write units/s, table, on demand and new",
        4_000,
        lambda load: index_writes(WRITES, load) + WRITE_UNITS * load.tellings,
    ),
    Limit(
        "write units/s, index key `pending`",
        1_000,
        lambda load: index_writes(WRITES_PENDING, load),
    ),
    Limit(
        "read units/s, index key `pending`, for each orchestrator",
        3_000,
        lambda load: READ_UNITS * COUNTS * load.day.peak_visible / COUNT_SECONDS,
    ),
    Limit(
        "write units/s, index key `completed`",
        1_000,
        lambda load: index_writes(WRITES_COMPLETED, load),
    ),
    Limit("jobs that wait", MOST_PENDING, lambda load: load.day.peak_visible),
    Limit("submits/s, one orchestrator on 2 cores", 250, lambda load: load.per_second),
    Limit("machines launched at once", 1_000, lambda load: load.day.most_launches),
    Limit("messages in flight", 120_000, lambda load: load.held),
    Limit("S3 PUT/s below one prefix", 3_500, lambda load: load.per_second),
)
