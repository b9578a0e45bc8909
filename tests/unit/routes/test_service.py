"""What the service tells of itself."""

import json

import pytest
from unified_api.jobs.prompt import Lack
from unified_api.workflows import Takes

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
EDIT = f"{API}/edit/jobs"


async def test_the_service_tells_what_it_is(ask):
    told = (await ask("GET", API)).json

    assert told["version"] == "1.2.3"
    assert told["workflows"] == ["draw", "edit"]
    for path in told["links"].values():
        assert (await ask("GET", path)).status == 200


@pytest.mark.parametrize("path", ["/health", f"{API}/health"])
async def test_health_names_each_part(ask, path):
    reply = await ask("GET", path)

    assert (reply.status, reply.json["status"]) == (200, "healthy")
    assert {"comfyui", "store", "workflows", "settings"} <= set(reply.json["components"])
    assert reply.headers["Cache-Control"] == "no-store"


async def test_a_part_that_is_missing_degrades_health_and_is_told_by_name(serve, bench):
    (bench.definitions / "draw" / "graph.json").write_text("{}")
    ask = await serve(await bench.open())

    reply = await ask("GET", "/health")

    assert (reply.status, reply.json["status"]) == (200, "degraded")
    assert "draw" in reply.json["components"]["workflows"]["reason"]
    assert (await ask("GET", "/ready")).status == 200


async def test_a_service_that_cannot_run_jobs_is_unhealthy_and_not_ready(ask, bench):
    assert (await ask("GET", "/ready")).json["ready"]

    bench.host.problem = "ComfyUI's worker thread has died."

    health = await ask("GET", "/health")
    assert (health.status, health.json["status"]) == (503, "unhealthy")
    assert health.json["components"]["comfyui"]["reason"] == bench.host.problem
    assert (await ask("GET", "/ready")).status == 503


async def test_the_catalog_shows_every_workflow_with_its_parameters(ask):
    listed = {each["slug"]: each for each in (await ask("GET", f"{API}/workflows")).json["data"]}

    assert set(listed) == {"draw", "edit"}
    assert listed["draw"]["health"] == "healthy"
    assert set(listed["draw"]["parameters"]["properties"]) == {"text", "seed", "size", "bold"}
    assert listed["edit"]["images"] == ["image_url"]
    assert (await ask("GET", listed["draw"]["urls"]["self"])).json == listed["draw"]


async def test_the_catalog_shows_how_long_a_job_may_take(serve, bench):
    file = bench.definitions / "draw" / "workflow.json"
    limits = {"limits": {"max_run_seconds": 90}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **limits}))
    ask = await serve(await bench.open())

    listed = {each["slug"]: each for each in (await ask("GET", f"{API}/workflows")).json["data"]}

    assert listed["draw"]["limits"] == {"max_wait_seconds": None, "max_run_seconds": 90}
    assert listed["edit"]["limits"] == {"max_wait_seconds": None, "max_run_seconds": None}


async def test_what_this_comfyui_takes_is_shown_and_all_that_is_accepted(serve, bench):
    bench.host.taking = {"Draw": {"text": Takes(choices=("", "cat", "dog"))}}
    ask = await serve(await bench.open())

    catalog = (await ask("GET", f"{API}/workflows/draw")).json
    described = (await ask("GET", f"{API}/openapi.json")).json
    refused = await ask("POST", DRAW, json={"text": "nonsense"})

    assert catalog["parameters"]["properties"]["text"]["enum"] == ["", "cat", "dog"]
    body = described["paths"][DRAW]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["text"]["enum"] == ["", "cat", "dog", None]
    assert (refused.status, refused.code) == (422, "invalid_parameters")
    assert refused.json["errors"][0]["allowed"] == ["", "cat", "dog"]
    assert (await ask("POST", DRAW, json={"text": "cat"})).status == 202


async def test_a_workflow_that_cannot_run_is_listed_with_the_reason_and_refused(serve, bench):
    bench.host.lacking.append(Lack("1", None, "node class Draw is not installed"))
    (bench.definitions / "edit" / "workflow.json").write_text("{")
    ask = await serve(await bench.open())

    listed = {each["slug"]: each for each in (await ask("GET", f"{API}/workflows")).json["data"]}
    refused = [await ask("POST", path, json={}) for path in (DRAW, EDIT)]

    assert [each["health"] for each in listed.values()] == ["unhealthy", "unhealthy"]
    assert "Draw is not installed" in listed["draw"]["problems"][0]
    assert "workflow.json" in listed["edit"]["problems"][0]
    assert [(reply.status, reply.code) for reply in refused] == [(503, "workflow_unhealthy")] * 2
    assert "Draw is not installed" in refused[0].json["detail"]
