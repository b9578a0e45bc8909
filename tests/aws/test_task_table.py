"""The task table while all is well, on both emulators."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from fault_proxy import Exchange, FaultProxy, operation
from marks import on_both_emulators
from tasks import LONG_AGO, PATH, Deployment, new_job
from unified_api.jobs.errors import ExecutionFailed, JobFailed
from unified_api.jobs.job import Job, Output, Status
from unified_api.jobs.prompt import Progress
from unified_api.sqs_bridge.claim import Claim, HeldByOther, Hold, Terminal
from unified_api.sqs_bridge.task_item import UnreadableItem
from unified_api.sqs_bridge.task_table import TaskTable

pytestmark = on_both_emulators

LEASE = 120.0
URL = "https://cdn.example/a.png"
OUTPUT = Output(name="image", s3_uri="s3://b/a.png", content_type="image/png", size=3, sha256="0a")


async def claimed(table: TaskTable, job: Job, owner: str = "gpu-1") -> Claim:
    claim = await table.claim(job, owner=owner, lease_seconds=LEASE)
    assert isinstance(claim, Claim)
    return claim


def completed(claim: Claim) -> Job:
    running = claim.job.running(now=claim.job.created_at + 1)
    return running.completed((OUTPUT,), now=claim.job.created_at + 2.5, publish_ms=7)


def failed(claim: Claim, error: JobFailed) -> Job:
    return claim.job.failed(error, now=claim.job.created_at + 2)


async def test_an_accepted_job_comes_back_as_it_was(table: TaskTable) -> None:
    job = new_job(
        parameters={"seed": 2**64 - 1, "cfg": 0.1, "prompt": "镜头 \x00 \uffff 🎨", "bold": False},
        metadata={"nested": [1, {"a": None}]},
        owner="ci",
        fingerprint="f",
        delivery={"format": "webp", "quality": 80},
        extension="webp",
    )

    assert await table.put_new(job) is None

    record = await table.get(job.job_id)
    assert record is not None
    assert record.job == job
    assert not record.is_sent


async def test_other_programs_find_the_attributes_they_know(
    table: TaskTable, deployment: Deployment
) -> None:
    job = new_job()
    await table.put_new(job)
    waiting = deployment.item(job.job_id)
    claim = await claimed(table, job)

    await table.finish(claim, completed(claim), result_url=URL)

    item, types = deployment.item(job.job_id), deployment.types(job.job_id)
    assert (waiting["status"], waiting["job_type"]) == ("pending", PATH)
    assert (item["status"], item["result_s3_uri"]) == ("completed", URL)
    assert item["comfy_job_id"] == completed(claim).prompt_id
    assert item["created_at"] == int(job.created_at)
    assert item["updated_at"] % 1 == 0
    expected = {"task_id": "S", "status": "S", "created_at": "N", "updated_at": "N"}
    expected |= {"result_s3_uri": "S", "comfy_job_id": "S", "job_type": "S", "expires_at": "N"}
    assert expected.items() <= types.items()


async def test_a_job_of_the_same_id_is_not_replaced(table: TaskTable) -> None:
    first, second = new_job("same", fingerprint="1"), new_job("same", fingerprint="2")
    await table.put_new(first)

    earlier = await table.put_new(second)

    assert earlier is not None
    assert earlier.job == first


async def test_one_of_twelve_gets_the_task(table: TaskTable) -> None:
    job = new_job()
    await table.put_new(job)

    answers = await asyncio.gather(
        *(table.claim(job, owner=f"gpu-{n}", lease_seconds=LEASE) for n in range(12))
    )

    claims = [answer for answer in answers if isinstance(answer, Claim)]
    assert len(claims) == 1
    assert claims[0].fence == 1
    assert sum(isinstance(answer, HeldByOther) for answer in answers) == 11


async def test_a_claim_tells_the_job_as_it_was_accepted(table: TaskTable) -> None:
    job = new_job(parameters={"seed": 7})
    await table.put_new(job)

    claim = await claimed(table, new_job(job.job_id, parameters={"seed": 8}))

    assert claim.job.parameters == {"seed": 7}
    assert claim.job.status is Status.PROCESSING


async def test_a_task_without_a_record_is_added_by_its_claim(
    table: TaskTable, deployment: Deployment
) -> None:
    claim = await claimed(table, new_job("from-elsewhere", parameters={"seed": 8}))

    again = await table.get("from-elsewhere")

    assert again is not None
    assert (again.job.parameters, again.job.status) == ({"seed": 8}, Status.PROCESSING)
    assert again.job == claim.job
    assert deployment.item("from-elsewhere")["job_type"] == PATH


async def test_a_held_task_tells_until_when(table: TaskTable, clock: Any) -> None:
    job = new_job()
    await claimed(table, job)

    answer = await table.claim(job, owner="gpu-2", lease_seconds=LEASE)

    assert isinstance(answer, HeldByOther)
    assert answer.until == pytest.approx(clock.now + LEASE)


async def test_a_claim_is_kept_by_extending_it(table: TaskTable, clock: Any) -> None:
    claim = await claimed(table, new_job())
    clock.now += LEASE - 1

    assert await table.extend(claim, claim.job, Progress(40), lease_seconds=LEASE) is Hold.KEPT

    clock.now += LEASE - 1
    assert isinstance(await table.claim(claim.job, owner="gpu-2", lease_seconds=LEASE), HeldByOther)
    record = await table.get(claim.job.job_id)
    assert record is not None
    assert record.progress.percent == 40


async def test_extending_tells_how_far_the_job_is(table: TaskTable) -> None:
    claim = await claimed(table, new_job())
    running = claim.job.running(now=claim.job.created_at + 1)

    await table.extend(claim, running, Progress(1), lease_seconds=LEASE)

    record = await table.get(claim.job.job_id)
    assert record is not None
    assert (record.job.stage, record.job.attempt) == (running.stage, 1)
    assert record.job.timings.queued_ms == 1000


async def test_a_zombie_changes_nothing(
    table: TaskTable, deployment: Deployment, clock: Any
) -> None:
    zombie = await claimed(table, new_job())
    clock.now += LEASE + 1
    successor = await claimed(table, zombie.job, owner="gpu-2")
    before = deployment.item(zombie.job.job_id)

    hold = await table.extend(zombie, zombie.job, Progress(), lease_seconds=LEASE)
    finished = await table.finish(zombie, completed(zombie), result_url=URL)
    handed_back = await table.hand_back(zombie, reason="drained")

    assert (hold, finished, handed_back) == (Hold.LOST, False, False)
    assert deployment.item(zombie.job.job_id) == before
    assert successor.fence == zombie.fence + 1


async def test_a_zombie_that_ends_alike_is_still_told_that_it_lost(
    table: TaskTable, clock: Any
) -> None:
    zombie = await claimed(table, new_job())
    clock.now += LEASE + 1
    successor = await claimed(table, zombie.job, owner="gpu-2")
    assert await table.finish(successor, completed(successor), result_url=URL)

    assert not await table.finish(zombie, completed(zombie), result_url="https://other")


async def test_a_task_handed_back_is_free_at_once_and_never_pending_again(
    table: TaskTable, deployment: Deployment
) -> None:
    claim = await claimed(table, new_job())

    assert await table.hand_back(claim, reason="the storage is away")

    item = deployment.item(claim.job.job_id)
    assert (item["status"], item["last_error"]) == ("processing", "the storage is away")
    assert (await claimed(table, claim.job, owner="gpu-2")).fence == 2


async def test_a_completed_task_is_told_with_its_outputs(table: TaskTable) -> None:
    claim = await claimed(table, new_job())

    assert await table.finish(claim, completed(claim), result_url=URL)

    record = await table.get(claim.job.job_id)
    assert record is not None
    assert record.job == completed(claim)


async def test_a_failed_task_is_told_with_its_reason(
    table: TaskTable, deployment: Deployment
) -> None:
    claim = await claimed(table, new_job())
    error = ExecutionFailed("Node 7 failed.", node_id="7", node_class="KSampler")

    assert await table.finish(claim, failed(claim, error))

    record = await table.get(claim.job.job_id)
    assert record is not None
    assert record.job == failed(claim, error)
    assert deployment.item(claim.job.job_id)["error_message"] == "Node 7 failed."


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_what_has_ended_never_changes(
    table: TaskTable, deployment: Deployment, status: str, clock: Any
) -> None:
    claim = await claimed(table, new_job())
    deployment.put(task_id=claim.job.job_id, status=status, job_type=PATH, created_at=1, fence=1)
    before = deployment.item(claim.job.job_id)
    clock.now += 10 * LEASE

    taken = await table.claim(claim.job, owner="gpu-2", lease_seconds=LEASE)
    await table.extend(claim, claim.job, Progress(), lease_seconds=LEASE)
    await table.hand_back(claim, reason="late")
    await table.request_cancel(claim.job.job_id)
    if status != "completed":
        assert not await table.finish(claim, completed(claim))

    assert isinstance(taken, Terminal)
    assert taken.job.status.value == status
    assert deployment.item(claim.job.job_id) == before


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_workers_do_a_status_only_moves_forward(
    table: TaskTable, deployment: Deployment, clock: Any, seed: int
) -> None:
    chance = random.Random(seed)
    job = new_job()
    await table.put_new(job)
    claims: list[Claim] = []
    seen = [0]

    async def act() -> None:
        claim = chance.choice(claims) if claims else None
        act = chance.choice(["claim", "claim", "wait", "extend", "hand back", "end", "cancel"])
        if act == "claim":
            taken = await table.claim(job, owner="gpu", lease_seconds=LEASE)
            claims.extend([taken] if isinstance(taken, Claim) else [])
        elif act == "wait":
            clock.now += LEASE
        elif act == "cancel" and chance.random() < 0.2:
            await table.request_cancel(job.job_id)
        elif claim and act == "extend":
            await table.extend(claim, claim.job, Progress(), lease_seconds=LEASE)
        elif claim and act == "hand back":
            await table.hand_back(claim, reason="drained")
        elif claim and act == "end" and chance.random() < 0.3:
            end = chance.choice([completed(claim), failed(claim, ExecutionFailed())])
            await table.finish(claim, end)

    ends = set()
    for _ in range(40):
        await act()
        status = Status(deployment.item(job.job_id)["status"])
        seen.append(1 if status is Status.PROCESSING else 2 if status.is_final else 0)
        ends |= {status} if status.is_final else set()

    assert seen == sorted(seen)
    assert len(ends) <= 1
    assert [claim.fence for claim in claims] == list(range(1, len(claims) + 1))


async def test_a_task_that_waits_is_cancelled_at_once(table: TaskTable) -> None:
    job = new_job()
    await table.put_new(job)

    _, record = await table.request_cancel(job.job_id)

    assert record is not None
    assert (record.job.status, record.is_sent) == (Status.CANCELLED, True)
    assert isinstance(await table.claim(job, owner="gpu-1", lease_seconds=LEASE), Terminal)


async def test_the_worker_of_a_task_is_told_that_it_is_to_be_cancelled(table: TaskTable) -> None:
    claim = await claimed(table, new_job())

    _, record = await table.request_cancel(claim.job.job_id)

    assert record is not None
    assert record.job.status is Status.PROCESSING
    hold = await table.extend(claim, claim.job, Progress(), lease_seconds=LEASE)
    assert hold is Hold.CANCEL_WANTED


async def test_the_next_worker_is_told_as_well(table: TaskTable) -> None:
    claim = await claimed(table, new_job())
    await table.request_cancel(claim.job.job_id)
    await table.hand_back(claim, reason="drained")

    assert (await claimed(table, claim.job, owner="gpu-2")).wants_cancel


async def test_no_update_makes_a_task(table: TaskTable, deployment: Deployment) -> None:
    nobody = Claim(new_job("nobody").fetching(now=1), fence=1)

    await table.extend(nobody, nobody.job, Progress(), lease_seconds=LEASE)
    assert not await table.finish(nobody, completed(nobody), result_url=URL)
    assert not await table.hand_back(nobody, reason="late")
    assert (await table.request_cancel("nobody")).record is None
    await table.mark_sent("nobody")

    assert await table.get("nobody") is None
    assert deployment.count() == 0


async def test_a_task_is_kept_for_as_long_as_it_may_wait_and_then_a_week(
    table: TaskTable, deployment: Deployment, clock: Any
) -> None:
    job = new_job(created_at=clock.now)
    day = 86400
    await table.put_new(job)
    waiting = deployment.item(job.job_id)["expires_at"]

    claim = await claimed(table, job)
    await table.finish(claim, completed(claim))

    assert waiting == int(clock.now + 21 * day)
    assert deployment.item(job.job_id)["expires_at"] == int(clock.now + 7 * day)


# Items of other programs


async def test_a_task_of_another_program_is_read_and_run(
    table: TaskTable, deployment: Deployment
) -> None:
    deployment.put(task_id="t", status="pending", job_type=PATH, created_at=int(LONG_AGO))

    record = await table.get("t")
    claim = await claimed(table, new_job("t", parameters={"seed": 3}, created_at=LONG_AGO + 4000.5))

    assert record is not None
    assert (record.job.workflow, record.job.created_at, record.is_sent) == ("draw", LONG_AGO, True)
    assert (claim.job.parameters, claim.job.created_at) == ({"seed": 3}, LONG_AGO)


async def test_a_task_that_a_worker_without_leases_has_begun_can_be_claimed(
    table: TaskTable, deployment: Deployment
) -> None:
    deployment.put(task_id="t", status="processing", job_type=PATH, created_at=1000)

    assert (await claimed(table, new_job("t"))).fence == 1


async def test_the_result_of_another_program_is_its_link(
    table: TaskTable, deployment: Deployment
) -> None:
    deployment.put(
        task_id="t", status="completed", job_type=PATH, created_at=1000, result_s3_uri=URL
    )

    record = await table.get("t")

    assert record is not None
    assert [output.s3_uri for output in record.job.outputs] == [URL]


@pytest.mark.parametrize(
    "attributes",
    [
        {"status": "waiting", "job_type": PATH, "created_at": 1},
        {"status": "pending", "created_at": 1},
        {"status": "pending", "job_type": PATH, "created_at": 1, "request": "{"},
        {"status": "pending", "job_type": PATH, "created_at": 1, "request": json.dumps([1])},
    ],
)
async def test_what_is_no_task_is_shown_as_such(
    table: TaskTable, deployment: Deployment, attributes: dict[str, Any]
) -> None:
    deployment.put(task_id="t", **attributes)

    record = await table.get("t")

    assert record is not None
    assert not record.job.is_readable


async def test_what_is_no_task_is_not_claimed(table: TaskTable, deployment: Deployment) -> None:
    deployment.put(task_id="t", status="pending", job_type=PATH, created_at=1, request="{")

    with pytest.raises(UnreadableItem):
        await table.claim(new_job(job_id="t"), owner="gpu-1", lease_seconds=60)


async def test_reading_a_task_is_consistent(table: TaskTable, proxy: FaultProxy) -> None:
    asked = []

    async def listen(exchange: Exchange) -> None:
        body = await exchange.body()
        asked.append(json.loads(body))
        await exchange.reply(await exchange.forward(body))

    proxy.spoil(listen, method="POST", when=operation("GetItem"))

    await table.get("nobody")

    assert [request["ConsistentRead"] for request in asked] == [True]
