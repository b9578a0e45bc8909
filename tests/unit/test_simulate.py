"""The model of a fleet: what it must keep to, whatever the numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean

import pytest
from unified_api.deploy.simulate import FEWEST, World, defaults, swept, workers
from unified_api.deploy.simulation import limits
from unified_api.deploy.simulation.day import Day
from unified_api.deploy.simulation.fleet import Fleet, NeverDone, live
from unified_api.deploy.simulation.world import DAY_SECONDS, Demand, Machine, Policy, Prices
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge import backlog, heartbeat, reaper

HANDBOOK = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
POLICY = Policy()
ON_DEMAND = Machine(spot_share=0.0)
#: A day of which few machines see the end.
HARSH = Machine(on_demand_workers=0, losses_per_hour=10.0)
#: So that a fleet of some machines is at work all day.
BUSY = Demand(jobs=2000, job_seconds=60.0)


class Fates(Random):
    """Tells when each machine is lost, instead of drawing it."""

    def __init__(self, *seconds: float) -> None:
        super().__init__(1)
        self._seconds = list(seconds)

    def expovariate(self, lambd: float = 1.0) -> float:
        return self._seconds.pop(0)


def day_of(
    *jobs: tuple[float, float],
    machine: Machine = ON_DEMAND,
    policy: Policy = POLICY,
    random: Random | None = None,
) -> Day:
    """Jobs are told by when they come and how long they take."""
    arrivals, durations = [come for come, _ in jobs], [take for _, take in jobs]
    return Fleet(arrivals, durations, machine, policy, random or Random(1)).live()


def seconds_of_work(demand: Demand, *, seed: int) -> float:
    random = Random(f"{seed} jobs")
    demand.arrivals(random)
    return sum(demand.durations(random))


@pytest.mark.parametrize("machine", [ON_DEMAND, HARSH, replace(HARSH, prefetch=0)])
def test_every_job_is_done_once(machine: Machine):
    day = live(BUSY, machine, Policy(job_seconds=60.0))

    assert len(day.waits) == BUSY.jobs
    assert min(day.waits) >= 0


def test_without_losses_machines_run_what_was_asked_for_and_no_more():
    day = live(BUSY, ON_DEMAND, Policy(job_seconds=60.0))

    assert day.busy_seconds == pytest.approx(seconds_of_work(BUSY, seed=1))
    assert day.lost_workers == day.lost_runs == 0


def test_what_is_lost_is_run_again():
    day = live(BUSY, HARSH, Policy(job_seconds=60.0))

    work = seconds_of_work(BUSY, seed=1)
    assert day.lost_workers >= day.lost_runs > 0
    assert work < day.busy_seconds < day.paid_hours * 3600


def test_a_day_without_jobs_costs_nothing():
    day = live(Demand(jobs=0), Machine(), Policy(fewest=0))

    assert day.cost(Prices()) == 0
    assert day.launches == 0


def test_a_machine_that_is_kept_is_paid_all_day():
    day = live(Demand(jobs=0), ON_DEMAND, Policy(fewest=1))

    # The queue is first looked at at midnight, and that is acted on a minute later.
    assert day.on_demand_seconds == DAY_SECONDS - 60


def test_a_job_alone_waits_for_a_look_and_a_cold_start():
    day = day_of((100.0, 12.0))

    # Seen at 120 s, acted on at 180 s, ready at 420 s.
    assert day.waits == [320.0]


def test_a_machine_is_ended_when_it_has_been_idle_for_long_enough():
    day = day_of((100.0, 12.0), policy=Policy(idle_seconds=300.0))

    # Launched at 180 s and idle from 432 s on; the first look acted on after 732 s is at 780 s.
    assert day.on_demand_seconds == 600.0


def test_a_machine_that_is_at_work_is_not_ended():
    one_at_a_time = replace(ON_DEMAND, prefetch=0)
    two_for_three_jobs = Policy(backlog_seconds=24.0, job_seconds=12.0)

    day = day_of(
        *[(100.0, 1.0), (100.0, 7200.0), (100.0, 7200.0)],
        machine=one_at_a_time,
        policy=two_for_three_jobs,
    )

    # Two jobs are left, for which one machine would be enough.
    assert day.busy_seconds == 1.0 + 2 * 7200.0
    assert day.launches == 2


def test_a_job_that_was_lost_comes_again_after_its_visibility():
    spot = Machine(on_demand_workers=0, cold_start_seconds=100.0, visibility_seconds=1000.0)
    never = 2 * DAY_SECONDS

    day = day_of((100.0, 300.0), machine=spot, random=Fates(200.0, never))

    # Launched at 180 s, begun at 280 s, lost at 380 s and seen again at 1380 s.
    assert day.waits == [1280.0]
    assert day.busy_seconds == 100.0 + 300.0
    assert day.lost_runs == 1


def test_the_first_machines_are_not_on_spot():
    mixed = Machine(on_demand_workers=2, spot_share=0.5, losses_per_hour=0.0)

    day = live(Demand(jobs=0), mixed, Policy(fewest=6))

    # Two, and half of the four others.
    assert day.spot_seconds == pytest.approx(2 * (DAY_SECONDS - 60))
    assert day.on_demand_seconds == pytest.approx(4 * (DAY_SECONDS - 60))


def test_a_fleet_that_cannot_keep_up_is_told_of():
    with pytest.raises(NeverDone, match="jobs are left"):
        live(Demand(jobs=3000, job_seconds=1200.0), ON_DEMAND, Policy(most=1))


def test_there_are_never_more_machines_than_allowed():
    burst = Demand(jobs=2000, hours=(1,))

    day = live(burst, HARSH, Policy(most=7))

    assert day.peak_workers == 7


def test_jobs_under_way_are_arrivals_times_the_time_they_stay():
    day = live(BUSY, ON_DEMAND, Policy(job_seconds=60.0))

    stayed = sum(day.waits) + day.busy_seconds
    assert fmean(day.backlogs) == pytest.approx(stayed / day.seconds, rel=0.05)


def test_the_same_seed_is_the_same_day():
    once, again, other = (live(BUSY, HARSH, POLICY, seed=seed) for seed in (1, 1, 2))

    assert once == again
    assert once.waits != other.waits


def test_jobs_come_as_the_hours_say_and_take_what_is_assumed():
    demand = Demand(jobs=20_000, hours=(0, 1, 3))

    arrivals, durations = demand.arrivals(Random(1)), demand.durations(Random(1))

    assert 3600 <= arrivals[0] <= arrivals[-1] <= 3 * 3600
    assert sum(come > 2 * 3600 for come in arrivals) == pytest.approx(15_000, rel=0.02)
    assert fmean(durations) == pytest.approx(12.0, rel=0.02)


def test_a_policy_counts_in_work_and_keeps_within_its_bounds():
    policy = Policy(backlog_seconds=120.0, job_seconds=12.0, fewest=1, most=5)

    assert [policy.workers_for(jobs) for jobs in (0, 10, 11, 21, 1000)] == [1, 1, 2, 3, 5]


def test_what_the_limits_know_of_the_service_is_true():
    settings = Settings.from_env({})

    assert settings.max_pending == limits.MOST_PENDING
    assert settings.prefetch == Machine().prefetch
    assert settings.visibility_seconds == Machine().visibility_seconds
    assert heartbeat.TELL_SECONDS == limits.TELL_SECONDS
    assert backlog.COUNT_SECONDS == reaper.GIVE_UP_SECONDS == limits.COUNT_SECONDS


def test_the_index_key_of_running_jobs_is_written_by_each_job_and_each_telling():
    nothing = live(Demand(jobs=0), Machine(), POLICY)
    million = limits.Load(Demand(jobs=1_000_000), Machine(), nothing)
    (processing,) = (each for each in limits.LIMITS if "`processing`" in each.name)

    # 25 jobs a second, 3 writes each; 600 are held, each told of every 2 s; 2 units a write.
    assert processing.needs(million) == pytest.approx(750)
    assert processing.reached_at(million) == pytest.approx(1_333_333, rel=0.01)


def test_a_table_shows_what_is_assumed_in_bold():
    world = World(Demand(jobs=10), Machine(), POLICY, Prices(), days=1)

    *_, none, one = swept(world, FEWEST).strip().splitlines()

    assert none.startswith("| **0** |")
    assert one.startswith("| 1 |")
    assert one.count("|") == workers([world], [world.day(seed=1)]).splitlines()[0].count("|") - 1


def test_the_handbook_names_every_option_with_its_default():
    text = HANDBOOK.read_text(encoding="utf-8")

    rows = {f"| `--{name.replace('_', '-')}` | {value:g} |" for name, value in defaults().items()}
    assert {row for row in rows if row not in text} == set()
