"""Idempotency keys in the task table: one job for one key, whatever breaks, and nothing told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any
from uuid import UUID, uuid5

import pytest
from fault_proxy import FaultProxy, lose_answer, operation, refuse_operation
from marks import on_each_emulator
from tasks import DAY, PATH, Deployment, new_job
from unified_api.sqs_bridge.outbox import Outbox
from unified_api.sqs_bridge.task_table import KEYS, TaskTable

from ..unit.fake_host import until

API = "/api/v1"
SPACE = UUID("6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11")
TRANSACTION = operation("TransactWriteItems")
SECRETS = {name: f"secret-of-{name}" for name in ("ann", "bob")}
TWO_KEYS = ",".join(
    f"{name}:submit+read:{hashlib.sha256(secret.encode()).hexdigest()}"
    for name, secret in SECRETS.items()
)


async def post(
    client: Any, key: str = "order 7", body: Any = None, name: str | None = None
) -> tuple[int, Any]:
    bearer = {"Authorization": f"Bearer {SECRETS[name]}"} if name else {}
    headers = {"Idempotency-Key": key, **bearer}
    reply = await client.post(PATH, json=body or {}, headers=headers)
    return reply.status, await reply.json()


def items(deployment: Deployment) -> list[dict[str, Any]]:
    """All that the table has, as another program reads it."""
    found = deployment.emulator.dynamodb.scan(TableName=deployment.table)["Items"]
    return [deployment.item(item["task_id"]["S"]) for item in found]


def key_items(deployment: Deployment) -> list[dict[str, Any]]:
    return [item for item in items(deployment) if item["task_id"].startswith(KEYS)]


def forget(deployment: Deployment, task_id: str) -> None:
    """As the table does with an item whose time is over."""
    key = {"task_id": {"S": task_id}}
    deployment.emulator.dynamodb.delete_item(TableName=deployment.table, Key=key)


# One job for one key


@on_each_emulator
async def test_the_same_key_gives_the_same_job_on_every_replica(
    orchestrate: Any, deployment: Deployment
) -> None:
    replicas = [await orchestrate() for _ in range(2)]

    told = await asyncio.gather(*(post(replicas[n % 2]) for n in range(16)))

    assert len({job["job_id"] for _, job in told}) == 1
    assert sorted(status for status, _ in told) == [200] * 15 + [202]
    assert len(deployment.messages()) == 1


async def test_an_id_is_random_and_the_key_is_nowhere(
    orchestrate: Any, deployment: Deployment
) -> None:
    _, job = await post(await orchestrate(), "order 7 of ann")

    assert UUID(job["job_id"]).version == 4
    assert "order 7" not in str(items(deployment))
    (item,) = key_items(deployment)
    assert item.keys() == {"task_id", "job_id", "expires_at"}
    assert item["job_id"] == job["job_id"]
    assert item["expires_at"] >= deployment.item(job["job_id"])["expires_at"] + 14 * DAY - 1


async def test_the_item_of_a_key_is_in_no_list_and_has_no_address(
    orchestrate: Any, deployment: Deployment, hire: Any
) -> None:
    client = await orchestrate()
    _, job = await post(client)
    (item,) = key_items(deployment)
    deployment.messages()
    deployment.send({}, item["task_id"])

    listed = await (await client.get(f"{API}/jobs")).json()
    path = f"{API}/jobs/{item['task_id'].replace('/', '%2F')}"
    statuses = [
        (await client.get(path)).status,
        (await client.post(f"{path}/cancel")).status,
        (await client.delete(path)).status,
    ]
    await hire()
    await until(lambda: deployment.is_empty)

    assert [one["job_id"] for one in listed["data"]] == [job["job_id"]]
    assert statuses == [404, 404, 404]
    assert len(deployment.dead_letters()) == 1
    assert key_items(deployment) == [item]


async def test_the_same_key_with_another_body_is_refused(orchestrate: Any) -> None:
    client = await orchestrate()
    await post(client)

    status, problem = await post(client, body={"text": "b"})

    assert (status, problem["code"]) == (422, "idempotency_key_reused")


async def test_the_keys_of_others_are_others(orchestrate: Any) -> None:
    client = await orchestrate(UNIFIED_API_KEYS=TWO_KEYS)

    (first, anns), (second, bobs) = [await post(client, name=name) for name in SECRETS]

    assert (first, second) == (202, 202)
    assert anns["job_id"] != bobs["job_id"]


# Whatever breaks


@on_each_emulator
async def test_an_acceptance_that_was_not_answered_is_one_job(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    proxy.spoil(lose_answer, method="POST", when=TRANSACTION)

    first, again = await post(client), await post(client)

    assert (first[0], again[0]) == (202, 200)
    assert first[1]["job_id"] == again[1]["job_id"]
    assert deployment.count() == 2


async def test_an_acceptance_that_was_refused_leaves_nothing(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=TRANSACTION)

    refused = await post(client)
    assert (refused[0], refused[1]["code"]) == (503, "storage_unavailable")
    assert deployment.count() == 0

    assert (await post(client))[0] == 202


async def test_writes_that_get_in_each_others_way_are_tried_again(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    conflict = refuse_operation("TransactionCanceledException")
    proxy.spoil(conflict, method="POST", when=TRANSACTION, times=2)

    assert (await post(client))[0] == 202
    assert deployment.count() == 2


async def test_a_table_that_never_lets_it_be_written_is_told(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    conflict = refuse_operation("TransactionCanceledException")
    proxy.spoil(conflict, method="POST", when=TRANSACTION, times=1000)

    status, problem = await post(client)

    assert (status, problem["code"]) == (503, "storage_unavailable")
    assert deployment.count() == 0


async def test_what_was_accepted_and_not_sent_is_sent_once_the_key_comes_again(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy, outbox: Outbox
) -> None:
    client = await orchestrate()
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=operation("SendMessage"))
    _, first = await post(client)
    assert deployment.messages() == []
    deployment.change(first["job_id"], created_at=int(time.time()) - 60)

    status, again = await post(client)

    assert (status, again["job_id"]) == (200, first["job_id"])
    assert [message["task_id"] for message in deployment.messages()] == [first["job_id"]]


async def test_a_key_whose_task_has_gone_is_free_again(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    _, first = await post(client)
    forget(deployment, first["job_id"])

    told = await asyncio.gather(*(post(client, body={"text": "b"}) for _ in range(5)))

    assert sorted(status for status, _ in told) == [200] * 4 + [202]
    (job_id,) = {job["job_id"] for _, job in told}
    assert job_id != first["job_id"]
    assert [item["job_id"] for item in key_items(deployment)] == [job_id]


async def test_the_batch_of_a_key_is_accepted_once(
    orchestrate: Any, deployment: Deployment
) -> None:
    replicas = [await orchestrate() for _ in range(2)]
    body = {"items": [{}, {"text": "a"}, {"idempotency_key": "own"}]}

    async def send(client: Any) -> list[str]:
        path, key = f"{API}/draw/jobs:batch", {"Idempotency-Key": "all"}
        reply = await client.post(path, json=body, headers=key)
        return [result["job"]["job_id"] for result in (await reply.json())["results"]]

    first, again = await asyncio.gather(*map(send, replicas))

    assert first == again
    assert len(deployment.messages()) == 3


# Keys that were given before


def former_id(owner: str | None = None, key: str = "order 7") -> str:
    return str(uuid5(SPACE, f"{owner or ''}\n{key}"))


def accepted_before(deployment: Deployment, owner: str | None = None, **more: Any) -> str:
    """A task as the version before accepts it for a key; its id."""
    task_id = former_id(owner)
    fingerprint = hashlib.sha256(json.dumps(["draw", {}], sort_keys=True).encode()).hexdigest()
    fixed = {
        "parameters": {"seed": 1},
        "metadata": {},
        "webhook": None,
        "fingerprint": fingerprint,
        "delivery": {"format": None, "quality": 90},
        "extension": "png",
        "created_at": time.time() - 5,
        "deadline": None,
        "give_up_at": None,
    }
    owned = {"owner": owner} if owner else {}
    given = {"request": json.dumps(fixed), "priority": "normal", **owned, **more}
    deployment.accept(task_id, **given)
    return task_id


@on_each_emulator
@pytest.mark.parametrize("status", ["pending", "processing", "completed"])
async def test_a_key_of_the_version_before_finds_its_job(
    orchestrate: Any, deployment: Deployment, status: str
) -> None:
    task_id = accepted_before(deployment, "ann", status=status)
    client = await orchestrate(UNIFIED_API_KEYS=TWO_KEYS)

    again = await post(client, name="ann")
    other = await post(client, body={"text": "b"}, name="ann")

    assert (again[0], again[1]["job_id"]) == (200, task_id)
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")
    assert deployment.count() == 1


async def test_a_key_of_the_version_before_whose_job_was_deleted_makes_no_other(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    task_id = accepted_before(deployment, status="completed")
    assert (await client.delete(f"{API}/jobs/{task_id}")).status == 204

    status, problem = await post(client)

    assert (status, problem["code"]) == (422, "idempotency_key_reused")


async def test_a_former_id_reaches_nobody_elses_job(
    orchestrate: Any, deployment: Deployment
) -> None:
    planted = accepted_before(deployment, "ann")
    # By whoever can write to the table under the id of a key of Bob's.
    deployment.accept(former_id("bob"), owner="ann", request=deployment.item(planted)["request"])
    client = await orchestrate(UNIFIED_API_KEYS=TWO_KEYS)

    status, job = await post(client, name="bob")

    assert status == 202
    assert job["job_id"] not in (planted, former_id("bob"))


async def test_a_message_with_the_former_id_of_a_key_does_not_take_the_key(
    orchestrate: Any, deployment: Deployment, hire: Any
) -> None:
    deployment.send({"text": "planted"}, former_id())
    await hire()
    await until(lambda: deployment.item(former_id()).get("status") == "completed")
    client = await orchestrate()

    status, job = await post(client)

    assert (status, job["status"]) == (202, "pending")
    assert job["job_id"] != former_id()


async def test_an_unreadable_item_with_the_former_id_of_a_key_is_no_hindrance(
    orchestrate: Any, deployment: Deployment
) -> None:
    deployment.put(task_id=former_id(), status="unheard of")

    assert (await post(await orchestrate()))[0] == 202


# The table alone


async def test_a_task_of_the_same_id_is_never_replaced_for_a_key(
    table: TaskTable, deployment: Deployment
) -> None:
    deployment.accept("same", status="completed")
    before = deployment.item("same")

    with pytest.raises(Exception, match="TransactionCanceledException"):
        await table.put_new(new_job("same"), key="k")

    assert deployment.item("same") == before
    assert key_items(deployment) == []
