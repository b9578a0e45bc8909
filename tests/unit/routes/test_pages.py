"""The web pages over HTTP: public, strict about what they load, and nothing beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from unified_api.jobs.keys import Key
from unified_api.routes.auth import Keyring
from unified_api.routes.listener import application
from unified_api.routes.openapi_schemas import components
from unified_api.routes.pages import assets
from unified_api.routes.service import Surface
from yarl import URL

ROOT = Path(__file__).resolve().parents[3]
API = "/api/v1"
PAGES = (f"{API}/docs", f"{API}/dashboard")
LOCKED = Surface("1", keyring=Keyring([Key(name="a", scopes=["read"], sha256="0" * 64)]))


@pytest.fixture
async def client(aiohttp_client, engine):
    return await aiohttp_client(application(engine, LOCKED))


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_there_for_everybody(client, path):
    reply = await client.get(path)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1" in await reply.text()
    assert (await client.get(f"{API}/jobs")).status == 401


async def test_every_part_is_served_as_what_it_is(client):
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

    for name in assets():
        reply = await client.get(f"{API}/web/{name}")

        assert reply.status == 200
        assert reply.content_type == kinds[Path(name).suffix]
        assert await reply.read() == (ROOT / "web" / name).read_bytes()


@pytest.mark.parametrize("path", [*PAGES, f"{API}/web/style.css"])
async def test_nothing_foreign_is_loaded_and_no_script_in_the_page_runs(client, path):
    headers = (await client.get(path)).headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data: https: http:"
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_browser_asks_again_and_is_told_that_nothing_has_changed(client):
    first = await client.get(f"{API}/docs")
    again = await client.get(f"{API}/docs", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "..%2Fpyproject.toml",
        "%2e%2e%2f__init__.py",
        "%2Fetc%2Fpasswd",
        "style.css%00",
    ],
)
async def test_no_name_leads_out_of_the_folder(client, name):
    reply = await client.get(URL(f"{API}/web/{name}", encoded=True))

    assert reply.status == 404
    assert reply.content_type == "application/problem+json"


def test_the_pages_work_below_any_prefix_and_without_other_servers():
    for file in (ROOT / "web").iterdir():
        text = file.read_text(encoding="utf-8")
        links = re.findall(r"""(?:href|src)=["']([^"']+)["']""", text)

        assert not [link for link in links if link.startswith("/") or "//" in link], file
        assert "style=" not in text
        assert not re.findall(r"<script(?![^>]* src=)|<style|\son\w+=", text), file
        assert "innerHTML" not in text


@pytest.mark.parametrize(
    "name", ["JobView", "ProgressView", "OutputView", "Timings", "ErrorDetail", "Problem"]
)
def test_the_types_that_the_scripts_are_checked_with_are_those_of_the_api(name):
    text = (ROOT / "tests" / "web" / "api.d.ts").read_text(encoding="utf-8")
    (body,) = re.findall(rf"interface {name} {{\n(.*?)\n}}", text, re.DOTALL)
    typed = re.findall(r"^  (\w+): (.*);$", body, re.MULTILINE)

    fields = components()[name]["properties"]

    assert typed
    assert {field for field, _ in typed} <= set(fields)
    # Its model has null for a moment that every job has.
    nullable = {field for field in fields if {"type": "null"} in fields[field].get("anyOf", [])}
    known = {field for field, _ in typed if field != "created_at"}
    assert {field for field, kind in typed if "| null" in kind} == nullable & known
