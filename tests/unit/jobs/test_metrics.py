"""What a monitoring system is told, read by Prometheus' own parser, and who may read it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from math import inf

import prometheus_client
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from unified_api.jobs.errors import ExecutionFailed, OutOfMemory
from unified_api.jobs.health import Component, State, Watched
from unified_api.jobs.job import Job, Stage, Status
from unified_api.jobs.keys import Key
from unified_api.jobs.metrics import OTHER, Metrics, WorkMetrics
from unified_api.jobs.offer import Offer
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.prompt import Ending
from unified_api.routes import Lock, mount
from unified_api.routes.auth import Keyring
from unified_api.routes.listener import application
from unified_api.routes.service import Surface
from unified_api.sqs_bridge.orchestrator import orchestrator
from unified_api.workflows import Catalog

from ..fake_host import until

ENDED = "unified_api_jobs_ended_total"
ACCEPTED = "unified_api_jobs_accepted_total"
WAITING = "unified_api_jobs_waiting"
STATE = "unified_api_component_state"
STAGES = "unified_api_job_stage_seconds_count"
BUSY = "unified_api_gpu_busy_seconds_total"
GAPS = "unified_api_gpu_idle_gap_seconds_count"
GAP_SECONDS = "unified_api_gpu_idle_gap_seconds_sum"
LAG = "unified_api_loop_lag_seconds"
MESSAGES = "unified_api_queue_messages"
STAGE_NAMES = ("queued", "inputs", "run", "publish")


def families_of(text):
    return list(text_string_to_metric_families(text.decode()))


class Read:
    """An exposition by name and labels; what is not in it is 0."""

    def __init__(self, text):
        samples = [sample for family in families_of(text) for sample in family.samples]
        self.values = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}

    def __call__(self, name, **labels):
        return self.values.get((name, tuple(sorted(labels.items()))), 0)

    def labels(self, name, label):
        """All values of a label."""
        return {dict(labels)[label] for known, labels in self.values if known == name}


def read(service):
    return Read(service.metrics.text(service.components()))


def job_of(job_id="a", workflow="draw"):
    return Job(job_id=job_id, workflow=workflow, parameters={}, created_at=0)


class NeverPublishes(LocalResults):
    async def publish(self, job):
        await asyncio.Event().wait()


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics(definitions, clock):
    offer = Offer(Catalog([definitions]))
    offer.refresh()
    return WorkMetrics(offer, clock=clock)


async def submit(engine, slug="draw", **parameters):
    return (await engine.submit(slug, parameters)).job


async def stage_is(engine, job, stage):
    return (await engine.get(job.job_id))[0].stage is stage


async def counted(bench, engine, outcome, workflow="draw"):
    """The metrics once a job has ended so."""
    await bench.until(lambda: read(engine)(ENDED, workflow=workflow, outcome=outcome))
    return read(engine)


# Jobs


async def test_a_completed_job_counts_with_the_time_of_each_stage(engine, bench):
    await submit(engine)

    told = await counted(bench, engine, "completed")

    assert told(ENDED, workflow="draw", outcome="completed") == 1
    assert told(ACCEPTED, workflow="draw") == 1
    assert [told(STAGES, workflow="draw", stage=stage) for stage in STAGE_NAMES] == [1] * 4


async def test_a_failed_job_counts_with_the_stages_that_it_saw(engine, bench):
    bench.host.endings.append(Ending(failure=ExecutionFailed()))
    await submit(engine)

    told = await counted(bench, engine, "failed")

    assert told(ENDED, workflow="draw", outcome="completed") == 0
    assert [told(STAGES, workflow="draw", stage=stage) for stage in STAGE_NAMES] == [1, 1, 0, 0]


async def test_a_running_job_that_is_cancelled_counts(engine, bench):
    bench.host.gate.clear()
    job = await submit(engine)
    await bench.until(lambda: bench.host.prompts)

    await engine.cancel(job.job_id)

    told = await counted(bench, engine, "cancelled")
    assert told(ENDED, workflow="draw", outcome="cancelled") == 1


async def test_a_job_that_nobody_took_up_counts_once_when_it_is_cancelled(bench):
    engine = await bench.open(fetch_ahead=1)
    bench.host.gate.clear()
    jobs = [await submit(engine) for _ in range(4)]
    await bench.until(lambda: len(bench.host.queue) == 2)

    await engine.cancel(jobs[-1].job_id)
    await engine.cancel(jobs[-1].job_id)

    assert read(engine)(ENDED, workflow="draw", outcome="cancelled") == 1


async def test_a_job_whose_time_is_over_before_anybody_took_it_up_counts(bench):
    engine = await bench.open(fetch_ahead=1)
    bench.host.gate.clear()
    for _ in range(3):
        await submit(engine)
    await bench.until(lambda: len(bench.host.queue) == 2)

    await engine.submit("draw", {}, cancel_after=0.01)

    told = await counted(bench, engine, "failed")
    assert told(ENDED, workflow="draw", outcome="failed") == 1


async def test_a_job_that_is_tried_again_counts_at_its_end_only(engine, bench):
    bench.host.endings.append(Ending(failure=OutOfMemory()))
    await submit(engine)

    told = await counted(bench, engine, "completed")

    assert len(bench.host.prompts) == 2
    assert told(ENDED, workflow="draw", outcome="failed") == 0
    assert told(STAGES, workflow="draw", stage="run") == 1


async def test_an_equal_request_counts_as_no_new_job(engine, bench):
    for _ in range(2):
        await engine.submit("draw", {}, owner="ann", idempotency_key="k")

    assert read(engine)(ACCEPTED, workflow="draw") == 1


async def test_jobs_that_have_not_begun_are_waiting(bench):
    engine = await bench.open(fetch_ahead=1)
    bench.host.gate.clear()
    for _ in range(5):
        await submit(engine)
    await bench.until(lambda: bench.host.prompts)

    assert read(engine)(WAITING) == 4

    bench.host.gate.set()
    await bench.until(lambda: read(engine)(WAITING) == 0)


async def test_a_job_that_is_only_to_be_published_is_not_waiting(bench):
    engine = await bench.open(results=NeverPublishes(bench.results_folder))
    job = await submit(engine)
    await bench.until(lambda: stage_is(engine, job, Stage.PUBLISHING))
    await bench.crash(engine)

    again = await bench.open(results=NeverPublishes(bench.results_folder))

    assert await stage_is(again, job, Stage.PUBLISHING)
    assert read(again)(WAITING) == 0


async def test_the_job_of_a_workflow_that_is_gone_counts_among_others(engine, bench):
    bench.host.gate.clear()
    await submit(engine)
    await bench.until(lambda: bench.host.prompts)
    shutil.rmtree(bench.definitions / "draw")
    await bench.until(lambda: "draw" not in {offered.slug for offered in engine.offer.all()})

    bench.host.gate.set()

    await counted(bench, engine, "completed", workflow=OTHER)


def test_strangers_make_no_series(metrics):
    for number in range(1000):
        job = job_of(f"job-{number}", workflow=f'"{number}"\n{{}}')
        metrics.accepted(job)
        metrics.ended(job.cancelled(now=1))

    told = Read(metrics.text({}))

    assert told.labels(ENDED, "workflow") == {"draw", "edit", OTHER}
    assert told.labels(ACCEPTED, "workflow") == {"draw", "edit", OTHER}
    assert told(ENDED, workflow=OTHER, outcome="cancelled") == 1000


def test_counters_are_there_before_they_count(metrics):
    told = Read(metrics.text({}))

    for workflow in ("draw", "edit"):
        assert (ACCEPTED, (("workflow", workflow),)) in told.values
        for outcome in ("completed", "failed", "cancelled"):
            labels = (("outcome", outcome), ("workflow", workflow))
            assert (ENDED, labels) in told.values


# The GPU


def test_the_gpu_is_busy_while_a_prompt_runs(metrics, clock):
    metrics.prompt_began("a", taken_up=99)
    clock.now += 5
    midway = Read(metrics.text({}))(BUSY)
    clock.now += 2
    metrics.prompt_ended("a")
    clock.now += 60

    assert (midway, Read(metrics.text({}))(BUSY)) == (5, 7)


def test_a_gap_is_counted_if_the_next_job_was_waiting(metrics, clock):
    metrics.prompt_began("a", taken_up=99)
    clock.now = 110
    metrics.prompt_ended("a")
    clock.now = 113
    metrics.prompt_began("b", taken_up=109)

    told = Read(metrics.text({}))
    assert (told(GAPS), told(GAP_SECONDS)) == (1, 3)


def test_no_gap_is_counted_if_nothing_was_waiting(metrics, clock):
    metrics.prompt_began("a", taken_up=99)
    clock.now = 110
    metrics.prompt_ended("a")
    clock.now = 113
    metrics.prompt_began("b", taken_up=111)

    assert Read(metrics.text({}))(GAPS) == 0


def test_an_end_that_is_told_after_the_next_beginning_is_no_gap(metrics, clock):
    metrics.prompt_began("a", taken_up=99)
    clock.now = 110
    metrics.prompt_began("b", taken_up=99)
    clock.now = 111
    metrics.prompt_ended("a")
    clock.now = 115
    metrics.prompt_ended("b")

    told = Read(metrics.text({}))
    assert (told(GAPS), told(GAP_SECONDS), told(BUSY)) == (1, 0, 15)


def test_after_a_prompt_whose_end_nobody_saw_no_gap_is_counted(metrics, clock):
    metrics.prompt_began("a", taken_up=99)
    clock.now = 110
    metrics.put_down(job_of("a").cancelled(now=1))
    clock.now = 113
    metrics.prompt_began("b", taken_up=99)

    told = Read(metrics.text({}))
    assert (told(GAPS), told(BUSY)) == (0, 10)


def test_a_prompt_that_never_began_changes_nothing(metrics, clock):
    metrics.prompt_ended("a")
    metrics.put_down(job_of("a").cancelled(now=1))
    clock.now += 5

    assert Read(metrics.text({}))(BUSY) == 0


async def test_the_engine_tells_when_prompts_begin_and_end(engine, bench):
    bench.host.gate.clear()
    for _ in range(2):
        await submit(engine)
    await bench.until(lambda: len(bench.host.queue) == 2)

    await bench.until(lambda: read(engine)(BUSY) > 0.01)

    bench.host.gate.set()
    await bench.until(lambda: read(engine)(ENDED, workflow="draw", outcome="completed") == 2)
    assert read(engine)(GAPS) == 1


async def test_a_job_that_is_being_published_keeps_nothing_busy(bench):
    engine = await bench.open(results=NeverPublishes(bench.results_folder))
    job = await submit(engine)

    await bench.until(lambda: stage_is(engine, job, Stage.PUBLISHING))

    assert read(engine)(BUSY) == read(engine)(BUSY)


# The process


async def test_a_loop_that_is_held_up_is_told(definitions):
    """The clock goes 1.5 s for each tick of no time."""
    clock = count(0, 1.5).__next__
    metrics = Metrics(Offer(Catalog([definitions])), clock=clock, tick_seconds=0)
    feeling = asyncio.create_task(metrics.feel_lag())

    told = await until(lambda: (r := Read(metrics.text({})))(f"{LAG}_count") and r)

    feeling.cancel()
    assert told(f"{LAG}_sum") == 1.5 * told(f"{LAG}_count")
    assert told(f"{LAG}_bucket", le="1.0") == 0


async def test_a_started_engine_feels_the_lag(engine, bench):
    await bench.until(lambda: read(engine)(f"{LAG}_count"))


def test_components_have_numbers(metrics):
    states = dict(zip("abc", State, strict=True))

    told = Read(metrics.text({name: Component(state) for name, state in states.items()}))

    assert [told(STATE, component=name) for name in "abc"] == [0, 1, 2]


def test_a_component_that_is_gone_is_told_no_more(metrics):
    metrics.text({"webhooks": Component(State.DEGRADED)})

    assert Read(metrics.text({})).labels(STATE, "component") == set()


def test_webhooks_count(metrics):
    for error in (None, "timeout", "refused"):
        metrics.webhook_tried(error)

    told = Read(metrics.text({}))
    assert told("unified_api_webhook_deliveries_total") == 1
    assert told("unified_api_webhook_failures_total") == 2


def test_each_queue_is_counted_in_each_state_when_somebody_looks(metrics):
    counts = {"normal": 7, "high": 1}
    metrics.show_queue(lambda queue, state: counts[queue] * len(state), queues=counts)

    counts["high"] = 2

    told = Read(metrics.text({}))
    assert told(MESSAGES, queue="normal", state="visible") == 49
    assert told(MESSAGES, queue="high", state="in_flight") == 18


def test_an_end_of_which_little_is_known_counts_too(metrics):
    for workflow in ("draw", "", "nothing"):
        metrics.count_end(workflow, Status.FAILED)

    told = Read(metrics.text({}))
    assert told(ENDED, workflow="draw", outcome="failed") == 1
    assert told(ENDED, workflow=OTHER, outcome="failed") == 2


async def test_two_engines_count_apart_and_touch_nobody_elses_metrics(engine, bench, tmp_path):
    other = await bench.open()

    await submit(engine)

    assert read(engine)(ACCEPTED, workflow="draw") == 1
    assert read(other)(ACCEPTED, workflow="draw") == 0
    assert b"unified_api" not in prometheus_client.generate_latest()


def test_names_units_and_buckets_are_as_prometheus_wants_them(metrics):
    metrics.show_waiting(lambda: 3)
    metrics.show_held(lambda: 2)
    metrics.show_queue(lambda queue, state: 1, queues=["normal"])
    metrics.ended(job_of().cancelled(now=1))

    families = [f for f in families_of(metrics.text({})) if not f.name.endswith("_created")]

    assert {family.type for family in families} == {"counter", "gauge", "histogram"}
    for family in families:
        assert family.name.startswith("unified_api_")
        assert family.documentation
        assert family.type != "histogram" or family.name.endswith("_seconds")
    for buckets in histograms(families):
        assert list(buckets) == sorted(buckets)
        assert list(buckets)[-1] == inf


def histograms(families) -> Iterator[dict[float, float]]:
    """The buckets of each histogram, by their upper bounds."""
    for family in families:
        buckets = {float(s.labels["le"]): s.value for s in family.samples if "le" in s.labels}
        if buckets:
            yield buckets


# Who may read them


SECRETS = {"reader": "uak_reader", "sender": "uak_sender"}
KEYRING = Keyring(
    [
        Key(name=name, scopes=[scope], sha256=sha256(SECRETS[name].encode()).hexdigest())
        for name, scope in (("reader", "read"), ("sender", "submit"))
    ]
)
ON_COMFYUI, ON_A_PORT_OF_ITS_OWN, LOCKED = "comfyui", "own", "locked"
everywhere = pytest.mark.parametrize("where", [ON_COMFYUI, ON_A_PORT_OF_ITS_OWN, LOCKED])


@pytest.fixture
def serve(aiohttp_client, engine):
    async def start(where, **surface):
        made = Surface("1", **surface)
        app = application(engine, made) if where == ON_A_PORT_OF_ITS_OWN else web.Application()
        if where != ON_A_PORT_OF_ITS_OWN:
            mount(app, engine, made)
        if where == LOCKED:
            Lock(lambda: app)
        return await aiohttp_client(app)

    return start


@everywhere
async def test_without_keys_they_are_open_on_this_machine(serve, where):
    part = Watched("listener", lambda: Component(State.UNHEALTHY))
    client = await serve(where, is_local=True, parts=(part,))

    reply = await client.get("/metrics")

    told = Read(await reply.read())
    assert (reply.status, reply.content_type) == (200, "text/plain")
    assert "version=0.0.4" in reply.headers["Content-Type"]
    assert (STATE, (("component", "store"),)) in told.values
    assert told(STATE, component="listener") == 2


@everywhere
async def test_without_keys_the_network_does_not_see_them(serve, where):
    client = await serve(where, is_open=False)

    reply = await client.get("/metrics")

    told = await reply.json()
    assert (reply.status, told["code"]) == (503, "auth_not_configured")


@everywhere
@pytest.mark.parametrize(
    ("secret", "status"),
    [(None, 401), ("uak_wrong", 401), (SECRETS["sender"], 403), (SECRETS["reader"], 200)],
)
async def test_with_keys_they_take_the_scope_read(serve, where, secret, status):
    client = await serve(where, keyring=KEYRING)
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    reply = await client.get("/metrics", headers=headers)

    assert reply.status == status
    assert (b"unified_api_" in await reply.read()) == (status == 200)
    assert reply.headers["X-Request-Id"]


@everywhere
async def test_web_pages_of_others_may_not_read_them(serve, where):
    client = await serve(where)

    reply = await client.get("/metrics", headers={"Origin": "https://evil.example"})

    assert reply.status == 403


async def test_an_orchestrator_tells_what_it_knows(aiohttp_client, settings):
    client = await aiohttp_client(orchestrator(settings()))

    reply = await client.get("/metrics")

    told = Read(await reply.read())
    assert (reply.status, told(STATE, component="sqs")) == (200, 2)
    assert (WAITING, ()) in told.values
    assert (ACCEPTED, (("workflow", "image-resize"),)) in told.values
    assert (ENDED, (("outcome", "failed"), ("workflow", "image-resize"))) in told.values
    assert told.labels(STAGES, "workflow") == set()
