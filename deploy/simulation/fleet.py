"""Fleet: lives through a day, from one event to the next."""

from __future__ import annotations

from collections import deque
from random import Random

from .agenda import Agenda
from .day import Day
from .worker import Worker
from .world import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS, Demand, Machine, Policy

#: Whoever is not done by then never will be, or nobody wants to know.
LONGEST_SECONDS = 7 * DAY_SECONDS


class NeverDone(Exception):
    """These workers cannot keep up with these jobs."""


def live(demand: Demand, machine: Machine, policy: Policy, *, seed: int = 1) -> Day:
    """A day that begins with no machine. The same seed means the same jobs for every fleet.

    Raises NeverDone.
    """
    random = Random(f"{seed} jobs")
    arrivals, durations = demand.arrivals(random), demand.durations(random)
    return Fleet(arrivals, durations, machine, policy, Random(f"{seed} fleet")).live()


class Fleet:
    """Jobs are numbers. A message goes to any of the workers that ask for one, idle or not."""

    def __init__(
        self,
        arrivals: list[float],
        durations: list[float],
        machine: Machine,
        policy: Policy,
        random: Random,
    ) -> None:
        self._arrivals, self._durations = arrivals, durations
        self._machine, self._policy, self._random = machine, policy, random
        self._agenda = Agenda()
        self._visible: deque[int] = deque()
        self._workers: list[Worker] = []
        self._asking: list[Worker] = []
        self._arrived = 0
        self._waits: list[float] = []
        self._backlogs: list[int] = []
        self._busy = 0.0
        self._paid = {True: 0.0, False: 0.0}
        self._peak_workers = self._peak_visible = 0
        self._launches = self._most_launches = 0
        self._interruptions = self._lost_runs = 0

    def live(self) -> Day:
        self._await_arrival()
        self._agenda.at(0.0, self._look)
        while not self._is_over:
            if self._agenda.next > LONGEST_SECONDS:
                raise NeverDone(f"{self._undone:,} jobs are left after a week")
            self._agenda.step()
        self._agenda.now = max(self._agenda.now, DAY_SECONDS)
        for worker in list(self._workers):
            self._end(worker)
        return self._day()

    @property
    def _is_over(self) -> bool:
        return self._agenda.next > DAY_SECONDS and not self._undone

    @property
    def _undone(self) -> int:
        return len(self._arrivals) - len(self._waits)

    # -- jobs ----------------------------------------------------------------------------------

    def _await_arrival(self) -> None:
        if self._arrived < len(self._arrivals):
            self._agenda.at(self._arrivals[self._arrived], self._arrive, self._arrived)

    def _arrive(self, job: int) -> None:
        self._arrived += 1
        self._await_arrival()
        self._show(job)

    def _show(self, job: int) -> None:
        self._visible.append(job)
        self._hand_out()
        self._peak_visible = max(self._peak_visible, len(self._visible))

    def _hand_out(self) -> None:
        while self._visible and self._asking:
            place = int(self._random.random() * len(self._asking))
            worker = self._asking[place]
            worker.held.append(self._visible.popleft())
            if len(worker.held) > self._machine.prefetch:
                del self._asking[place]
            if len(worker.held) == 1:
                self._begin(worker)

    def _begin(self, worker: Worker) -> None:
        worker.since = self._agenda.now
        self._agenda.after(self._durations[worker.held[0]], self._finish, worker)

    def _finish(self, worker: Worker) -> None:
        if worker.is_gone:
            return
        job = worker.held.popleft()
        self._waits.append(worker.since - self._arrivals[job])
        self._busy += self._durations[job]
        if len(worker.held) == self._machine.prefetch:
            self._asking.append(worker)
        if worker.held:
            self._begin(worker)
        else:
            worker.since = self._agenda.now
        self._hand_out()

    # -- workers -------------------------------------------------------------------------------

    def _launch(self) -> None:
        on_demand = sum(not worker.is_spot for worker in self._workers)
        is_spot = self._policy.takes_spot(len(self._workers), on_demand)
        worker = Worker(is_spot, launched=self._agenda.now, since=self._agenda.now)
        self._workers.append(worker)
        self._launches += 1
        self._agenda.after(self._machine.cold_start_seconds, self._get_ready, worker)
        if is_spot and self._machine.interruptions_per_hour:
            rate = self._machine.interruptions_per_hour / HOUR_SECONDS
            self._agenda.after(self._random.expovariate(rate), self._interrupt, worker)

    def _get_ready(self, worker: Worker) -> None:
        if not worker.is_gone:
            self._asking.append(worker)
            self._hand_out()

    def _interrupt(self, worker: Worker) -> None:
        if worker.is_gone:
            return
        self._interruptions += 1
        if worker.held:
            self._lost_runs += 1
            self._busy += self._agenda.now - worker.since
        for job in worker.held:
            self._agenda.after(self._machine.visibility_seconds, self._show, job)
        self._end(worker)

    def _end(self, worker: Worker) -> None:
        worker.is_gone = True
        self._workers.remove(worker)
        if worker in self._asking:
            self._asking.remove(worker)
        self._paid[worker.is_spot] += self._agenda.now - worker.launched

    # -- their number --------------------------------------------------------------------------

    def _look(self, _: None) -> None:
        backlog = self._arrived - len(self._waits)
        self._backlogs.append(backlog)
        self._agenda.after(self._policy.lag_seconds, self._scale, backlog)
        self._agenda.after(MINUTE_SECONDS, self._look)

    def _scale(self, backlog: int) -> None:
        lacking = self._policy.needed(backlog) - len(self._workers)
        for _ in range(lacking):
            self._launch()
        for worker in self._idle()[: max(0, -lacking)]:
            self._end(worker)
        self._peak_workers = max(self._peak_workers, len(self._workers))
        self._most_launches = max(self._most_launches, lacking)

    def _idle(self) -> list[Worker]:
        """Those that nobody protects any more, spot machines first."""
        last = self._agenda.now - self._policy.idle_minutes * MINUTE_SECONDS
        idle = [worker for worker in self._workers if not worker.held and worker.since <= last]
        return sorted(idle, key=lambda worker: worker.is_spot, reverse=True)

    def _day(self) -> Day:
        return Day(
            waits=sorted(self._waits),
            busy_seconds=self._busy,
            on_demand_seconds=self._paid[False],
            spot_seconds=self._paid[True],
            seconds=self._agenda.now,
            peak_workers=self._peak_workers,
            launches=self._launches,
            most_launches=self._most_launches,
            interruptions=self._interruptions,
            lost_runs=self._lost_runs,
            peak_visible=self._peak_visible,
            backlogs=self._backlogs,
        )
