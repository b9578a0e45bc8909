"""What every workflow takes beside its own parameters."""

from __future__ import annotations

import json

import pytest
from aiohttp import FormData
from unified_api.jobs.errors import InvalidParameters
from unified_api.jobs.extras import Extras, request_body, split
from unified_api.jobs.job import Job, Webhook
from unified_api.jobs.request import JobRequest
from unified_api.routes.listener import application
from unified_api.routes.service import Surface
from unified_api.workflows import Catalog

DRAW = "/api/v1/draw/jobs"
HOOK = "https://example.com/hooks?a=b"
METADATA = {
    "order": 7,
    "who": "王 🎨 \u0000",
    "ratio": 0.1,
    "paid": True,
    "note": None,
    "big": 10**30,
}


@pytest.fixture
async def client(aiohttp_client, bench):
    bench.host.gate.clear()
    return await aiohttp_client(application(await bench.open(), Surface("1")))


@pytest.fixture
def draw(definitions):
    return Catalog([definitions]).workflows["draw"]


@pytest.fixture
def engine_job(bench):
    """The job as the engine has it."""

    async def accept(**body):
        engine = await bench.open()
        submitted = await engine.submit("draw", body)
        job, _ = await engine.get(submitted.job.job_id)
        return job

    return accept


async def post(client, **body):
    reply = await client.post(DRAW, json=body)
    return reply.status, await reply.json()


async def test_metadata_come_back_with_the_job(client) -> None:
    _, accepted = await post(client, metadata=METADATA)

    read = await (await client.get(accepted["urls"]["self"])).json()

    assert accepted["metadata"] == read["metadata"] == METADATA


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"a": {"b": 1}}, "values"),
        ({"a": [1]}, "values"),
        ([], "an object"),
        ("text", "an object"),
        ({"a": "\ud800"}, "Unicode"),
        ({"\ud800": 1}, "Unicode"),
        ({"a": "x" * (16_385 - len('{"a": ""}'))}, "16384 bytes"),
        ({"a": "镜" * 5_461}, "16384 bytes"),
    ],
)
async def test_metadata_that_are_no_small_flat_object_are_refused(client, metadata, why) -> None:
    status, problem = await post(client, metadata=metadata)

    assert (status, problem["code"]) == (422, "invalid_parameters")
    (error,) = problem["errors"]
    assert (error["param"], error["pointer"]) == ("metadata", "/metadata")
    assert why in error["message"]
    assert len(error["message"]) < 200


async def test_metadata_may_have_16_kib(client) -> None:
    metadata = {"a": "x" * (16_384 - len('{"a": ""}'))}

    assert (await post(client, metadata=metadata))[0] == 202


async def test_a_number_beyond_all_is_refused_in_metadata(client) -> None:
    reply = await client.post(
        DRAW, data=b'{"metadata": {"a": 1e999}}', headers={"Content-Type": "application/json"}
    )

    assert reply.status == 422
    assert "finite" in (await reply.json())["errors"][0]["message"]


async def test_a_webhook_is_kept_with_the_job(engine_job) -> None:
    job = await engine_job(
        webhook_url=HOOK, webhook_events=["job.failed", "job.completed", "job.failed"]
    )

    assert job.webhook == Webhook(url=HOOK, events=("job.failed", "job.completed"))


async def test_without_events_a_webhook_is_told_of_all(engine_job) -> None:
    job = await engine_job(webhook_url=HOOK, webhook_events=None)

    assert job.webhook == Webhook(url=HOOK, events=())


async def test_a_job_without_a_webhook_has_none(engine_job) -> None:
    assert (await engine_job(webhook_url=None)).webhook is None


@pytest.mark.parametrize(
    "url",
    [
        "example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///hook",
        "https://example.com:99999/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://[::1/",
        f"https://example.com/{'a' * 2048}",
        "\ud800",
        "",
        7,
        ["https://example.com"],
    ],
)
async def test_a_webhook_that_is_no_web_address_is_refused(client, url) -> None:
    status, problem = await post(client, webhook_url=url)

    assert status == 422
    assert [error["param"] for error in problem["errors"]] == ["webhook_url"]


@pytest.mark.parametrize("events", ["job.failed", ["job.begun", "x"], [7], {}, [None]])
async def test_events_that_nobody_tells_are_refused(client, events) -> None:
    status, problem = await post(client, webhook_url=HOOK, webhook_events=events)

    assert status == 422
    assert [error["param"] for error in problem["errors"]] == ["webhook_events"]


