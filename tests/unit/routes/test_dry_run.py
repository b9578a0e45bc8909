"""A request that is only judged and shown: nothing comes of it."""

from __future__ import annotations

import base64

import pytest
from aiohttp import FormData
from unified_api.routes.limits import Limits, Rate
from unified_api.routes.listener import application
from unified_api.routes.service import Surface

DRAW = "/api/v1/draw/jobs?dry_run=true"
EDIT = "/api/v1/edit/jobs?dry_run=true"


@pytest.fixture
async def client(aiohttp_client, engine):
    return await aiohttp_client(application(engine, Surface("1")))


async def post(client, path, **body):
    reply = await client.post(path, json=body)
    return reply.status, await reply.json()


async def test_the_effective_parameters_and_the_graph_are_told(client) -> None:
    status, told = await post(client, DRAW, text="a tree", output_format="webp")

    parameters = told["parameters"]
    assert (status, told["workflow"]) == (200, "draw")
    assert told.keys() == {"workflow", "parameters", "graph"}
    assert parameters == {"text": "a tree", "seed": parameters["seed"], "size": 8, "bold": False}
    assert told["graph"]["1"]["inputs"] == parameters
    assert told["graph"]["2"]["class_type"] == "SaveImage"


async def test_nothing_is_stored_or_run(client, bench, tmp_path) -> None:
    await post(client, DRAW)

    jobs = await (await client.get("/api/v1/jobs")).json()
    assert (jobs["data"], bench.host.prompts) == ([], [])


async def test_a_picture_is_named_as_it_was_given_and_not_fetched(client, gallery, picture) -> None:
    url = gallery.hang("/a.png", picture("teal"))

    status, told = await post(client, EDIT, image_url=url)

    assert (status, told["graph"]["1"]["inputs"]["image"]) == (200, url)
    assert gallery.asked == {}


@pytest.mark.parametrize("is_form", [True, False])
async def test_a_picture_that_is_sent_along_is_not_kept(client, picture, tmp_path, is_form) -> None:
    content = picture("teal")
    form = FormData()
    form.add_field("image", content, filename="a.png", content_type="image/png")
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"

    reply = await client.post(EDIT, **{"data": form} if is_form else {"json": {"image_url": uri}})

    assert reply.status == 200
    assert (await reply.json())["graph"]["1"]["inputs"]["image"] == "upload:not-kept"
    assert list((tmp_path / "input").rglob("*.*")) == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (DRAW, {"size": 0}, "invalid_parameters"),
        (DRAW, {"metadata": []}, "invalid_parameters"),
        (DRAW, {"priority": "low"}, "invalid_parameters"),
        (EDIT, {}, "invalid_parameters"),
        (EDIT, {"image_url": "data:image/png;base64,?"}, "input_invalid"),
        ("/api/v1/nothing/jobs?dry_run=true", {}, "unknown_workflow"),
        ("/api/v1/draw/jobs?dry_run=yes", {}, "invalid_query"),
        ("/api/v1/draw/jobs?dry_run=", {}, "invalid_query"),
    ],
)
async def test_what_a_job_would_be_refused_for_is_refused(client, path, body, code) -> None:
    status, problem = await post(client, path, **body)

    assert (status >= 400, problem["code"]) == (True, code)


async def test_a_workflow_that_cannot_run_is_refused(aiohttp_client, bench) -> None:
    (bench.definitions / "draw" / "graph.json").write_text("{}")
    client = await aiohttp_client(application(await bench.open(), Surface("1")))

    assert (await post(client, DRAW))[1]["code"] == "workflow_unhealthy"


async def test_without_the_wish_a_job_is_made(client) -> None:
    assert (await post(client, "/api/v1/draw/jobs?dry_run=false"))[0] == 202


async def test_it_counts_against_the_rate(aiohttp_client, engine) -> None:
    surface = Surface("1", limits=Limits(Rate(1)))
    client = await aiohttp_client(application(engine, surface))

    statuses = [(await post(client, DRAW))[0] for _ in range(2)]

    assert statuses == [200, 429]
