"""The HTTP contract, by the same assertions against an engine and against the orchestrator."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import pytest
from aiohttp import FormData
from unified_api.routes.listener import application
from unified_api.routes.service import Surface
from yarl import URL

from ..unit.fake_host import painted

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
EDIT = f"{API}/edit/jobs"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PROBLEM = "application/problem+json"


@pytest.fixture(params=["engine", "orchestrator"])
async def client(
    request: Any, orchestrate: Any, bucket_name: str, bench: Any, aiohttp_client: Any
) -> Any:
    """Nothing is run to its end behind it: jobs wait."""
    if request.param == "orchestrator":
        return await orchestrate(S3_BUCKET=bucket_name)
    bench.host.gate.clear()
    return await aiohttp_client(application(await bench.open(), Surface(version="1.2.3")))


async def ask(client: Any, method: str, path: str, **how: Any) -> tuple[int, Any, Any]:
    """Status, JSON and headers."""
    reply = await client.request(method, URL(path, encoded=True), **how)
    return reply.status, await reply.json(content_type=None), reply.headers


async def post(client: Any, path: str = DRAW, **body: Any) -> Any:
    status, job, _ = await ask(client, "POST", path, json=body)
    assert status == 202, job
    return job


async def test_a_job_is_accepted(client: Any) -> None:
    status, job, headers = await ask(client, "POST", DRAW, json={"text": "a tree", "size": None})

    assert status == 202
    assert UUID.fullmatch(job["job_id"])
    assert headers["Location"] == job["urls"]["self"] == f"{API}/jobs/{job['job_id']}"
    assert int(headers["Retry-After"]) >= 1
    assert (job["status"], job["stage"], job["workflow"]) == ("pending", "queued", "draw")
    assert list(job)[:5] == ["job_id", "status", "result_s3_uri", "error", "result_url"]
    assert job["parameters"].keys() == {"text", "seed", "size", "bold"}
    assert (job["result_url"], job["outputs"], job["attempt"]) == (None, [], 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job["created_at"])


async def test_a_job_is_read_as_it_was_accepted(client: Any) -> None:
    accepted = await post(client, seed=2**64 - 1, text="镜头 \x00 🎨")

    status, job, headers = await ask(client, "GET", f"{API}/jobs/{accepted['job_id']}")

    assert (status, headers["Cache-Control"]) == (200, "no-cache")
    for field in ("job_id", "workflow", "parameters", "created_at", "urls", "metadata"):
        assert job[field] == accepted[field]


async def test_a_form_in_chinese_is_read_as_it_was_written(client: Any) -> None:
    form = FormData({"text": "将镜头转为俯视 🎬", "size": "8"}, default_to_multipart=True)
    picture = FormData()
    picture.add_field("image", painted("teal"), filename="照片 一.png", content_type="image/png")

    status, job, _ = await ask(client, "POST", DRAW, data=form)
    uploaded, _, _ = await ask(client, "POST", EDIT, data=picture)

    assert (status, uploaded) == (202, 202)
    assert (job["parameters"]["text"], job["parameters"]["size"]) == ("将镜头转为俯视 🎬", 8)


@pytest.mark.parametrize("path", [DRAW, EDIT])
async def test_null_is_accepted_for_every_field_that_is_not_required(
    client: Any, path: str
) -> None:
    _, document, _ = await ask(client, "GET", f"{API}/openapi.json")
    content = document["paths"][path]["post"]["requestBody"]["content"]
    fields = content["application/json"]["schema"]["properties"]
    needed = content["application/json"]["examples"]["short"]["value"]

    job = await post(client, path, **{**dict.fromkeys(fields), **needed})

    plain = await post(client, path, **needed)
    assert job["parameters"] | {"seed": 0} == plain["parameters"] | {"seed": 0}
    assert job["metadata"] == {}


async def test_a_job_is_read_below_its_workflow_and_no_other(client: Any) -> None:
    job_id = (await post(client))["job_id"]

    assert (await ask(client, "GET", f"{DRAW}/{job_id}"))[0] == 200
    assert (await ask(client, "GET", f"{EDIT}/{job_id}"))[0] == 404


async def test_jobs_are_listed_in_pages_from_the_newest(client: Any) -> None:
    accepted = [(await post(client))["job_id"] for _ in range(5)]

    seen, path = [], f"{API}/jobs?limit=2"
    while path:
        _, page, _ = await ask(client, "GET", path)
        seen.append([job["job_id"] for job in page["data"]])
        cursor = page["next_cursor"]
        path = cursor and f"{API}/jobs?limit=2&after={cursor}"

    assert [len(page) for page in seen] == [2, 2, 1]
    assert [job_id for page in seen for job_id in page] == accepted[::-1]


async def test_a_list_is_narrowed(client: Any) -> None:
    await post(client)

    async def count(query: str) -> int:
        _, page, _ = await ask(client, "GET", f"{API}/jobs?{query}")
        return len(page["data"])

    assert await count("workflow=draw") == 1
    assert await count("status=completed") == 0
    assert await count("workflow=edit") == 0
    assert await count("workflow=%ED%A0%80%00") == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{API}/jobs/nobody", 404, "unknown_job"),
        ("GET", f"{API}/jobs/%00", 404, "unknown_job"),
        ("GET", f"{API}/jobs/%ED%A0%80", 404, "unknown_job"),
        ("GET", f"{API}/jobs/%2e%2e%2fx", 404, None),
        ("GET", f"{API}/jobs/{'a' * 3000}", 404, "unknown_job"),
        ("GET", f"{API}/jobs/nobody/outputs/0", 404, "unknown_job"),
        ("POST", f"{API}/jobs/nobody/cancel", 404, "unknown_job"),
        ("POST", f"{API}/jobs/%00/cancel", 404, "unknown_job"),
        ("GET", f"{API}/workflows/nothing", 404, "unknown_workflow"),
        ("GET", f"{API}/jobs?status=done", 400, "invalid_query"),
        ("POST", f"{API}/nothing/jobs", 404, "unknown_workflow"),
        ("DELETE", f"{API}/jobs", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_in_json(
    client: Any, method: str, path: str, status: int, code: str | None
) -> None:
    found, problem, headers = await ask(client, method, path)

    assert found == status
    if code:
        assert headers["Content-Type"].startswith(PROBLEM)
        assert problem["code"] == code


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"size": 0}, "size"),
        ({"seed": 2**64}, "seed"),
        ({"seed": -1}, "seed"),
        ({"text": 7}, "text"),
        ({"colour": "red"}, "colour"),
        ({"text": "\ud800"}, "text"),
        ({"output_format": "tiff"}, "output_format"),
    ],
)
async def test_wrong_parameters_are_named_and_nothing_is_accepted(
    client: Any, body: Any, param: str
) -> None:
    status, problem, _ = await ask(client, "POST", DRAW, json=body)

    assert (status, problem["code"]) == (422, "invalid_parameters")
    assert [error["param"] for error in problem["errors"]] == [param]
    assert (await ask(client, "GET", f"{API}/jobs"))[1]["data"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"seed": NaN}', b"[" * 100_000])
async def test_what_is_no_json_object_is_refused(client: Any, body: bytes) -> None:
    json_body = {"Content-Type": "application/json"}

    status, problem, _ = await ask(client, "POST", DRAW, data=body, headers=json_body)

    assert (status, problem["code"]) == (400, "malformed_body")


async def test_the_same_key_is_the_same_job(client: Any) -> None:
    async def submit(**body: Any) -> tuple[int, Any, Any]:
        return await ask(client, "POST", DRAW, json=body, headers={"Idempotency-Key": "order 7"})

    first, again, other = await submit(text="a"), await submit(text="a"), await submit(text="b")

    assert (first[0], again[0], other[0]) == (202, 200, 422)
    assert again[1]["job_id"] == first[1]["job_id"]
    assert again[1]["parameters"] == first[1]["parameters"]
    assert again[2]["Idempotency-Replayed"] == "true"
    assert other[1]["code"] == "idempotency_key_reused"


async def test_the_same_key_at_the_same_time_is_one_job(client: Any) -> None:
    replies = await asyncio.gather(
        *(ask(client, "POST", DRAW, json={}, headers={"Idempotency-Key": "k"}) for _ in range(20))
    )

    assert len({job["job_id"] for _, job, _ in replies}) == 1
    assert sorted(status for status, _, _ in replies) == [200] * 19 + [202]
    assert len({job["parameters"]["seed"] for _, job, _ in replies}) == 1


async def test_a_job_that_waits_is_cancelled_once_and_for_all(client: Any) -> None:
    accepted = await post(client)

    status, job, _ = await ask(client, "POST", accepted["urls"]["cancel"])
    again = await ask(client, "POST", accepted["urls"]["cancel"])
    _, read, _ = await ask(client, "GET", accepted["urls"]["self"])

    assert (status, job["status"], job["stage"]) == (200, "cancelled", None)
    assert again[:2] == (200, job)
    assert read == job


async def test_an_upload_and_an_embedded_picture_become_a_reference(client: Any) -> None:
    content = painted("teal")
    form = FormData()
    form.add_field("image", content, filename="a.png", content_type="image/png")

    uploaded = await ask(client, "POST", EDIT, data=form)
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    embedded = await post(client, EDIT, image_url=uri)

    assert uploaded[0] == 202
    assert uploaded[1]["parameters"] == embedded["parameters"]
    assert len(embedded["parameters"]["image_url"]) < 200


@pytest.mark.parametrize("content", [b"", b"<svg/>", b"GIF89a..."])
async def test_an_upload_that_is_no_picture_is_refused(client: Any, content: bytes) -> None:
    form = FormData()
    form.add_field("image", content, filename="a.png", content_type="image/png")

    status, problem, _ = await ask(client, "POST", EDIT, data=form)

    assert (status, problem["code"]) == (422, "input_invalid")


async def test_the_service_tells_what_it_offers_and_how_it_is(client: Any) -> None:
    at_root, info, _ = await ask(client, "GET", "/")
    _, catalog, _ = await ask(client, "GET", f"{API}/workflows")
    health, state, _ = await ask(client, "GET", "/health")

    assert (at_root, health) == (200, 200)
    assert {"draw", "edit"} <= set(info["workflows"])
    listed = {one["slug"]: one["health"] for one in catalog["data"]}
    assert listed["draw"] == "healthy"
    assert all(part["status"] == "healthy" for part in state["components"].values()), state


async def test_a_dry_run_shows_the_graph_and_accepts_nothing(client: Any) -> None:
    status, told, _ = await ask(client, "POST", f"{DRAW}?dry_run=true", json={"text": "a"})

    assert (status, told["workflow"], told["parameters"]["size"]) == (200, "draw", 8)
    assert told["graph"]["1"]["inputs"] == told["parameters"]
    assert (await ask(client, "GET", f"{API}/jobs"))[1]["data"] == []


async def test_metadata_come_back_with_the_job(client: Any) -> None:
    metadata = {"who": "王 🎨", "order": 7, "ratio": 0.1, "paid": True, "note": None}

    accepted = await post(client, metadata=metadata)
    _, read, _ = await ask(client, "GET", accepted["urls"]["self"])

    assert accepted["metadata"] == read["metadata"] == metadata


async def test_a_batch_is_accepted_item_by_item(client: Any) -> None:
    items = [{"text": "a", "idempotency_key": "k"}, {"size": 0}, {"text": "b"}]

    status, first, _ = await ask(client, "POST", f"{DRAW}:batch", json={"items": items})
    _, again, _ = await ask(client, "POST", f"{DRAW}:batch", json={"items": items[:1]})
    _, listed, _ = await ask(client, "GET", f"{API}/jobs")

    assert status == 200
    assert [result["status"] for result in first["results"]] == [202, 422, 202]
    assert first["results"][1]["error"]["code"] == "invalid_parameters"
    assert again["results"][0]["status"] == 200
    accepted = [result["job"]["job_id"] for result in first["results"] if "job" in result]
    assert [job["job_id"] for job in listed["data"]] == accepted[::-1]


async def test_only_a_job_that_has_ended_is_deleted(client: Any) -> None:
    accepted = await post(client)

    status, problem, _ = await ask(client, "DELETE", accepted["urls"]["self"])
    unknown, _, _ = await ask(client, "DELETE", f"{API}/jobs/nobody")

    assert (status, problem["code"], unknown) == (409, "job_not_finished", 404)


async def test_a_list_is_narrowed_by_time(client: Any) -> None:
    accepted = [await post(client) for _ in range(3)]

    async def listed(query: str) -> list[str]:
        _, page, _ = await ask(client, "GET", f"{API}/jobs?{query}")
        return [job["job_id"] for job in page["data"]]

    everything = [job["job_id"] for job in reversed(accepted)]
    assert await listed("created_after=2000-01-01T00:00:00Z") == everything
    assert await listed(f"created_after={accepted[0]['created_at']}") == everything
    assert await listed(f"created_before={accepted[0]['created_at']}") == []
    assert await listed("created_before=2100-01-01T00:00:00Z&limit=2") == everything[:2]
    assert await listed("created_after=2100-01-01T00:00:00Z") == []
