"""What orchestrator and worker tell a monitoring system of the queue."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tasks import Deployment
from unified_api.jobs.engine import Engine

from ..unit.fake_host import until

ENDED = "unified_api_jobs_ended_total"
HELD = "unified_api_messages_held"


def values_of(text: str) -> dict[tuple[str, ...], float]:
    """By the name and then by the labels, which come in the order of their names."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {(s.name, *dict(sorted(s.labels.items())).values()): s.value for s in samples}


def read(engine: Engine) -> dict[tuple[str, ...], float]:
    return values_of(engine.metrics.text({}).decode())


async def test_an_orchestrator_counts_what_it_accepts_and_what_waits(
    orchestrate: Any,
) -> None:
    client = await orchestrate()
    for _ in range(2):
        await client.post("/api/v1/draw/jobs", json={})

    told = values_of(await (await client.get("/metrics")).text())

    assert told["unified_api_jobs_accepted_total", "draw"] == 2
    # About: what is accepted while the table is counted counts twice until the next time.
    assert 2 <= told["unified_api_jobs_waiting",] <= 4


async def test_a_worker_counts_the_messages_it_holds_and_the_tasks_that_end(
    hire: Any, deployment: Deployment
) -> None:
    for _ in range(2):
        deployment.send({})
    worker = await hire()
    worker.host.gate.clear()

    await until(lambda: read(worker.engine)[HELD,] == 2)
    worker.host.gate.set()

    await until(lambda: read(worker.engine)[ENDED, "completed", "draw"] == 2)
    await until(lambda: read(worker.engine)[HELD,] == 0)


@pytest.mark.parametrize("deployment", [1], indirect=True)
@pytest.mark.parametrize(
    ("body", "path", "workflow"),
    [({"size": 0}, "/api/v1/draw/jobs", "draw"), ({}, "/api/v1/nothing/jobs", "(other)")],
)
async def test_a_task_that_is_not_run_counts_as_failed(
    hire: Any, deployment: Deployment, body: Any, path: str, workflow: str
) -> None:
    deployment.send(body, api_path=path)

    worker = await hire()

    await until(lambda: read(worker.engine).get((ENDED, "failed", workflow)) == 1)
