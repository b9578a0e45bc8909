"""The model of a fleet: what it must keep to, whatever the numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean

import pytest
from unified_api.deploy.simulate import MIN_WORKERS, World, defaults, swept, workers
from unified_api.deploy.simulation import limits
from unified_api.deploy.simulation.day import Day
from unified_api.deploy.simulation.fleet import Fleet, NeverDone, live
from unified_api.deploy.simulation.world import DAY_SECONDS, Demand, Machine, Policy, Prices
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge import backlog, heartbeat, reaper

ROOT = Path(__file__).resolve().parents[3]
CHAPTER = ROOT / "docs" / "capacity.md"
TEMPLATE = ROOT / "deploy" / "cloudformation.yaml"
#: A parameter of the template that is a number with a default.
PARAMETER = re.compile(r"^  (\w+):\n    Type: Number\n    Default: (\d+)$", re.MULTILINE)
WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
MACHINE, POLICY = Machine(), Policy()
ON_DEMAND = Policy(on_demand_percent=100)
SPOT = Policy(on_demand_workers=0)
#: A day of which few machines see the end.
HARSH = Machine(interruptions_per_hour=10.0)
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
    machine: Machine = MACHINE,
    policy: Policy = ON_DEMAND,
    random: Random | None = None,
) -> Day:
    """Jobs are told by when they come and how long they take."""
    arrivals, durations = [come for come, _ in jobs], [take for _, take in jobs]
    return Fleet(arrivals, durations, machine, policy, random or Random(1)).live()


def seconds_of_work(demand: Demand, *, seed: int) -> float:
    random = Random(f"{seed} jobs")
    demand.arrivals(random)
    return sum(demand.durations(random))


@pytest.mark.parametrize("machine", [MACHINE, HARSH, replace(HARSH, prefetch=0)])
def test_every_job_is_done_once(machine: Machine):
    day = live(BUSY, machine, SPOT)

    assert len(day.waits) == BUSY.jobs
    assert min(day.waits) >= 0


def test_on_demand_machines_run_what_was_asked_for_and_no_more():
    day = live(BUSY, HARSH, ON_DEMAND)

    assert day.busy_seconds == pytest.approx(seconds_of_work(BUSY, seed=1))
    assert day.interruptions == day.lost_runs == 0


def test_what_is_lost_is_run_again():
    day = live(BUSY, HARSH, SPOT)

    work = seconds_of_work(BUSY, seed=1)
    assert day.interruptions >= day.lost_runs > 0
    assert work < day.busy_seconds < day.paid_hours * 3600


def test_a_day_without_jobs_costs_nothing():
    day = live(Demand(jobs=0), MACHINE, POLICY)

    assert day.cost(Prices()) == 0
    assert day.launches == 0


def test_a_machine_that_is_kept_is_paid_all_day():
    day = live(Demand(jobs=0), MACHINE, Policy(min_workers=1))

    # The queue is first looked at at midnight, and that is acted on a minute later.
    assert day.on_demand_seconds == DAY_SECONDS - 60


def test_a_job_alone_waits_for_a_look_and_a_cold_start():
    day = day_of((100.0, 12.0))

    # Seen at 120 s, acted on at 180 s, ready at 420 s.
    assert day.waits == [320.0]


def test_a_machine_is_ended_when_it_has_been_idle_for_long_enough():
    day = day_of((100.0, 12.0))

    # Launched at 180 s, idle from 432 s on; the first decision after 732 s is that of 780 s.
    assert day.on_demand_seconds == 600.0


def test_a_machine_that_is_at_work_is_not_ended():
    two_for_three_jobs = replace(ON_DEMAND, jobs_per_worker=2)

    day = day_of(
        *[(100.0, 1.0), (100.0, 7200.0), (100.0, 7200.0)],
        machine=Machine(prefetch=0),
        policy=two_for_three_jobs,
    )

    # Two jobs are left, for which one machine would be enough.
    assert day.busy_seconds == 1.0 + 2 * 7200.0
    assert day.launches == 2


def test_a_job_that_was_lost_comes_again_after_its_visibility():
    machine = Machine(cold_start_seconds=100.0, visibility_seconds=1000.0)
    never = 2 * DAY_SECONDS

    day = day_of((100.0, 300.0), machine=machine, policy=SPOT, random=Fates(200.0, never))

    # Launched at 180 s, begun at 280 s, lost at 380 s and seen again at 1380 s.
    assert day.waits == [1280.0]
    assert day.busy_seconds == 100.0 + 300.0
    assert day.lost_runs == 1


def test_the_first_machines_are_not_on_spot():
    mixed = Policy(min_workers=6, on_demand_workers=2, on_demand_percent=50)

    day = live(Demand(jobs=0), Machine(interruptions_per_hour=0), mixed)

    # Two, and half of the four others.
    assert day.spot_seconds == pytest.approx(2 * (DAY_SECONDS - 60))
    assert day.on_demand_seconds == pytest.approx(4 * (DAY_SECONDS - 60))


def test_spot_machines_go_before_those_that_stay():
    one_of_two_stays = Policy(jobs_per_worker=1, idle_minutes=0, min_workers=1)
    machine = Machine(prefetch=0, interruptions_per_hour=0)

    # Done at 425 s by the first machine, and at 432 s by the other.
    day = day_of((100.0, 125.0), (100.0, 12.0), machine=machine, policy=one_of_two_stays)

    assert day.on_demand_seconds == DAY_SECONDS - 60
    assert 0 < day.spot_seconds < 3600


def test_a_fleet_that_cannot_keep_up_is_told_of():
    with pytest.raises(NeverDone, match="jobs are left"):
        live(Demand(jobs=3000, job_seconds=1200.0), MACHINE, Policy(max_workers=1))


def test_there_are_never_more_machines_than_allowed():
    burst = Demand(jobs=2000, hours=(1,))

    day = live(burst, HARSH, Policy(max_workers=7))

    assert day.peak_workers == 7


def test_jobs_under_way_are_arrivals_times_the_time_they_stay():
    day = live(BUSY, MACHINE, ON_DEMAND)

    stayed = sum(day.waits) + day.busy_seconds
    assert fmean(day.backlogs) == pytest.approx(stayed / day.seconds, rel=0.05)


def test_the_same_seed_is_the_same_day():
    once, again, other = (live(BUSY, HARSH, SPOT, seed=seed) for seed in (1, 1, 2))

    assert once == again
    assert once.waits != other.waits


def test_jobs_come_as_the_hours_say_and_take_what_is_assumed():
    demand = Demand(jobs=20_000, hours=(0, 1, 3))

    arrivals, durations = demand.arrivals(Random(1)), demand.durations(Random(1))

    assert 3600 <= arrivals[0] <= arrivals[-1] <= 3 * 3600
    assert sum(come > 2 * 3600 for come in arrivals) == pytest.approx(15_000, rel=0.02)
    assert fmean(durations) == pytest.approx(12.0, rel=0.02)


def test_a_policy_keeps_within_its_bounds():
    policy = Policy(jobs_per_worker=10, min_workers=1, max_workers=5)

    assert [policy.needed(jobs) for jobs in (0, 10, 11, 21, 1000)] == [1, 1, 2, 3, 5]


def test_defaults_are_those_of_the_template():
    parameters = PARAMETER.findall(TEMPLATE.read_text(encoding="utf-8"))
    of_template = {WORDS.sub("_", name).lower(): int(value) for name, value in parameters}

    same = ("jobs_per_worker", "idle_minutes", "min_workers", "on_demand_workers")
    for name in (*same, "on_demand_percent"):
        assert of_template[name] == getattr(POLICY, name), name
    # What somebody is ready to pay for is not to be computed.
    assert of_template["max_workers"] < POLICY.max_workers


def test_what_the_limits_know_of_the_service_is_true():
    settings = Settings.from_env({})

    assert settings.max_pending == limits.MOST_PENDING
    assert settings.prefetch == MACHINE.prefetch
    assert settings.visibility_seconds == MACHINE.visibility_seconds
    assert heartbeat.TELL_SECONDS == limits.TELL_SECONDS
    assert backlog.COUNT_SECONDS == reaper.GIVE_UP_SECONDS == limits.COUNT_SECONDS


def test_the_index_key_of_running_jobs_is_written_by_each_job_and_each_telling():
    nothing = live(Demand(jobs=0), MACHINE, POLICY)
    million = limits.Load(Demand(jobs=1_000_000), MACHINE, nothing)
    (processing,) = (each for each in limits.LIMITS if "`processing`" in each.name)

    # 25 jobs a second, 3 writes each; 600 are held, each told of every 2 s; 2 units a write.
    assert processing.needs(million) == pytest.approx(750)
    assert processing.reached_at(million) == pytest.approx(1_333_333, rel=0.01)


def test_a_table_shows_what_is_assumed_in_bold():
    world = World(Demand(jobs=10), MACHINE, POLICY, Prices(), days=1)

    *_, none, one = swept(world, MIN_WORKERS).strip().splitlines()

    assert none.startswith("| **0** |")
    assert one.startswith("| 1 |")
    assert one.count("|") == workers([world], [world.day(seed=1)]).splitlines()[0].count("|") - 1


def test_the_chapter_names_every_option_with_its_default():
    text = CHAPTER.read_text(encoding="utf-8")

    rows = {f"| `--{name.replace('_', '-')}` | {value:g} |" for name, value in defaults().items()}
    assert {row for row in rows if row not in text} == set()


@pytest.mark.parametrize("jobs", [100, 10_000])
def test_the_chapter_has_the_figures_of_today(jobs: int):
    world = World(Demand(jobs=jobs), MACHINE, POLICY, Prices(), days=1)

    row = workers([world], [world.day(seed=1)]).splitlines()[-1]

    assert row in CHAPTER.read_text(encoding="utf-8")
