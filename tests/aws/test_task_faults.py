"""The task table when answers are lost, refused or late: what was written is never misread."""

from __future__ import annotations

import pytest
from emulators import REGION
from fault_proxy import FaultProxy, hang, lose_answer, operation, refuse_operation
from tasks import Deployment, new_job
from unified_api.jobs.errors import ExecutionFailed
from unified_api.jobs.health import State
from unified_api.jobs.prompt import Progress
from unified_api.sqs_bridge.aws import Aws, AwsFailed
from unified_api.sqs_bridge.claim import Claim, Hold, Terminal
from unified_api.sqs_bridge.task_table import TaskTable

LEASE = 120.0


@pytest.fixture
async def claim(table: TaskTable) -> Claim:
    claim = await table.claim(new_job(), owner="gpu-1", lease_seconds=LEASE)
    assert isinstance(claim, Claim)
    return claim


def lose(proxy: FaultProxy, name: str) -> None:
    """The next answer to an operation is lost, after it was carried out."""
    proxy.spoil(lose_answer, method="POST", when=operation(name))


def asked(proxy: FaultProxy, name: str) -> int:
    return sum(operation(name)(exchange) for exchange in proxy.seen)


async def test_a_job_whose_acceptance_was_not_answered_is_accepted(
    table: TaskTable, proxy: FaultProxy, deployment: Deployment
) -> None:
    job = new_job()
    lose(proxy, "PutItem")

    assert await table.put_new(job) is None

    assert asked(proxy, "PutItem") == 2
    assert deployment.item(job.job_id)["status"] == "pending"


async def test_a_job_that_was_there_before_a_lost_answer_is_told(
    table: TaskTable, proxy: FaultProxy
) -> None:
    first = new_job("same", fingerprint="1")
    await table.put_new(first)
    lose(proxy, "PutItem")

    earlier = await table.put_new(new_job("same", fingerprint="2"))

    assert earlier is not None
    assert earlier.job == first


async def test_a_claim_that_was_not_answered_is_ours(table: TaskTable, proxy: FaultProxy) -> None:
    job = new_job()
    await table.put_new(job)
    lose(proxy, "UpdateItem")

    claim = await table.claim(job, owner="gpu-1", lease_seconds=LEASE)

    assert isinstance(claim, Claim)
    assert claim.fence == 1
    assert await table.extend(claim, claim.job, Progress(), lease_seconds=LEASE) is Hold.KEPT


async def test_the_claim_of_an_earlier_process_of_the_same_worker_is_not_ours(
    table: TaskTable, claim: Claim
) -> None:
    again = await table.claim(claim.job, owner="gpu-1", lease_seconds=LEASE)

    assert not isinstance(again, Claim)


async def test_an_end_that_was_not_answered_is_told(
    table: TaskTable, proxy: FaultProxy, claim: Claim
) -> None:
    lose(proxy, "UpdateItem")

    assert await table.finish(claim, claim.job.failed(ExecutionFailed(), now=claim.job.created_at))

    taken = await table.claim(claim.job, owner="gpu-2", lease_seconds=LEASE)
    assert isinstance(taken, Terminal)


async def test_a_task_handed_back_without_an_answer_is_handed_back(
    table: TaskTable, proxy: FaultProxy, claim: Claim
) -> None:
    lose(proxy, "UpdateItem")

    assert await table.hand_back(claim, reason="drained")


async def test_an_extension_that_was_not_answered_counts(
    table: TaskTable, proxy: FaultProxy, claim: Claim
) -> None:
    lose(proxy, "UpdateItem")

    assert await table.extend(claim, claim.job, Progress(), lease_seconds=LEASE) is Hold.KEPT


async def test_a_cancellation_that_was_not_answered_is_told(
    table: TaskTable, proxy: FaultProxy
) -> None:
    job = new_job()
    await table.put_new(job)
    lose(proxy, "UpdateItem")

    _, record = await table.request_cancel(job.job_id)

    assert record is not None
    assert record.job.status.value == "cancelled"


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
async def test_throttling_is_waited_for(table: TaskTable, proxy: FaultProxy, code: str) -> None:
    proxy.spoil(refuse_operation(code), method="POST", times=2)

    assert await table.put_new(new_job()) is None


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("ThrottlingException", State.DEGRADED),
        ("ExpiredTokenException", State.DEGRADED),
        ("InternalServerError", State.DEGRADED),
        ("AccessDeniedException", State.UNHEALTHY),
        ("ResourceNotFoundException", State.UNHEALTHY),
    ],
)
async def test_what_lasts_is_told_from_what_passes_and_heals_by_itself(
    table: TaskTable, dynamodb: Aws, proxy: FaultProxy, code: str, state: State
) -> None:
    status = 500 if code == "InternalServerError" else 400
    proxy.spoil(refuse_operation(code, status), method="POST", times=1000)

    with pytest.raises(AwsFailed, match=code):
        await table.get("t")

    assert dynamodb.trouble is not None
    assert dynamodb.trouble.component.state is state
    proxy.heal()
    assert await table.get("t") is None
    assert dynamodb.trouble is None


async def test_a_table_that_hangs_is_given_up(deployment: Deployment, proxy: FaultProxy) -> None:
    dynamodb = Aws("dynamodb", REGION, read_seconds=1, attempts=3)
    table = TaskTable(dynamodb, deployment.table, retention_seconds=0)
    proxy.spoil(hang, method="POST", times=1000)

    with pytest.raises(AwsFailed, match="ReadTimeoutError"):
        await table.get("t")

    await dynamodb.close()


async def test_a_refused_condition_is_no_trouble(
    table: TaskTable, dynamodb: Aws, proxy: FaultProxy
) -> None:
    job = new_job()
    await table.put_new(job)

    await table.put_new(job)

    assert dynamodb.trouble is None
    assert asked(proxy, "PutItem") == 2
