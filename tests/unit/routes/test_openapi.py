"""The OpenAPI document: it is valid, it fits what is served, and fuzzing by it finds no fault."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from hashlib import sha256

import pytest
from aiohttp import FormData
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from unified_api.jobs.keys import Key
from unified_api.routes.api import API, BESIDE, METRICS
from unified_api.routes.auth import Keyring
from unified_api.routes.listener import application
from unified_api.routes.openapi import describe
from unified_api.routes.openapi_examples import bodies, completed, refused
from unified_api.routes.openapi_schemas import request
from unified_api.routes.problems import STATUS
from unified_api.routes.service import Surface
from unified_api.routes.view import PREFIX
from unified_api.workflows import LIBRARY, Catalog

SECRET = "uak_of-the-fuzzer"
KEY = Key(name="fuzz", scopes=["submit", "read"], sha256=sha256(SECRET.encode()).hexdigest())
#: For the fuzzer: by time in the full run, else by number, so that a slow machine tries no less.
FULL_BUDGET = ("--max-time", "15")
SHORT_BUDGET = ("--max-examples", "5")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
#: No picture is fetched from anywhere by the fuzzer.
NOWHERE = "example.com"


@pytest.fixture
def library():
    catalog = Catalog([LIBRARY])
    catalog.refresh()
    return catalog.workflows


@pytest.mark.parametrize("security", [[], [{"key": []}]])
def test_the_document_is_valid(library, security):
    document = describe(library.values(), version="1.2.3", security=security)

    OpenAPIV31SpecValidator(document).validate()


def test_the_document_has_every_route(library):
    document = describe(library.values(), version="1.2.3", security=[])

    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    served = {
        (route.method, prefix + route.path.replace(r":\d{1,4}", "").replace("{workflow}", slug))
        for prefix, routes in ((PREFIX, API), ("/metrics", METRICS), ("", BESIDE))
        for route in routes
        for slug in library
    }
    assert described == served


def test_every_operation_has_a_name_of_its_own_and_a_group(library):
    document = describe(library.values(), version="1.2.3", security=[])

    described = list(operations(document))
    names = [operation["operationId"] for operation in described]
    assert len(names) == len(set(names))
    assert {"create_image_resize_job", "create_image_resize_jobs", "get_job"} <= set(names)
    assert all(name.isidentifier() and name == name.lower() for name in names)
    assert all(len(operation["tags"]) == 1 for operation in described)


def test_every_operation_says_what_it_does_and_a_workflow_bears_its_title(library):
    document = describe(library.values(), version="1.2.3", security=[])

    told = {each["operationId"]: each["summary"] for each in operations(document)}
    titles = tuple(workflow.title for workflow in library.values())
    verbs = ("Get ", "List ", "Watch ", "Cancel ", "Delete ", "Download ", "Open ", "Check ")
    assert [each for each in told.values() if not each.startswith((*verbs, *titles))] == []
    assert told["create_image_resize_job"] == library["image-resize"].title
    assert told["get_health"] != told["get_api_health"]


def test_every_example_fits_its_schema(library):
    document = describe(library.values(), version="1.2.3", security=[])

    shown = list(examples(document))
    assert len(shown) == 11 * len(library)
    for schema, value in shown:
        whole = {**schema, "components": document["components"]}
        Draft202012Validator(whole).validate(value)


def test_examples_are_those_of_the_definition(library):
    camera = library["camera-angle"]

    assert bodies(camera) == {
        "short": {"image_url": "https://example.com/photo.jpg"},
        # Without a prompt: beside one, the three numbers would say nothing.
        "full": {
            "image_url": "https://example.com/photo.jpg",
            "vertical": 2,
            "horizontal": -1,
            "zoom": 1,
            "seed": 42,
            "steps": 8,
        },
    }
    job = completed(camera, bodies(camera)["full"])
    assert (job["status"], job["progress"]["percent"]) == ("completed", 100)
    assert "俯视" in job["parameters"]["prompt"]
    assert job["result_s3_uri"] == job["outputs"][0]["url"]
    assert refused(camera)["code"] == "invalid_parameters"


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "string"}, "text"),
        ({"type": "integer", "maximum": 0}, 0),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, 0.5),
        ({"type": "boolean"}, True),
        ({"type": "string", "enum": ["b", "a"]}, "b"),
        ({"type": "string", "minLength": 2, "examples": ["nice", "fine"]}, "nice"),
    ],
)
def test_what_is_needed_has_an_example_also_where_its_author_gave_none(library, schema, example):
    workflow = replace(
        library["image-resize"],
        schema={"type": "object", "required": ["a"], "properties": {"a": schema}},
    )

    assert bodies(workflow) == {"short": {"a": example}}


@pytest.mark.parametrize("schema", [{"examples": ["euler"]}, {"examples": [], "default": "euler"}])
def test_what_is_not_accepted_any_more_is_no_example(library, schema):
    schema = {"type": "string", "enum": ["beta"], **schema}
    workflow = replace(
        library["image-resize"], schema={"type": "object", "properties": {"a": schema}}
    )

    assert bodies(workflow) == {"short": {}}


def test_what_nobody_can_guess_has_no_example(library):
    schema = {"type": "string", "pattern": "^[a-f]{40}$"}
    workflow = replace(
        library["image-resize"],
        schema={"type": "object", "required": ["a"], "properties": {"a": schema}},
    )

    document = describe([workflow], version="1.2.3", security=[])

    OpenAPIV31SpecValidator(document).validate()
    assert bodies(workflow) == {}


@pytest.mark.parametrize("as_form", [False, True])
@pytest.mark.parametrize("slug", ["image-resize", "camera-angle", "qwen-image-edit"])
async def test_every_example_is_accepted_as_it_stands(
    aiohttp_client, bench, library, slug, as_form
):
    bench.definitions = LIBRARY
    client = await aiohttp_client(application(await bench.open(), Surface("1")))

    for body in bodies(library[slug]).values():
        form = {name: str(value) for name, value in body.items()}
        sent = {"data": FormData(form, default_to_multipart=True)} if as_form else {"json": body}
        reply = await client.post(f"{PREFIX}/{slug}/jobs?dry_run=true", **sent)

        assert reply.status == 200, await reply.text()
        assert body.items() <= (await reply.json())["parameters"].items()


@pytest.mark.parametrize("slug", ["image-resize", "camera-angle", "qwen-image-edit"])
async def test_null_is_accepted_for_every_field_that_is_not_required(
    aiohttp_client, bench, library, slug
):
    bench.definitions = LIBRARY
    client = await aiohttp_client(application(await bench.open(), Surface("1")))
    short = bodies(library[slug])["short"]
    body = {**dict.fromkeys(request(library[slug])["properties"]), **short}

    told, given = [
        await client.post(f"{PREFIX}/{slug}/jobs?dry_run=true", json=sent) for sent in (body, short)
    ]

    assert told.status == given.status == 200, await told.text()
    assert without_seed(await told.json()) == without_seed(await given.json())


def test_every_code_of_a_refusal_is_listed(library):
    problem = describe([], version="1", security=[])["components"]["schemas"]["Problem"]

    *known, anything = problem["properties"]["code"]["anyOf"]
    assert anything == {"type": "string"}
    assert {each.code for each in STATUS} <= {each["const"] for each in known}
    assert all(each["description"] for each in known)


def test_null_stands_for_every_optional_parameter_and_no_other(library):
    schema = Draft202012Validator(request(library["image-resize"]))
    url = {"image_url": "https://example.com/a.png"}

    assert schema.is_valid(url)
    assert schema.is_valid({**url, "width": None, "crop": None})
    assert schema.is_valid({**url, "output_format": "webp", "quality": None})
    assert schema.is_valid({**url, "metadata": {"a": 1}, "webhook_url": None})
    assert not schema.is_valid({**url, "quality": 0})
    assert not schema.is_valid({**url, "metadata": {"a": []}})
    assert not schema.is_valid({**url, "webhook_events": ["job.begun"]})
    assert not schema.is_valid({"image_url": None})
    assert not schema.is_valid({**url, "colour": "red"})


async def test_the_document_says_whether_keys_are_asked_for(aiohttp_client, engine):
    told = []
    for surface in (Surface("1"), Surface("1", keyring=Keyring([KEY]))):
        client = await aiohttp_client(application(engine, surface))
        reply = await client.get(
            f"{PREFIX}/openapi.json", headers={"Authorization": f"Bearer {SECRET}"}
        )
        told.append((await reply.json())["security"])

    assert told == [[], [{"key": []}]]


def operations(document):
    return (each for path in document["paths"].values() for each in path.values())


def examples(document):
    """Each with the schema of its place."""
    for operation in operations(document):
        for place in (operation.get("requestBody", {}), *operation["responses"].values()):
            for media in place.get("content", {}).values():
                for example in media.get("examples", {}).values():
                    yield media["schema"], example["value"]


def without_seed(rehearsal):
    """A rehearsal without what is drawn anew each time."""
    seed = rehearsal["parameters"].pop("seed", None)
    return json.dumps(rehearsal).replace(str(seed), "drawn")


@pytest.mark.parametrize("headers", [(), (f"Authorization:Bearer {SECRET}",)])
@pytest.mark.timeout(180)
async def test_fuzzing_finds_no_fault(aiohttp_server, bench, headers, tmp_path, is_full):
    surface = Surface("1", keyring=Keyring([KEY] if headers else []))
    server = await aiohttp_server(application(await bench.open(deny_hosts=NOWHERE), surface))
    url = str(server.make_url(f"{PREFIX}/openapi.json"))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", url, "--checks", ",".join(CHECKS)),
        *(FULL_BUDGET if is_full else SHORT_BUDGET),
        *("--seed", "1", "--warnings", "off", "--no-color"),
        *(part for header in headers for part in ("--header", header)),
    ]

    fuzzer = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    report, _ = await fuzzer.communicate()

    assert fuzzer.returncode == 0, report.decode()
