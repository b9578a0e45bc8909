"""What came of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .world import HOUR_SECONDS, Prices


@dataclass(frozen=True)
class Day:
    """Times are in seconds."""

    #: Of each job from its submit to the run that counted, in order.
    waits: Sequence[float]
    busy_seconds: float
    on_demand_seconds: float
    spot_seconds: float
    #: From midnight until the last job has ended, a day at least.
    seconds: float
    peak_workers: int
    launches: int
    #: At one time.
    most_launches: int
    #: Of spot machines, by EC2.
    interruptions: int
    #: Runs that were lost with their workers, and done again.
    lost_runs: int
    #: Jobs that nobody had taken.
    peak_visible: int
    #: Jobs that waited, were held ahead or ran, at each look at the queue.
    backlogs: Sequence[int]

    @property
    def paid_hours(self) -> float:
        return (self.on_demand_seconds + self.spot_seconds) / HOUR_SECONDS

    @property
    def busy_hours(self) -> float:
        return self.busy_seconds / HOUR_SECONDS

    @property
    def utilisation(self) -> float:
        """The part of the paid time in which jobs ran."""
        return self.busy_hours / self.paid_hours if self.paid_hours else 0.0

    def waited(self, part: float) -> float:
        """Within how many seconds that part of the jobs began."""
        last = len(self.waits) - 1
        return self.waits[round(part * last)] if self.waits else 0.0

    def cost(self, prices: Prices) -> float:
        dollars = self.on_demand_seconds * prices.on_demand + self.spot_seconds * prices.spot
        return dollars / HOUR_SECONDS
