"""Callers without a key, while there are no keys: who comes in, and what they may do."""

import json

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from unified_api.jobs.keys import Scope
from unified_api.routes import mount
from unified_api.routes.anonymous import access_of, is_direct
from unified_api.routes.auth import Keyring
from unified_api.routes.door import admit
from unified_api.routes.problems import problems
from unified_api.routes.service import Surface

from .door import DRAW, JOBS, PREFIX, bearer, code_of, key, submitted

LOCAL = {"is_local": True, "is_open": False}
PUBLIC_URL = "https://api.example.org"

FORWARDED = [
    {"X-Forwarded-For": "203.0.113.7"},
    {"x-forwarded-for": "127.0.0.1"},
    {"X-Forwarded-For": ""},
    {"X-Forwarded-Host": "api.example.org"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Client-Cert": "By=a"},
    {"X-Original-Forwarded-For": "203.0.113.7"},
    {"X_Forwarded_For": "203.0.113.7"},
    {"Forwarded": "for=203.0.113.7"},
    {"X-Real-IP": "203.0.113.7"},
    {"X-Client-IP": "203.0.113.7"},
    {"Via": "1.1 varnish"},
    {"CF-Connecting-IP": "203.0.113.7"},
    {"CF-Ray": "1"},
    {"True-Client-IP": "203.0.113.7"},
    {"Fastly-Client-IP": "203.0.113.7"},
    {"X-Azure-ClientIP": "203.0.113.7"},
    {"X-Envoy-External-Address": "203.0.113.7"},
    {"CloudFront-Viewer-Address": "203.0.113.7:1"},
    {"Tailscale-User-Login": "ann@example.org"},
]


@pytest.mark.parametrize("headers", FORWARDED)
async def test_what_a_proxy_passes_on_needs_a_key(door, headers):
    client = await door(keyring=Keyring(), **LOCAL)

    direct, forwarded = await client.get(JOBS), await client.get(JOBS, headers=headers)

    assert direct.status == 200
    assert await code_of(forwarded) == (503, "auth_not_configured")
    assert "proxy" in (await forwarded.json())["detail"]
    assert (await client.post(DRAW, json={}, headers=headers)).status == 503
    assert (await client.get("/metrics", headers=headers)).status == 503
    assert (await client.get("/ready", headers=headers)).status == 503
    assert "workflows" not in await (await client.get("/ready", headers=headers)).json()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "api.example.org"])
async def test_with_a_public_address_nobody_comes_in_without_a_key(door, host):
    client = await door(keyring=Keyring(), public_url=PUBLIC_URL, **LOCAL)

    reply = await client.get(JOBS, headers={"Host": host})

    assert await code_of(reply) == (503, "auth_not_configured")


@pytest.mark.parametrize("headers", [{}, *FORWARDED])
@pytest.mark.parametrize("public_url", [None, PUBLIC_URL])
async def test_whoever_allows_anonymous_callers_means_proxies_too(door, headers, public_url):
    client = await door(keyring=Keyring(), is_local=True, is_open=True, public_url=public_url)

    assert (await client.get(JOBS, headers=headers)).status == 200


@pytest.mark.parametrize("headers", FORWARDED[:3])
async def test_a_key_comes_in_by_a_proxy(door, headers):
    client = await door(public_url=PUBLIC_URL, **LOCAL)

    assert (await client.get(JOBS, headers={**bearer(), **headers})).status == 200


async def test_reasons_are_not_for_those_behind_a_proxy(door, bench):
    bench.host.problem = "ComfyUI's worker thread has died."
    client = await door(keyring=Keyring(), **LOCAL)

    told = [
        (await (await client.get("/health", headers=headers)).json())["components"]["comfyui"]
        for headers in ({}, FORWARDED[0])
    ]

    assert [part["reason"] for part in told] == [bench.host.problem, None]


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.7:8188"])
async def test_a_name_that_is_not_of_this_machine_is_still_refused_as_such(door, host):
    client = await door(keyring=Keyring(), **LOCAL)

    assert await code_of(await client.get(JOBS, headers={"Host": host})) == (403, "unknown_host")


class _Transport:
    def __init__(self, peer):
        self._peer = peer

    def get_extra_info(self, name, default=None):
        return self._peer if name == "peername" else default


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("127.0.0.1", 1), True),
        (("127.0.0.2", 1), True),
        (("::1", 1, 0, 0), True),
        (("::1%lo", 1, 0, 1), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("::ffff:203.0.113.7", 1, 0, 0), False),
        (("203.0.113.7", 1), False),
        (("192.168.1.7", 1), False),
        (("172.17.0.1", 1), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (("::", 1, 0, 0), False),
        (("localhost", 1), False),
        ("", False),
        ("/run/api.sock", False),
        (None, False),
    ],
)
def test_only_a_loopback_address_is_of_this_machine(peer, expected):
    request = make_mocked_request("GET", "/", transport=_Transport(peer))

    assert is_direct(request, Surface("1", **LOCAL)) == expected


