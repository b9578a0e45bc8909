"""Metrics: what a monitoring system is told. The only file that names prometheus_client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .errors import RequestRefused
from .health import Component, State
from .job import Job, Status
from .offer import Offer

#: Older readers know no other version; it is the same text.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TICK_SECONDS = 1.0
NEVER = float("-inf")
#: What a workflow is called that is not in the catalog: strangers must not name series.
OTHER = "(other)"
OUTCOMES = tuple(status.value for status in Status if status.is_final)
#: Anybody can get it, or somebody has it.
MESSAGE_STATES = ("visible", "in_flight")
LEVELS = {State.HEALTHY: 0, State.DEGRADED: 1, State.UNHEALTHY: 2}
SHORT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class Metrics:
    """What is known wherever jobs are accepted. Used on one event loop."""

    def __init__(
        self,
        offer: Offer,
        *,
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._offer = offer
        self._clock = clock
        self._tick_seconds = tick_seconds
        # Of our own: other custom nodes use the global one.
        self._registry = CollectorRegistry()
        self._accepted = Counter(
            "unified_api_jobs_accepted_total",
            "Jobs that were accepted over HTTP.",
            ["workflow"],
            registry=self._registry,
        )
        self._ended = Counter(
            "unified_api_jobs_ended_total",
            "Jobs whose end came about here.",
            ["workflow", "outcome"],
            registry=self._registry,
        )
        self._components = Gauge(
            "unified_api_component_state",
            "How a component is: 0 healthy, 1 degraded, 2 unhealthy.",
            ["component"],
            registry=self._registry,
        )
        self._lag = Histogram(
            "unified_api_loop_lag_seconds",
            "How late the event loop comes to what is due, looked at once a second.",
            registry=self._registry,
            buckets=SHORT,
        )

    def accepted(self, job: Job) -> None:
        """A new job was accepted over HTTP."""
        self._accepted.labels(self._workflow(job.workflow)).inc()

    def count_end(self, workflow: str, status: Status) -> None:
        """A job of this workflow has ended so."""
        self._ended.labels(self._workflow(workflow), status.value).inc()

    def show_waiting(self, count: Callable[[], float]) -> None:
        """Tell what this counts, whenever somebody looks."""
        self._show("unified_api_jobs_waiting", "Jobs that have not begun to run.", count)

    def show_queue(self, count: Callable[[str, str], float], *, queues: Iterable[str]) -> None:
        """Tell what this counts of each queue in each of MESSAGE_STATES."""
        gauge = Gauge(
            "unified_api_queue_messages",
            "Messages of a queue, about: those that wait (visible), those held (in_flight).",
            ["queue", "state"],
            registry=self._registry,
        )
        for queue, state in product(queues, MESSAGE_STATES):
            gauge.labels(queue, state).set_function(partial(count, queue, state))

    async def feel_lag(self) -> None:
        """For ever, how late the loop is."""
        while True:
            due = self._clock() + self._tick_seconds
            await asyncio.sleep(self._tick_seconds)
            self._lag.observe(max(0.0, self._clock() - due))

    def text(self, components: Mapping[str, Component]) -> bytes:
        """All of it as it is now, of the type MEDIA_TYPE."""
        # A part may be there only while something is wrong with it.
        self._components.clear()
        for name, component in components.items():
            self._components.labels(name).set(LEVELS[component.state])
        for offered in self._offer.all():
            self._begin_at_zero(offered.slug)
        return generate_latest(self._registry)

    def _begin_at_zero(self, workflow: str) -> None:
        """A counter that appears with its first increase hides that from whoever looks at rates."""
        self._accepted.labels(workflow)
        for outcome in OUTCOMES:
            self._ended.labels(workflow, outcome)

    def _workflow(self, slug: str) -> str:
        try:
            return self._offer.find(slug).slug
        except RequestRefused:
            return OTHER

    def _show(self, name: str, documentation: str, count: Callable[[], float]) -> None:
        Gauge(name, documentation, registry=self._registry).set_function(count)


class WorkMetrics(Metrics):
    """What is known besides where jobs are run."""

    def __init__(self, offer: Offer, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(offer, clock=clock)
        #: Jobs whose prompt runs: two for a moment when a beginning is told before an end.
        self._running: set[str] = set()
        self._free_since = NEVER
        self._accounted = clock()
        self._stages = Histogram(
            "unified_api_job_stage_seconds",
            "What an ended job spent queued, on its inputs, in its last run, on publishing.",
            ["workflow", "stage"],
            registry=self._registry,
            buckets=LONG,
        )
        self._busy = Counter(
            "unified_api_gpu_busy_seconds_total",
            "Time in which a prompt of a job ran.",
            registry=self._registry,
        )
        self._gaps = Histogram(
            "unified_api_gpu_idle_gap_seconds",
            "From the end of a prompt to the beginning of the next, if its job was waiting.",
            registry=self._registry,
            buckets=SHORT,
        )
        self._warm_ups = Gauge(
            "unified_api_warm_up_seconds",
            "What the warm-up of a workflow took when this process started.",
            ["workflow"],
            registry=self._registry,
        )
        self._deliveries = Counter(
            "unified_api_webhook_deliveries_total",
            "Webhooks that were taken by their receivers.",
            registry=self._registry,
        )
        self._failures = Counter(
            "unified_api_webhook_failures_total",
            "Tries to deliver a webhook that failed.",
            registry=self._registry,
        )

    @property
    def running(self) -> int:
        """How many jobs have a prompt that runs."""
        return len(self._running)

    def prompt_began(self, job_id: str, *, taken_up: float) -> None:
        """The prompt of a job that is worked on since then, by the clock, runs now."""
        self._add_busy_time()
        free_since = self._accounted if self._running else self._free_since
        if taken_up <= free_since:
            self._gaps.observe(self._accounted - free_since)
        self._running.add(job_id)

    def prompt_ended(self, job_id: str) -> None:
        """ComfyUI is done with the prompt of a job, if it had begun."""
        self._add_busy_time()
        if job_id in self._running:
            self._running.remove(job_id)
            self._free_since = self._accounted

    def put_down(self, job: Job) -> None:
        """Nobody works on a job any more, whether it has ended or not."""
        if job.job_id in self._running:
            self.prompt_ended(job.job_id)
            # Its prompt was not waited for: when ComfyUI is done with it is not known.
            self._free_since = NEVER
        if job.status.is_final:
            self.ended(job)

    def ended(self, job: Job) -> None:
        """A job has ended."""
        self.count_end(job.workflow, job.status)
        workflow = self._workflow(job.workflow)
        for name, spent_ms in job.timings:
            if spent_ms is not None:
                stage = name.removesuffix("_ms")
                self._stages.labels(workflow, stage).observe(spent_ms / 1000)

    def warmed_up(self, workflow: str, seconds: float) -> None:
        """A workflow has had its warm-up."""
        self._warm_ups.labels(self._workflow(workflow)).set(seconds)

    def started(self, seconds: float) -> None:
        """So long after the start of the process, warm-ups are over. Told once."""
        what = "From the start of the process to the end of its warm-ups, when jobs can run."
        self._show("unified_api_cold_start_seconds", what, lambda: seconds)

    def webhook_tried(self, error: str | None) -> None:
        """A receiver was told of something, or could not be."""
        (self._failures if error else self._deliveries).inc()

    def show_held(self, count: Callable[[], float]) -> None:
        """Tell what this counts, whenever somebody looks."""
        self._show("unified_api_messages_held", "Messages this worker holds.", count)

    def text(self, components: Mapping[str, Component]) -> bytes:
        self._add_busy_time()
        return super().text(components)

    def _add_busy_time(self) -> None:
        """Up to now, so that a prompt which runs for long counts while it runs."""
        now = self._clock()
        if self._running:
            self._busy.inc(now - self._accounted)
        self._accounted = now
