"""Browsers: pages of other origins get nothing, whatever they send."""

import pytest
from unified_api.routes.auth import Keyring

from .door import DRAW, JOBS, PREFIX, bearer, code_of


def origin(value, **more):
    return {"Origin": value, **more}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        (origin("http://evil.example"), 403),
        (origin("null"), 403),
        (origin("null", Host="null"), 403),
        (origin("http://127.0.0.1:1"), 403),
        (origin("http://localhost.evil.example"), 403),
        (origin("http://[::1"), 403),
        (origin("garbage"), 403),
        (origin(""), 403),
        (origin("http://localhost:8188", Host="localhost:8188"), 202),
        (origin("http://LOCALHOST:8188", Host="localhost:8188"), 202),
        (origin("https://api.example.org", Host="api.example.org"), 202),
        (origin("https://api.example.org", Host="127.0.0.1:8188"), 202),
        (origin("https://app.example", Host="127.0.0.1:8188"), 202),
        (origin("http://app.example", Host="127.0.0.1:8188"), 403),
    ],
)
async def test_pages_of_other_origins_may_not_submit(door, headers, status):
    client = await door(
        keyring=Keyring(),
        is_local=True,
        public_url="https://api.example.org/",
        cors_origins=("https://app.example",),
    )

    reply = await client.post(DRAW, json={}, headers=headers)

    assert reply.status == status
    if status == 403:
        assert await code_of(reply) == (403, "foreign_origin")


async def test_a_key_does_not_excuse_a_foreign_origin(door):
    client = await door()

    replies = [
        await client.get(JOBS, headers={**bearer(), **origin("http://evil.example")}),
        await client.post(DRAW, json={}, headers={**bearer(), **origin("http://evil.example")}),
        await client.get(f"{PREFIX}/health", headers=origin("http://evil.example")),
    ]

    assert [reply.status for reply in replies] == [403, 403, 200]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8188", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8188", 200),
        ("127.8.9.10", 200),
        ("[::1]:8188", 200),
        ("api.example.org", 200),
        ("api.example.org:9000", 200),
        ("evil.example", 403),
        ("evil.example:8188", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("api.example.org.evil.example", 403),
        ("192.168.1.7:8188", 403),
        ("0.0.0.0", 403),
        ("[::]", 403),
        ("evil.example@localhost", 403),
        ("localhost:evil", 403),
        ("[::1", 403),
        ("::1", 403),
        ("-", 403),
    ],
)
async def test_a_machine_of_its_own_answers_to_its_own_names_alone(door, host, status):
    """A page whose name was made to point at this machine would else be of its own origin."""
    client = await door(keyring=Keyring(), is_local=True, public_url="https://api.example.org")

    reply = await client.get(JOBS, headers={"Host": host})

    assert reply.status == status
    if status == 403:
        assert await code_of(reply) == (403, "unknown_host")


@pytest.mark.parametrize("host", ["evil.example:8188", "192.168.1.7", "", "-"])
async def test_under_a_foreign_name_nothing_is_told_but_whether_it_is_well(door, bench, host):
    """What asks under such a name may be a load balancer, too."""
    client = await door(keyring=Keyring(), is_local=True)
    named = {"Host": host}

    async def told(path):
        reply = await client.get(path, headers=named)
        return reply.status, await reply.json()

    well = [await told("/health"), await told("/ready")]
    bench.host.problem = "ComfyUI's worker thread has died."

    assert well == [(200, {"status": "healthy"}), (200, {"ready": True})]
    for path in ("/health", f"{PREFIX}/health"):
        assert await told(path) == (503, {"status": "unhealthy"})
    assert await told("/ready") == (503, {"ready": False})
    for path in (PREFIX, f"{PREFIX}/openapi.json", f"{PREFIX}/workflows", "/metrics", JOBS):
        assert await code_of(await client.get(path, headers=named)) == (403, "unknown_host"), path
        assert (await client.head(path, headers=named)).status == 403, path


async def test_a_page_of_another_origin_is_told_no_reasons(door, bench):
    bench.host.problem = "ComfyUI's worker thread has died."
    client = await door(keyring=Keyring(), is_local=True)

    reply = await client.get("/health", headers=origin("http://evil.example"))

    assert (await reply.json())["components"]["comfyui"]["reason"] is None


# Pages that would show what is answered

APP = "https://app.example"


@pytest.mark.parametrize(
    ("origins", "headers", "policy"),
    [
        ((), {}, "same-origin"),
        ((), {"Referer": "https://evil.example/"}, "same-origin"),
        ((), origin("https://evil.example"), "same-origin"),
        ((APP,), {}, "same-origin"),
        ((APP,), origin("https://evil.example"), "same-origin"),
        ((APP,), {"Referer": "https://evil.example/?https://app.example/"}, "same-origin"),
        ((APP,), {"Referer": "https://app.example.evil.example/"}, "same-origin"),
        ((APP,), {"Referer": "http://app.example/"}, "same-origin"),
        ((APP,), {"Referer": APP, **origin("https://evil.example")}, "same-origin"),
        ((APP,), {"Referer": "app.example"}, "same-origin"),
        ((APP,), origin(APP), "cross-origin"),
        ((APP,), {"Referer": f"{APP}/gallery?page=2"}, "cross-origin"),
        ((APP,), {"Referer": f"{APP}/"}, "cross-origin"),
        (("*",), {}, "cross-origin"),
        (("*",), {"Referer": "https://any.example/"}, "cross-origin"),
    ],
)
async def test_only_pages_of_allowed_origins_may_embed_anything(door, origins, headers, policy):
    client = await door(keyring=Keyring(), cors_origins=origins)
    made = await client.post(DRAW, json={}, headers={"Prefer": "wait=30"})
    path = (await made.json())["urls"]["self"]

    for suffix in ("", "/events", "/outputs/0", "/outputs/0/thumbnail"):
        reply = await client.get(f"{path}{suffix}", headers=headers)
        assert reply.headers["Cross-Origin-Resource-Policy"] == policy, suffix
        await reply.read()


EVERYTHING = (
    *(PREFIX, f"{PREFIX}/health", "/health", "/ready", "/metrics", JOBS, f"{PREFIX}/nothing"),
    *(f"{PREFIX}/workflows", f"{PREFIX}/openapi.json", f"{PREFIX}/docs", f"{PREFIX}/web/icon.svg"),
)


@pytest.mark.parametrize("headers", [{}, bearer(), bearer("other")])
@pytest.mark.parametrize("path", EVERYTHING)
async def test_nothing_is_embedded_by_others_be_it_a_refusal(door, path, headers):
    client = await door()

    for method in ("GET", "HEAD", "OPTIONS"):
        if (method, path) in {("OPTIONS", "/health"), ("OPTIONS", "/ready")}:
            continue  # There aiohttp answers by itself: 405, beside the routes of others.
        reply = await client.request(method, path, headers=headers)
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin", method


async def test_without_a_public_address_no_name_is_taken_for_it(door):
    client = await door(keyring=Keyring(), is_local=True)

    assert (await client.get(JOBS, headers={"Host": "-:-"})).status == 403


async def test_whoever_has_a_key_may_use_any_name(door):
    client = await door(is_local=True)

    assert (await client.get(JOBS, headers={**bearer(), "Host": "gpu.example"})).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_plain_form_of_a_browser_submits_nothing(door, content_type):
    client = await door(keyring=Keyring())

    reply = await client.post(DRAW, data=b"{}", headers={"Content-Type": content_type})

    assert await code_of(reply) == (415, "unsupported_body")
