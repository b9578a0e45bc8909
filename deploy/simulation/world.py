"""What is assumed: the jobs of a day, machines that run them, and how their number is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt
from random import Random

MINUTE_SECONDS = 60.0
HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS
#: Parts of a day's jobs that come in each hour, from midnight on.
WORKING_DAY = (1, 1, 1, 1, 1, 1, 2, 4, 7, 9, 9, 8, 6, 7, 9, 9, 8, 6, 3, 2, 2, 1, 1, 1)


@dataclass(frozen=True)
class Demand:
    """The jobs of one day. Within an hour they come at random."""

    jobs: int
    #: On the GPU, on average.
    job_seconds: float = 12.0
    #: Standard deviation of the seconds, as a part of their mean.
    spread: float = 0.3
    hours: tuple[int, ...] = WORKING_DAY

    @property
    def peak_per_second(self) -> float:
        """Jobs a second in the busiest hour."""
        return self.jobs * max(self.hours) / sum(self.hours) / HOUR_SECONDS

    def arrivals(self, random: Random) -> list[float]:
        """When jobs come, in order: seconds from midnight."""
        hours = random.choices(range(len(self.hours)), self.hours, k=self.jobs)
        return sorted((hour + random.random()) * HOUR_SECONDS for hour in hours)

    def durations(self, random: Random) -> list[float]:
        """How long each job takes. Never below zero, and some take much longer than most."""
        variance = log(1 + self.spread**2)
        centre, deviation = log(self.job_seconds) - variance / 2, sqrt(variance)
        return [random.lognormvariate(centre, deviation) for _ in range(self.jobs)]


@dataclass(frozen=True)
class Machine:
    """A worker. It is paid from its launch to its end."""

    #: From the launch to the first job: it boots, ComfyUI starts, models are loaded.
    cold_start_seconds: float = 240.0
    #: Messages that it holds ahead of the running job (SQS_PREFETCH).
    prefetch: int = 1
    #: How often EC2 takes a spot machine back.
    interruptions_per_hour: float = 0.05
    #: After which a message that was lost with its worker comes again.
    visibility_seconds: float = 120.0


@dataclass(frozen=True)
class Prices:
    """Dollars an hour. Examples (g6e.xlarge, us-east-1, 2026-11-23): put in your own."""

    on_demand: float = 1.86
    spot: float = 0.75


@dataclass(frozen=True)
class Policy:
    """How many workers there shall be, decided once a minute.

    Parameters of deploy/cloudformation.yaml have these names and, but for max_workers, defaults.
    """

    #: Jobs, waiting or running, that there is one worker for.
    jobs_per_worker: int = 10
    #: A worker that has had no job for so long may be ended.
    idle_minutes: int = 5
    min_workers: int = 0
    max_workers: int = 1000
    #: The first workers, which never run on spot, and the part of the others that does not.
    on_demand_workers: int = 1
    on_demand_percent: int = 0
    #: So old is what the queue tells of itself.
    lag_seconds: float = 60.0

    def needed(self, backlog: int) -> int:
        """Workers for jobs that wait, are held ahead or run."""
        return min(max(ceil(backlog / self.jobs_per_worker), self.min_workers), self.max_workers)

    def takes_spot(self, workers: int, on_demand: int) -> bool:
        """Whether one beside those workers, so many of them on-demand, is a spot machine."""
        others = max(0, workers + 1 - self.on_demand_workers)
        return on_demand >= workers + 1 - others * (1 - self.on_demand_percent / 100)
