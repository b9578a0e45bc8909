"""Messages that the queue hands out no more: what may pass is not left to the dead-letter queue."""

from __future__ import annotations

from typing import Any

import pytest
from fault_proxy import FaultProxy, operation, refuse_operation
from marks import on_each_emulator
from tasks import HELD, PATH, Deployment
from unified_api.jobs.errors import OutOfMemory
from unified_api.jobs.health import State
from unified_api.jobs.prompt import Ending

from ..unit.fake_host import FakeHost, until

#: Each receipt is the last.
pytestmark = pytest.mark.parametrize("deployment", [1], indirect=True)

ALWAYS = float("inf")
SENDING = operation("SendMessage")


@pytest.fixture
def unlucky(tmp_path: Any) -> FakeHost:
    """Its first run fails in a way that may pass."""
    host = FakeHost(tmp_path / "output")
    host.endings.append(Ending(failure=OutOfMemory()))
    return host


def has_ended(deployment: Deployment, task_id: str) -> bool:
    return bool(deployment.item(task_id).get("status") == "completed")


@on_each_emulator
async def test_a_run_that_may_be_tried_again_is(
    hire: Any, deployment: Deployment, unlucky: FakeHost
) -> None:
    task_id = deployment.send()

    worker = await hire(host=unlucky, **HELD)
    await until(lambda: has_ended(deployment, task_id))

    await until(lambda: deployment.is_empty)
    assert (worker.runs, deployment.item(task_id)["attempt"]) == (2, 2)
    assert deployment.dead_letters() == []


async def test_what_a_worker_that_ends_has_not_begun_another_runs(
    hire: Any, deployment: Deployment
) -> None:
    first = await hire(**HELD)
    first.host.gate.clear()
    runs = deployment.send()
    await until(lambda: first.runs)
    ahead = deployment.send()
    await until(lambda: len(first.host.queue) == 2)
    first.host.gate.set()
    await first.listener.drain()

    second = await hire(**HELD)
    await until(lambda: has_ended(deployment, ahead) and has_ended(deployment, runs))

    await until(lambda: deployment.is_empty)
    assert second.runs <= 1
    assert deployment.dead_letters() == []


async def test_a_worker_that_may_not_send_leaves_the_message_to_the_dead_letter_queue(
    hire: Any, deployment: Deployment, unlucky: FakeHost, proxy: FaultProxy
) -> None:
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", times=ALWAYS, when=SENDING)
    task_id = deployment.send()

    worker = await hire(host=unlucky, **HELD)

    ((body, _),) = await until(deployment.dead_letters)
    assert task_id in body
    assert worker.listener.component.state is State.HEALTHY
    other = deployment.send()
    await until(lambda: has_ended(deployment, other))


async def test_what_can_never_be_read_is_not_sent_round_for_ever(
    hire: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    deployment.put(task_id="odd", status="of another age", job_type=PATH, created_at=1000)
    deployment.send({}, "odd")

    await hire(**HELD)

    assert len(await until(deployment.dead_letters)) == 1
    assert not any(map(SENDING, proxy.seen))