async def test_events_without_somebody_to_tell_are_refused(client) -> None:
    status, problem = await post(client, webhook_events=["job.failed"])

    assert status == 422
    assert problem["errors"][0]["message"] == "webhook_events: it needs a webhook_url."


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "normal"), ({"priority": None}, "normal"), ({"priority": "high"}, "high")],
)
async def test_a_job_has_a_priority(client, given, told) -> None:
    _, accepted = await post(client, **given)

    assert accepted["priority"] == told


@pytest.mark.parametrize("priority", ["low", "HIGH", "", 1, True, ["high"]])
async def test_a_priority_that_there_is_not_is_refused(client, priority) -> None:
    status, problem = await post(client, priority=priority)

    assert status == 422
    assert [error["param"] for error in problem["errors"]] == ["priority"]


async def test_every_wrong_extra_is_told_at_once(client) -> None:
    _, problem = await post(client, metadata=[], quality=0, webhook_url="x", output_format="tiff")

    told = [error["param"] for error in problem["errors"]]
    assert told == ["output_format", "quality", "metadata", "webhook_url"]


async def test_extras_come_in_forms_too(client) -> None:
    form = FormData(default_to_multipart=True)
    form.add_field("metadata", json.dumps(METADATA))
    form.add_field("webhook_url", HOOK)
    form.add_field("webhook_events", '["job.failed"]')
    form.add_field("priority", "high")

    reply = await client.post(DRAW, data=form)

    assert reply.status == 202
    accepted = await reply.json()
    assert (accepted["metadata"], accepted["priority"]) == (METADATA, "high")


async def test_a_form_field_that_is_no_object_is_refused_as_metadata(client) -> None:
    form = FormData(default_to_multipart=True)
    form.add_field("metadata", "{")

    assert (await client.post(DRAW, data=form)).status == 422


async def test_other_metadata_are_another_request(client) -> None:
    async def submit(**body):
        reply = await client.post(DRAW, json=body, headers={"Idempotency-Key": "k"})
        return reply.status

    first, again, other = [await submit(metadata={"a": each}) for each in (1, 1, 2)]

    assert (first, again, other) == (202, 200, 422)


async def test_another_priority_is_another_request(client) -> None:
    headers = {"Idempotency-Key": "k"}

    first = await client.post(DRAW, json={}, headers=headers)
    other = await client.post(DRAW, json={"priority": "high"}, headers=headers)

    assert (first.status, other.status) == (202, 422)


async def test_what_is_told_beside_a_request_counts(draw) -> None:
    job = await JobRequest("1", "draw", {"text": "a"}, priority="high").job(draw, None)

    assert (job.priority, request_body(job)["text"]) == ("high", "a")


async def test_what_is_sent_on_makes_the_same_job(draw) -> None:
    body = {"text": "a", "output_format": "webp", "quality": 7, "metadata": METADATA}
    hook = {"webhook_url": HOOK, "webhook_events": ["job.failed"]}

    job = await JobRequest("1", "draw", {**body, **hook}).job(draw, None)
    again = await JobRequest("1", "draw", request_body(job)).job(draw, None)

    assert again.model_copy(update={"created_at": job.created_at}) == job


def test_what_is_left_out_is_not_sent_on() -> None:
    job = Job(job_id="1", workflow="draw", parameters={"text": "a"}, created_at=0)

    assert request_body(job) == {"text": "a"}


def test_a_parameter_of_the_same_name_belongs_to_the_workflow(draw) -> None:
    draw.schema["properties"]["metadata"] = {"type": "string"}

    parameters, extras = split(draw, {"metadata": "a text", "quality": 5})

    assert parameters == {"metadata": "a text"}
    assert extras == Extras(quality=5)


@pytest.mark.parametrize(
    ("body", "message", "allowed"),
    [
        ({"priority": "urgent"}, "priority: it must be 'normal' or 'high'.", ("normal", "high")),
        ({"quality": 101}, "quality: it must be at most 100.", ()),
        ({"metadata": []}, "metadata: it must be an object.", ()),
        ({"webhook_url": 5}, "webhook_url: it must be text.", ()),
    ],
)
def test_what_is_wrong_with_an_extra_is_said_in_a_sentence(draw, body, message, allowed) -> None:
    with pytest.raises(InvalidParameters) as refusal:
        split(draw, body)

    (violation,) = refusal.value.violations
    assert (violation.message, violation.allowed) == (message, allowed)
