"""Jobs by way of the orchestrator: what travels, what is told, and what is never forgotten."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy, lose_answer, operation, refuse_operation
from tasks import LONG_AGO, PATH, Deployment, new_job
from unified_api.jobs.job import Delivery, Job, Output
from unified_api.jobs.links import key_of
from unified_api.jobs.prompt import Progress
from unified_api.sqs_bridge.claim import Claim, Hold, Terminal
from unified_api.sqs_bridge.message import LARGEST_SENT_BYTES, TaskMessage, size_of
from unified_api.sqs_bridge.outbox import Outbox, message_of
from unified_api.sqs_bridge.task_table import TaskTable
from yarl import URL

from ..unit.fake_host import until

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
WIDE = {"type": "string"}


async def submit(client: Any, **body: Any) -> Any:
    text = json.dumps(body, ensure_ascii=False).encode()
    reply = await client.post(DRAW, data=text, headers={"Content-Type": "application/json"})
    assert reply.status == 202, await reply.text()
    return await reply.json()


async def read(client: Any, path: str | URL) -> tuple[int, Any]:
    reply = await client.get(path, allow_redirects=False)
    return reply.status, await reply.json(content_type=None)


def ended(claim: Claim) -> Job:
    output = Output(
        name="image", s3_uri="s3://b/images/a.png", content_type="image/png", size=3, sha256="0a"
    )
    running = claim.job.running(now=claim.job.created_at + 1)
    return running.completed((output,), now=claim.job.created_at + 2, publish_ms=7)


async def run_to_the_end(table: TaskTable, message: Any) -> None:
    """What a worker does."""
    claim = await table.claim(new_job(message["task_id"]), owner="gpu-1", lease_seconds=60)
    assert isinstance(claim, Claim)
    assert await table.finish(claim, ended(claim), result_url="https://cdn.example/images/a.png")


# What travels


async def test_a_job_is_sent_as_running_workers_expect_it(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()

    job = await submit(client, text="a tree")

    assert deployment.messages() == [
        {
            "version": 1,
            "task_id": job["job_id"],
            "api_path": PATH,
            "request_body": job["parameters"],
        }
    ]
    assert "enqueue" not in deployment.item(job["job_id"])


def test_the_format_asked_for_travels_and_its_defaults_do_not() -> None:
    plain, webp = new_job(), new_job(delivery=Delivery(format="webp"))

    assert message_of(plain).request_body == plain.parameters
    assert message_of(webp).request_body == {**webp.parameters, "output_format": "webp"}


@pytest.fixture
def chatty(definitions: Any) -> None:
    """A workflow that takes a text of any length."""
    file = definitions / "draw" / "workflow.json"
    content = json.loads(file.read_text())
    content["parameters"]["properties"]["text"] = WIDE
    file.write_text(json.dumps(content))


@pytest.mark.usefixtures("chatty")
async def test_a_large_request_lies_in_the_bucket(
    orchestrate: Any, deployment: Deployment, bucket_name: str, aws: Any
) -> None:
    client = await orchestrate(S3_BUCKET=bucket_name)

    job = await submit(client, text="镜" * (LARGEST_SENT_BYTES // 3 - 50))

    (message,) = deployment.messages()
    assert "request_body" not in message
    stored = aws.get_object(Bucket=bucket_name, Key=key_of(message["claim"]))["Body"].read()
    assert json.loads(stored) == job["parameters"]
    assert job["job_id"] not in message["claim"]
    assert TaskMessage.parse(json.dumps(message)).workflow == "draw"


@pytest.mark.usefixtures("chatty")
async def test_a_request_that_cannot_travel_is_refused_before_anything_is_written(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()

    reply = await client.post(DRAW, json={"text": "x" * (LARGEST_SENT_BYTES - 20)})

    assert (reply.status, (await reply.json())["code"]) == (413, "body_too_large")
    assert deployment.count() == 0


@pytest.mark.usefixtures("chatty")
async def test_the_largest_message_is_still_sent_as_one(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    empty = size_of(message_of(new_job(parameters=parameters_of(""))).encode())

    await submit(client, **parameters_of("é" * ((LARGEST_SENT_BYTES - empty) // 2)))

    (message,) = deployment.messages()
    assert LARGEST_SENT_BYTES - 1 <= size_of(TaskMessage(**message).encode()) <= LARGEST_SENT_BYTES


def parameters_of(text: str) -> dict[str, Any]:
    return {"text": text, "seed": 1, "size": 8, "bold": False}


async def test_an_upload_lies_in_the_bucket_once(
    orchestrate: Any, bucket_name: str, aws: Any
) -> None:
    client = await orchestrate(S3_BUCKET=bucket_name)
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100_000)

    references = set()
    for _ in range(2):
        reply = await client.post(f"{API}/edit/jobs", data={"image": picture_field(picture)})
        references.add((await reply.json())["parameters"]["image_url"])

    (reference,) = references
    assert reference.startswith(f"s3://{bucket_name}/unified-api/inputs/")
    found = aws.get_object(Bucket=bucket_name, Key=key_of(reference))
    assert (found["Body"].read(), found["ContentType"]) == (picture, "image/png")


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"quality": "many"}, 422), ({"colour": "red"}, 422), ({"image2": "x"}, 422)],
)
async def test_a_form_that_is_refused_leaves_nothing(
    orchestrate: Any,
    bucket_name: str,
    aws: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, str],
    status: int,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = await orchestrate(S3_BUCKET=bucket_name)
    picture = b"\x89PNG\r\n\x1a\n" + bytes(1000)

    refused = await client.post(
        f"{API}/edit/jobs", data={"image": picture_field(picture), **fields}
    )
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    embedded = await client.post(f"{API}/edit/jobs", json={"image_url": uri, "quality": 0})

    assert (refused.status, embedded.status) == (status, 422)
    assert "Contents" not in aws.list_objects_v2(Bucket=bucket_name)
    assert staged_in(tmp_path) == []


async def test_an_accepted_upload_leaves_nothing_on_the_orchestrator(
    orchestrate: Any, bucket_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = await orchestrate(S3_BUCKET=bucket_name)

    picture = picture_field(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    reply = await client.post(f"{API}/edit/jobs", data={"image": picture})

    assert reply.status == 202
    assert staged_in(tmp_path) == []


async def test_an_orchestrator_keeps_no_uploads_that_could_be_named(orchestrate: Any) -> None:
    client = await orchestrate()

    reply = await client.post(f"{API}/edit/jobs", json={"image_url": f"upload:{'ab' * 40}.png"})

    assert (reply.status, (await reply.json())["code"]) == (422, "forbidden_source")


def staged_in(folder: Path) -> list[Path]:
    return list(folder.glob("unified-api-*"))


def picture_field(content: bytes) -> Any:
    file = io.BytesIO(content)
    file.name = "a.png"
    return file


@pytest.mark.parametrize("given", [{}, {"S3_BUCKET": "absent-bucket"}])
async def test_without_a_bucket_an_upload_is_refused(orchestrate: Any, given: Any) -> None:
    client = await orchestrate(**given)

    reply = await client.post(f"{API}/edit/jobs", data={"image": picture_field(b"\xff\xd8\xff")})

    assert (reply.status, (await reply.json())["code"]) == (503, "storage_unavailable")


async def test_an_upload_that_is_too_large_is_refused(orchestrate: Any, bucket_name: str) -> None:
    client = await orchestrate(S3_BUCKET=bucket_name, UNIFIED_API_MAX_IMAGE_BYTES="1000")

    reply = await client.post(f"{API}/edit/jobs", data={"image": picture_field(b"\xff" * 2000)})

    assert (reply.status, (await reply.json())["code"]) == (422, "input_invalid")


# What is told


async def test_a_job_is_told_as_its_worker_goes_on(
    orchestrate: Any, deployment: Deployment, table: TaskTable
) -> None:
    client = await orchestrate(CLOUDFRONT_DOMAIN="cdn.example")
    job = await submit(client)

    await run_to_the_end(table, deployment.messages()[0])

    _, done = await read(client, job["urls"]["self"])
    assert (done["status"], done["stage"], done["attempt"]) == ("completed", None, 1)
    assert done["result_url"] == done["result_s3_uri"] == "https://cdn.example/images/a.png"
    assert done["outputs"][0]["s3_uri"] == "s3://b/images/a.png"
    assert done["parameters"] == job["parameters"]
    assert done["timings"]["publish_ms"] == 7
    _, page = await read(client, f"{API}/jobs?status=completed")
    assert [one["job_id"] for one in page["data"]] == [job["job_id"]]


async def test_an_output_is_where_it_was_published(
    orchestrate: Any, deployment: Deployment, table: TaskTable
) -> None:
    client = await orchestrate(CLOUDFRONT_DOMAIN="cdn.example")
    job = await submit(client)
    await run_to_the_end(table, deployment.messages()[0])

    reply = await client.get(f"{API}/jobs/{job['job_id']}/outputs/0", allow_redirects=False)
    other = await client.get(f"{API}/jobs/{job['job_id']}/outputs/1", allow_redirects=False)

    assert (reply.status, other.status) == (302, 404)
    assert reply.headers["Location"] == "https://cdn.example/images/a.png"


async def test_the_result_of_a_running_worker_is_its_link(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    link = "https://cdn.example/images/old.png"
    deployment.put(
        task_id="t", status="completed", job_type=PATH, created_at=1000, result_s3_uri=link
    )

    _, job = await read(client, f"{API}/jobs/t")

    assert (job["result_url"], job["workflow"]) == (link, "draw")


@pytest.mark.parametrize("job_id", ["%00", "a%0Ab", "a" * 2049, "idempotency%2Fa"])
async def test_the_table_is_not_asked_for_what_is_no_id(
    orchestrate: Any, proxy: FaultProxy, job_id: str
) -> None:
    client = await orchestrate()

    status, _ = await read(client, URL(f"{API}/jobs/{job_id}", encoded=True))

    assert status == 404
    assert not any(map(operation("GetItem"), proxy.seen))


async def test_the_jobs_of_a_key_are_limited(orchestrate: Any) -> None:
    key = f"ci:submit+read:{sha256(b'secret').hexdigest()}"
    client = await orchestrate(UNIFIED_API_KEYS=key, UNIFIED_API_MAX_JOBS_PER_KEY="1")
    bearer = {"Authorization": "Bearer secret"}

    statuses = [(await client.post(DRAW, json={}, headers=bearer)).status for _ in range(2)]

    assert statuses == [202, 429]
    assert (await client.post(DRAW, json={})).status == 401


async def test_no_more_jobs_wait_than_may(orchestrate: Any, deployment: Deployment) -> None:
    deployment.accept("theirs")
    client = await orchestrate(UNIFIED_API_MAX_PENDING="3")
    key = {"Idempotency-Key": "k"}

    async def is_counted() -> bool:
        text = await (await client.get("/metrics")).text()
        return "unified_api_jobs_waiting 1.0\n" in text

    await until(is_counted)

    replies = [await client.post(DRAW, json={}, headers=key if n == 0 else {}) for n in range(3)]
    replay = await client.post(DRAW, json={}, headers=key)

    assert [reply.status for reply in replies] == [202, 202, 429]
    assert (await replies[2].json())["code"] == "queue_full"
    assert replay.status == 200
    # The key has an item too.
    assert deployment.count() == 4


async def test_jobs_that_others_have_accepted_count(
    orchestrate: Any, deployment: Deployment, table: TaskTable
) -> None:
    for _ in range(3):
        await table.put_new(new_job())
    client = await orchestrate(UNIFIED_API_MAX_PENDING="3")

    async def refused() -> bool:
        return bool((await client.post(DRAW, json={"size": 0})).status == 429)

    assert await until(refused)
    assert deployment.count() == 3


# What is cancelled


async def cancelled(client: Any, job_id: str) -> tuple[int, Any]:
    reply = await client.post(f"{API}/jobs/{job_id}/cancel")
    return reply.status, await reply.json()


async def test_a_job_that_waits_is_cancelled_at_once_and_for_good(
    orchestrate: Any, deployment: Deployment, table: TaskTable
) -> None:
    client = await orchestrate()
    job = await submit(client)

    first, again = [await cancelled(client, job["job_id"]) for _ in range(2)]

    assert first == again
    assert (first[0], first[1]["status"], first[1]["stage"]) == (200, "cancelled", None)
    (message,) = deployment.messages()
    claim = await table.claim(new_job(message["task_id"]), owner="gpu-1", lease_seconds=60)
    assert isinstance(claim, Terminal)


async def test_the_worker_of_a_job_that_runs_is_asked_to_cancel_it(
    orchestrate: Any, table: TaskTable
) -> None:
    client = await orchestrate()
    job = await submit(client)
    claim = await table.claim(new_job(job["job_id"]), owner="gpu-1", lease_seconds=60)
    assert isinstance(claim, Claim)

    _, told = await cancelled(client, job["job_id"])

    assert told["status"] == "processing"
    hold = await table.extend(claim, claim.job, Progress(), lease_seconds=60)
    assert hold is Hold.CANCEL_WANTED


async def test_a_job_that_has_ended_stays_as_it_is(
    orchestrate: Any, deployment: Deployment, table: TaskTable
) -> None:
    client = await orchestrate()
    job = await submit(client)
    await run_to_the_end(table, deployment.messages()[0])

    _, told = await cancelled(client, job["job_id"])

    assert (told["status"], told["attempt"]) == ("completed", 1)


@pytest.mark.parametrize("job_id", ["nobody", "%00", "a" * 129])
async def test_what_is_unknown_cannot_be_cancelled(
    orchestrate: Any, deployment: Deployment, job_id: str
) -> None:
    client = await orchestrate()

    reply = await client.post(URL(f"{API}/jobs/{job_id}/cancel", encoded=True))

    assert (reply.status, (await reply.json())["code"]) == (404, "unknown_job")
    assert deployment.count() == 0


# What is never forgotten


async def test_a_job_that_could_not_be_sent_is_accepted_and_sent_later(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy, outbox: Outbox
) -> None:
    client = await orchestrate()
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=operation("SendMessage"))

    job = await submit(client)

    assert deployment.messages() == []
    assert deployment.item(job["job_id"])["enqueue"] == "unsent"
    await outbox.sweep()
    assert [message["task_id"] for message in deployment.messages()] == [job["job_id"]]
    assert "enqueue" not in deployment.item(job["job_id"])


async def test_a_message_whose_sending_was_not_answered_may_come_twice(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    proxy.spoil(lose_answer, method="POST", when=operation("SendMessage"))

    job = await submit(client)

    assert {message["task_id"] for message in deployment.messages()} == {job["job_id"]}
    assert deployment.item(job["job_id"])["status"] == "pending"


async def test_an_acceptance_that_was_not_answered_is_one_job(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    proxy.spoil(lose_answer, method="POST", when=operation("PutItem"))

    job = await submit(client)

    assert deployment.count() == 1
    assert [message["task_id"] for message in deployment.messages()] == [job["job_id"]]


async def test_what_is_sent_is_not_sent_again(
    orchestrate: Any, deployment: Deployment, outbox: Outbox
) -> None:
    await submit(await orchestrate())
    deployment.messages()

    await outbox.sweep()

    assert deployment.messages() == []


async def test_many_unsent_jobs_are_all_sent(
    table: TaskTable, deployment: Deployment, outbox: Outbox
) -> None:
    jobs = [new_job(created_at=time.time() - n) for n in range(40)]
    for job in jobs:
        await table.put_new(job)

    await outbox.sweep()

    sent = [message["task_id"] for message in deployment.messages()]
    assert sorted(sent) == sorted(job.job_id for job in jobs)


async def test_a_sweep_that_failed_begins_again_where_it_began(
    table: TaskTable, deployment: Deployment, outbox: Outbox, proxy: FaultProxy
) -> None:
    await table.put_new(new_job(created_at=LONG_AGO))
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", when=operation("SendMessage"))

    await outbox.sweep()
    assert deployment.messages() == []
    await outbox.sweep()

    assert len(deployment.messages()) == 1


async def test_a_cancelled_job_is_not_sent(
    table: TaskTable, deployment: Deployment, outbox: Outbox
) -> None:
    job = new_job(created_at=LONG_AGO)
    await table.put_new(job)
    await table.request_cancel(job.job_id)

    await outbox.sweep()

    assert deployment.messages() == []


async def test_a_table_that_refuses_accepts_nothing(
    orchestrate: Any, deployment: Deployment, proxy: FaultProxy
) -> None:
    client = await orchestrate()
    proxy.spoil(refuse_operation("AccessDenied"), method="POST", times=1000)

    posted = await client.post(DRAW, json={})
    got = await client.get(f"{API}/jobs/a")

    assert (posted.status, got.status) == (503, 503)
    assert (await posted.json())["code"] == "storage_unavailable"
    proxy.heal()
    assert (deployment.count(), deployment.messages()) == (0, [])


# How it is


async def test_it_is_ready_when_the_table_has_answered(orchestrate: Any) -> None:
    client = await orchestrate()

    async def ready() -> bool:
        return (await read(client, "/ready"))[0] == 200

    assert await until(ready)


@pytest.mark.parametrize(
    ("given", "part", "reason"),
    [
        ({"SQS_QUEUE_URL": "https://sqs.example/1/tasks.fifo"}, "sqs", "FIFO"),
        ({"SQS_QUEUE_URL": ""}, "sqs", "SQS_QUEUE_URL is not set"),
        ({"DYNAMODB_TABLE": "absent"}, "dynamodb", "ResourceNotFoundException"),
    ],
)
async def test_a_wrong_setting_is_told_and_no_job_is_accepted(
    orchestrate: Any, deployment: Deployment, given: Any, part: str, reason: str
) -> None:
    client = await orchestrate(**given)

    async def told() -> Any:
        status, health = await read(client, "/health")
        return status == 503 and health["components"][part]

    component = await until(told)
    assert component["status"] == "unhealthy"
    assert reason in component["reason"]
    assert (await read(client, "/ready"))[0] == 503
    assert (await client.post(DRAW, json={})).status == 503
    assert (deployment.count(), deployment.messages()) == (0, [])


async def test_a_broken_definition_harms_no_other(orchestrate: Any, definitions: Any) -> None:
    (definitions / "edit" / "graph.json").write_text("{")
    client = await orchestrate()

    assert (await client.post(f"{API}/edit/jobs", json={})).status == 503
    assert (await client.post(DRAW, json={})).status == 202


async def test_what_a_caller_wants_besides_travels_to_the_worker(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    extras = {
        "output_format": "webp",
        "metadata": {"shot": "第一镜", "take": 3},
        "webhook_url": "https://hooks.example/a",
        "webhook_events": ["job.completed"],
    }

    reply = await client.post(PATH, json=extras, headers={"Cancel-After": "1h"})

    job = await reply.json()
    (message,) = deployment.messages()
    assert extras.items() <= message["request_body"].items()
    assert message["deadline"] == pytest.approx(time.time() + 3600, abs=60)
    again = await (await client.get(job["urls"]["self"])).json()
    assert (again["metadata"], again["deadline"]) == (extras["metadata"], job["deadline"])


async def test_a_task_is_watched_and_waited_for_to_its_end(
    orchestrate: Any, table: TaskTable
) -> None:
    client = await orchestrate()
    job = await (await client.post(PATH, json={})).json()
    # Previews may be asked for; none come.
    stream = await client.get(job["urls"]["events"], params={"previews": "true"})
    waiting = asyncio.create_task(client.get(f"{job['urls']['self']}?wait=30"))
    told = await stream.content.readuntil(b'"status":"pending"')

    claim = await table.claim(new_job(job["job_id"]), owner="worker", lease_seconds=60)
    assert isinstance(claim, Claim)
    await table.finish(claim, claim.job.cancelled(now=time.time()))

    events = (told + await stream.read()).decode().split("event: status\n")
    assert '"status":"pending"' in events[1]
    assert '"status":"cancelled"' in events[-1]
    assert (await (await waiting).json())["status"] == "cancelled"