async def test_what_comes_by_a_unix_socket_needs_a_key(engine, tmp_path):
    app = web.Application()
    mount(app, engine, Surface("1", keyring=Keyring(), **LOCAL))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "socket")).start()

    connector = aiohttp.UnixConnector(str(tmp_path / "socket"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://127.0.0.1{JOBS}") as reply,
    ):
        status = reply.status
    await runner.cleanup()

    assert status == 503


# What anonymous callers may do


@pytest.fixture
def ask_admin(aiohttp_client, engine):
    """How a route that takes the scope admin answers."""

    async def restricted(request):
        await admit(request, Scope.ADMIN)
        return web.Response()

    async def ask(headers, **surface):
        app = web.Application(middlewares=[problems])
        mount(app, engine, Surface("1", keyring=Keyring(), **surface))
        app.add_routes([web.get("/admin", restricted)])
        client = await aiohttp_client(app)
        return await client.get("/admin", headers=headers)

    return ask


@pytest.mark.parametrize("surface", [LOCAL, {"is_open": True}, {**LOCAL, "is_open": True}])
async def test_the_own_machine_is_admin_without_keys(ask_admin, surface):
    assert (await ask_admin({}, **surface)).status == 200


@pytest.mark.parametrize(
    ("headers", "surface"),
    [
        (FORWARDED[0], {}),
        (FORWARDED[0], {"is_local": True}),
        ({}, {"public_url": PUBLIC_URL}),
        ({"Host": "evil.example"}, {}),
    ],
)
async def test_anonymous_callers_of_the_network_are_not_admin(ask_admin, headers, surface):
    reply = await ask_admin(headers, is_open=True, **surface)

    assert await code_of(reply) == (403, "forbidden")
    assert "./install.sh key add" in (await reply.json())["detail"]


async def test_anonymous_callers_submit_read_and_cancel_what_nobody_owns(door, engine):
    owned = await submitted(await door(keyring=Keyring([key("ann")])), "ann")
    client = await door(keyring=Keyring(), is_open=True)
    headers = FORWARDED[0]

    accepted = await client.post(DRAW, json={}, headers=headers)
    job_id = (await accepted.json())["job_id"]
    own = [
        await client.get(f"{JOBS}/{job_id}", headers=headers),
        await client.post(f"{JOBS}/{job_id}/cancel", headers=headers),
    ]
    foreign = [
        await client.get(f"{JOBS}/{owned}", headers=headers),
        await client.post(f"{JOBS}/{owned}/cancel", headers=headers),
        await client.delete(f"{JOBS}/{owned}", headers=headers),
    ]
    seen = [
        [job["job_id"] for job in (await (await client.get(JOBS, headers=given)).json())["data"]]
        for given in (headers, {})
    ]

    assert accepted.status == 202
    assert [reply.status for reply in own] == [200, 200]
    assert [reply.status for reply in foreign] == [404, 404, 404]
    assert seen == [[job_id], [job_id, owned]]


async def test_pages_that_lack_jobs_of_others_lead_on_to_the_next(door):
    with_keys = await door(keyring=Keyring([key("ann")]))
    client = await door(keyring=Keyring(), is_open=True)
    first = (await (await client.post(DRAW, json={})).json())["job_id"]
    for _ in range(3):
        await submitted(with_keys, "ann")

    seen, cursor = [], None
    while True:
        query = {"limit": "2", **({"after": cursor} if cursor else {})}
        reply = await client.get(JOBS, params=query, headers=FORWARDED[0])
        page = json.loads(await reply.text())
        seen += [job["job_id"] for job in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break

    assert seen == [first]


# In plain words


@pytest.mark.parametrize(
    ("surface", "state", "words"),
    [
        (LOCAL, "healthy", "callers on this machine are admitted"),
        ({"is_open": True}, "healthy", "everybody who reaches this port"),
        ({"is_open": False}, "degraded", "can be reached from the network but has no API keys"),
        ({**LOCAL, "public_url": PUBLIC_URL}, "degraded", "UNIFIED_API_PUBLIC_URL is set"),
        ({**LOCAL, "keyring": Keyring([key()])}, "healthy", "Every caller needs a key"),
    ],
)
def test_who_comes_in_is_told_in_plain_words(surface, state, words):
    told = access_of(Surface("1", **surface))

    assert told.state.value == state
    assert words in told.reason


async def test_the_health_tells_who_comes_in(door):
    keyring = Keyring()
    client = await door(keyring=keyring, parts=(keyring,), **LOCAL)

    health = await (await client.get(f"{PREFIX}/health")).json()

    assert health["components"]["keys"]["status"] == "healthy"
    assert "No keys" in health["components"]["keys"]["reason"]
