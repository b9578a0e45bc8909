"""Many jobs at once travel in few calls, and what befalls one of them befalls no other."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from fault_proxy import Exchange, Fault, FaultProxy, lose_answer, operation, refuse_operation
from marks import on_each_emulator
from tasks import Deployment, new_job
from unified_api.jobs.job import Job
from unified_api.sqs_bridge.aws import Aws, AwsFailed
from unified_api.sqs_bridge.claim import Claim
from unified_api.sqs_bridge.message import LARGEST_SENT_BYTES
from unified_api.sqs_bridge.outbox import Outbox
from unified_api.sqs_bridge.task_table import TaskTable

pytestmark = on_each_emulator

MANY = 25


async def accepted(table: TaskTable, count: int = MANY, **given: Any) -> list[Job]:
    jobs = [new_job(**given) for _ in range(count)]
    assert await asyncio.gather(*map(table.put_new, jobs)) == [None] * count
    return jobs


async def sent(outbox: Outbox, jobs: list[Job]) -> list[bool]:
    return list(await asyncio.gather(*map(outbox.send, jobs)))


def unsent(deployment: Deployment, jobs: list[Job]) -> list[str]:
    return [job.job_id for job in jobs if "enqueue" in deployment.item(job.job_id)]


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(message["task_id"] for message in messages)


def ids_of(jobs: list[Job]) -> list[str]:
    return sorted(job.job_id for job in jobs)


def calls(proxy: FaultProxy) -> Counter[str]:
    return Counter(exchange.header("x-amz-target").rpartition(".")[2] for exchange in proxy.seen)


def fail(code: str | None) -> Fault:
    """Have all but the first of a batch sent; without a code the answer is silent on it."""

    async def fault(exchange: Exchange) -> None:
        body = await exchange.body()
        request = json.loads(body)
        first, *others = request["Entries"]
        # Of the same length: the head on its way says how long the body is.
        text = json.dumps({**request, "Entries": others}).encode().ljust(len(body))
        await exchange.forward(text[: len(body)])
        failed = [{"Id": first["Id"], "Code": code, "SenderFault": False}] if code else []
        done = [{"Id": one["Id"], "MessageId": "m", "MD5OfMessageBody": "0"} for one in others]
        answer = json.dumps({"Successful": done, "Failed": failed})
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        await exchange.reply(f"{head}{answer}".encode())

    return fault


async def test_many_at_once_take_few_calls_and_come_once(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy
) -> None:
    jobs = await accepted(table)

    assert all(await sent(outbox, jobs))

    assert ids(deployment.messages()) == ids_of(jobs)
    assert unsent(deployment, jobs) == []
    made = calls(proxy)
    assert sum(made.values()) < MANY
    assert made["SendMessageBatch"] >= MANY // 10


async def test_messages_that_fill_a_call_do_not_share_it(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy
) -> None:
    jobs = await accepted(table, 7, parameters={"text": "x" * (LARGEST_SENT_BYTES // 3)})

    assert all(await sent(outbox, jobs))

    assert ids(deployment.messages()) == ids_of(jobs)
    made = calls(proxy)
    assert made["SendMessageBatch"] >= 3
    assert made["SendMessage"] <= 2


@pytest.mark.parametrize("code", ["InternalError", None])
async def test_only_what_failed_in_a_batch_is_unsent(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy, code: str | None
) -> None:
    jobs = await accepted(table, 10)
    proxy.spoil(fail(code), method="POST", when=operation("SendMessageBatch"))

    told = await sent(outbox, jobs)

    failed = [job.job_id for job, is_sent in zip(jobs, told, strict=True) if not is_sent]
    assert len(failed) == 1
    assert unsent(deployment, jobs) == failed
    assert ids(deployment.messages()) == sorted(set(ids_of(jobs)) - set(failed))
    await outbox.sweep()
    assert ids(deployment.messages()) == failed


async def test_a_batch_that_was_not_answered_may_come_twice(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy
) -> None:
    jobs = await accepted(table, 10)
    proxy.spoil(lose_answer, method="POST", when=operation("SendMessageBatch"))

    assert all(await sent(outbox, jobs))

    assert set(ids(deployment.messages())) == set(ids_of(jobs))
    assert unsent(deployment, jobs) == []


async def test_what_is_refused_together_is_sent_alone(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy
) -> None:
    jobs = await accepted(table, 10)
    refused = refuse_operation("InvalidMessageContents")
    proxy.spoil(refused, method="POST", times=99, when=operation("SendMessageBatch"))

    assert all(await sent(outbox, jobs))

    assert ids(deployment.messages()) == ids_of(jobs)


async def test_a_queue_that_is_away_leaves_all_unsent(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy
) -> None:
    jobs = await accepted(table, 10)
    proxy.spoil(refuse_operation("ThrottlingException"), method="POST", times=99)

    assert not any(await sent(outbox, jobs))

    proxy.heal()
    assert sorted(unsent(deployment, jobs)) == ids_of(jobs)


@pytest.mark.parametrize("fault", [lose_answer, refuse_operation("TransactionCanceledException")])
async def test_marks_that_are_not_written_together_are_written_alone(
    table: TaskTable, outbox: Outbox, deployment: Deployment, proxy: FaultProxy, fault: Fault
) -> None:
    jobs = await accepted(table, 10)
    proxy.spoil(fault, method="POST", when=operation("TransactWriteItems"))

    assert all(await sent(outbox, jobs))

    assert unsent(deployment, jobs) == []


async def test_a_job_that_is_gone_does_not_spoil_the_marks_of_others(
    table: TaskTable, deployment: Deployment
) -> None:
    jobs = await accepted(table, 6)

    await asyncio.gather(*(table.mark_sent(task_id) for task_id in ["gone", *ids_of(jobs)]))

    assert unsent(deployment, jobs) == []
    assert deployment.item("gone") == {}


@pytest.mark.parametrize(
    "fault",
    [
        lose_answer,
        refuse_operation("TransactionCanceledException"),
        refuse_operation("ValidationException"),
        refuse_operation("AccessDeniedException"),
    ],
)
async def test_jobs_that_are_not_accepted_together_are_accepted_alone(
    table: TaskTable, deployment: Deployment, dynamodb: Aws, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.spoil(fault, method="POST", when=operation("TransactWriteItems"))

    jobs = await accepted(table, 10)

    assert deployment.count() == len(jobs)
    assert dynamodb.trouble is None


async def test_one_that_was_there_before_is_told_and_the_others_are_accepted(
    table: TaskTable, deployment: Deployment
) -> None:
    first, second = new_job("same", fingerprint="1"), new_job("same", fingerprint="2")
    await table.put_new(first)

    others = [new_job() for _ in range(5)]
    earlier, *rest = await asyncio.gather(*map(table.put_new, [second, *others]))

    assert earlier is not None
    assert earlier.job == first
    assert rest == [None] * 5
    assert deployment.count() == 6


async def test_of_the_same_job_many_times_at_once_one_is_accepted(
    table: TaskTable, deployment: Deployment, proxy: FaultProxy
) -> None:
    same = [new_job("same", fingerprint=str(n)) for n in range(12)]

    told = await asyncio.gather(*map(table.put_new, same))

    assert told.count(None) == 1
    winner = same[told.index(None)]
    assert all(record.job == winner for record in told if record)
    assert deployment.count() == 1
    # No table takes an item twice in one call.
    assert calls(proxy).keys() == {"PutItem"}


async def test_a_table_that_is_away_accepts_none_of_many(
    table: TaskTable, deployment: Deployment, proxy: FaultProxy
) -> None:
    proxy.refuse()

    told = await asyncio.gather(
        *(table.put_new(new_job()) for _ in range(5)), return_exceptions=True
    )

    assert all(isinstance(failure, AwsFailed) for failure in told)
    proxy.open()
    assert deployment.count() == 0


async def test_a_call_that_is_never_answered_is_not_made_again_for_each(
    table: TaskTable, proxy: FaultProxy
) -> None:
    proxy.spoil(lose_answer, method="POST", times=99, when=operation("TransactWriteItems"))
    jobs = [new_job() for _ in range(5)]

    told = await asyncio.gather(*map(table.put_new, jobs), return_exceptions=True)

    assert all(isinstance(failure, AwsFailed) for failure in told)
    assert calls(proxy).keys() == {"TransactWriteItems"}


async def test_a_claim_waits_for_a_transaction_on_its_task(
    table: TaskTable, proxy: FaultProxy
) -> None:
    (job,) = await accepted(table, 1)
    conflict = refuse_operation("TransactionConflictException")
    proxy.spoil(conflict, method="POST", times=2, when=operation("UpdateItem"))

    assert isinstance(await table.claim(job, owner="gpu-1", lease_seconds=60), Claim)


async def test_a_conflict_without_end_is_told(table: TaskTable, proxy: FaultProxy) -> None:
    (job,) = await accepted(table, 1)
    conflict = refuse_operation("TransactionConflictException")
    proxy.spoil(conflict, method="POST", times=99, when=operation("UpdateItem"))

    with pytest.raises(AwsFailed, match="cannot be used now"):
        await table.claim(job, owner="gpu-1", lease_seconds=60)
