"""The OpenAPI document: it is valid, it fits what is served, and fuzzing by it finds no fault."""

from __future__ import annotations

import asyncio
import sys
from hashlib import sha256

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from unified_api.jobs.keys import Key
from unified_api.routes.api import API, BESIDE, METRICS
from unified_api.routes.auth import Keyring
from unified_api.routes.listener import application
from unified_api.routes.openapi import describe, request_schema
from unified_api.routes.service import Surface
from unified_api.routes.view import PREFIX
from unified_api.workflows import LIBRARY, Catalog

SECRET = "uak_of-the-fuzzer"
KEY = Key(name="fuzz", scopes=["submit", "read"], sha256=sha256(SECRET.encode()).hexdigest())
FUZZ_SECONDS = 15
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


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


def test_null_stands_for_every_optional_parameter_and_no_other(library):
    schema = Draft202012Validator(request_schema(library["image-resize"]))
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
        reply = await client.get(f"{PREFIX}/openapi.json")
        told.append((await reply.json())["security"])

    assert told == [[], [{"key": []}]]


@pytest.mark.parametrize("headers", [(), (f"Authorization:Bearer {SECRET}",)])
@pytest.mark.timeout(180)
async def test_fuzzing_finds_no_fault(aiohttp_server, engine, headers, tmp_path):
    surface = Surface("1", keyring=Keyring([KEY] if headers else []))
    server = await aiohttp_server(application(engine, surface))
    url = str(server.make_url(f"{PREFIX}/openapi.json"))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", url, "--checks", ",".join(CHECKS)),
        *("--max-time", str(FUZZ_SECONDS), "--seed", "1", "--warnings", "off", "--no-color"),
        *(part for header in headers for part in ("--header", header)),
    ]

    fuzzer = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    report, _ = await fuzzer.communicate()

    assert fuzzer.returncode == 0, report.decode()
