"""The port of our own, and the lock on everything that is not ours."""

import asyncio
import base64
import io
import json
import socket
from dataclasses import replace
from hashlib import sha256

import aiohttp
import pytest
from aiohttp import FormData, web
from multidict import CIMultiDict
from unified_api.jobs.keys import Key
from unified_api.routes import Listener, Lock, mount
from unified_api.routes.auth import Keyring
from unified_api.routes.service import Surface

from tests.common.ports import free_port

PREFIX = "/api/v1"
DRAW = f"{PREFIX}/draw/jobs"
COMFYUI = "http://127.0.0.1:8188"
SECRET, READER = "uak_root", "uak_reader"


def key(name, secret, *scopes):
    return Key(name=name, scopes=scopes, sha256=sha256(secret.encode()).hexdigest())


KEYRING = Keyring([key("root", SECRET, "admin"), key("reader", READER, "read", "submit")])


@pytest.fixture
async def listen(engine, settings):
    """Open a listener; what is given besides are settings. Its health is told by its surface."""
    opened = []

    async def start(*, surface=None, comfyui_url=COMFYUI, **given):
        listener = Listener(settings(**{"port": free_port(), **given}))
        opened.append(listener)
        surface = replace(surface or Surface("1.2.3"), parts=(listener,))
        await listener.open(engine, surface, comfyui_url=comfyui_url)
        return listener

    yield start
    for listener in opened:
        await listener.close()


@pytest.fixture
async def ask():
    """A request to an absolute URL: its response, read to the end."""
    async with aiohttp.ClientSession() as session:

        async def request(method, url, **how):
            async with session.request(method, url, **how) as response:
                await response.read()
                return response

        yield request


# What it serves


async def test_its_root_tells_what_the_service_is(listen, ask):
    listener = await listen()

    told = await (await ask("GET", f"{listener.url}/")).json()

    assert (told["version"], told["workflows"]) == ("1.2.3", ["draw", "edit"])
    for path in ("/health", "/ready", PREFIX, *told["links"].values()):
        assert (await ask("GET", listener.url + path)).status == 200


@pytest.mark.parametrize(
    "path", ["/prompt", "/api/prompt", "/ws", "/view", "/upload/image", f"{PREFIX}/%2e%2e/prompt"]
)
async def test_it_serves_nothing_of_comfyui(listen, ask, path):
    listener = await listen()

    for method in ("GET", "POST"):
        reply = await ask(method, listener.url + path)
        told = await reply.json()
        assert reply.content_type == "application/problem+json"
        assert (reply.status, told["code"]) == (404, "not_found")
        assert told["request_id"] == reply.headers["X-Request-Id"]


async def test_an_error_below_the_prefix_has_one_number(listen, ask):
    reply = await ask("GET", f"{(await listen()).url}{PREFIX}/nothing")

    assert (await reply.json())["request_id"] == reply.headers["X-Request-Id"]


async def test_jobs_with_large_uploads_are_taken(listen, ask, picture):
    listener = await listen()
    form = FormData()
    form.add_field("image", io.BytesIO(picture("red") + b"\0" * 3_000_000), filename="a.png")

    reply = await ask("POST", f"{listener.url}{PREFIX}/edit/jobs", data=form)

    assert reply.status == 202


@pytest.mark.parametrize(("quality", "status"), [("7", 202), ("0", 422), ("many", 422)])
async def test_what_all_workflows_take_may_come_in_a_form(listen, ask, quality, status):
    form = FormData({"output_format": "webp", "quality": quality}, default_to_multipart=True)

    reply = await ask("POST", (await listen()).url + DRAW, data=form)

    assert reply.status == status


async def test_a_file_for_a_parameter_that_is_no_picture_is_refused(listen, ask):
    form = FormData()
    form.add_field("text", b"\0" * 1000, filename="a.png")

    reply = await ask("POST", (await listen()).url + DRAW, data=form)

    assert (reply.status, (await reply.json())["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    ("host", "anonymous", "status"),
    [("0.0.0.0", 0, 503), ("0.0.0.0", 1, 200), ("127.0.0.1", 0, 200)],
)
async def test_its_own_address_decides_whether_it_is_open(listen, ask, host, anonymous, status):
    for is_open in (True, False):
        listener = await listen(
            surface=Surface("1", is_open=is_open), host=host, allow_anonymous=anonymous
        )

        reply = await ask("GET", f"http://127.0.0.1:{listener.port}{PREFIX}/jobs")

        assert reply.status == status


@pytest.mark.parametrize(
    ("public_url", "headers", "anonymous", "status"),
    [
        (None, {}, 0, 200),
        (None, {"X-Forwarded-For": "203.0.113.7"}, 0, 503),
        (None, {"X-Forwarded-For": "203.0.113.7"}, 1, 200),
        ("https://api.example.org", {}, 0, 503),
        ("https://api.example.org", {"Host": "api.example.org"}, 0, 503),
        ("https://api.example.org", {"Host": "api.example.org"}, 1, 200),
    ],
)
async def test_there_too_a_proxy_needs_a_key(listen, ask, public_url, headers, anonymous, status):
    listener = await listen(surface=Surface("1", public_url=public_url), allow_anonymous=anonymous)

    reply = await ask("GET", f"{listener.url}{PREFIX}/jobs", headers=headers)

    assert reply.status == status


async def test_keys_count_there_too(listen, ask):
    listener = await listen(surface=Surface("1", keyring=KEYRING))

    replies = [
        await ask("GET", f"{listener.url}{PREFIX}/jobs"),
        await ask("GET", f"{listener.url}{PREFIX}/jobs", headers=bearer(READER)),
    ]

    assert [reply.status for reply in replies] == [401, 200]


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


# Pages of other origins

PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.mark.parametrize(
    ("setting", "origin", "allowed"),
    [
        ("https://app.example", "https://app.example", "https://app.example"),
        ("https://APP.example, http://b:81", "https://app.example", "https://app.example"),
        ("https://app.example, http://b:81", "http://b:81", "http://b:81"),
        ("*", "https://any.example", "*"),
        ("*", "null", "*"),
    ],
)
async def test_pages_of_allowed_origins_may_use_it(listen, ask, setting, origin, allowed):
    listener = await listen(cors_origins=setting)
    headers = {"Origin": origin}

    asked = await ask("OPTIONS", listener.url + DRAW, headers={**headers, **PREFLIGHT})
    made = await ask("POST", listener.url + DRAW, json={}, headers=headers)

    assert (asked.status, made.status) == (204, 202)
    for reply in (asked, made):
        assert reply.headers["Access-Control-Allow-Origin"] == allowed
        assert "Access-Control-Allow-Credentials" not in reply.headers
        assert reply.headers.getall("Vary", []) == ([] if allowed == "*" else ["Origin, Referer"])
        assert reply.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert {"authorization", "content-type", "idempotency-key"} <= words(
        asked.headers["Access-Control-Allow-Headers"]
    )
    assert {"location", "retry-after", "x-request-id", "etag"} <= words(
        made.headers["Access-Control-Expose-Headers"]
    )


def words(text):
    return set(text.lower().split(", "))


async def test_a_refusal_can_be_read_by_the_page_as_well(listen, ask):
    listener = await listen(cors_origins="https://app.example")

    reply = await ask(
        "POST", listener.url + DRAW, data=b"{", headers={"Origin": "https://app.example"}
    )

    assert reply.status == 415
    assert reply.headers["Access-Control-Allow-Origin"] == "https://app.example"


@pytest.mark.parametrize("setting", ["", "https://app.example"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"],
)
async def test_pages_of_other_origins_may_not(listen, ask, setting, origin):
    listener = await listen(cors_origins=setting)
    headers = {"Origin": origin}

    asked = await ask("OPTIONS", listener.url + DRAW, headers={**headers, **PREFLIGHT})
    made = await ask("POST", listener.url + DRAW, json={}, headers=headers)

    assert (asked.status, made.status) == (403, 403)
    for reply in (asked, made):
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/nothing", "/health", "/prompt"])
async def test_nothing_of_this_port_is_embedded_by_others(listen, ask, path):
    listener = await listen()

    reply = await ask("GET", listener.url + path)

    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_under_a_foreign_name_this_port_does_not_say_what_it_is(listen, ask):
    listener = await listen()

    reply = await ask("GET", f"{listener.url}/", headers={"Host": "evil.example"})

    assert (reply.status, (await reply.json())["code"]) == (403, "unknown_host")


# A port that cannot be had


async def health_of(aiohttp_client, engine, listener):
    app = web.Application()
    mount(app, engine, Surface("1", parts=(listener,)))
    reply = await (await aiohttp_client(app)).get("/health")
    told = await reply.json()
    return reply.status, told["status"], told["components"]["listener"]


async def test_an_open_port_is_healthy(listen, aiohttp_client, engine):
    health = await health_of(aiohttp_client, engine, await listen())

    assert health == (200, "healthy", {"status": "healthy", "reason": None})


async def test_a_taken_port_is_told_and_harms_nothing_else(listen, aiohttp_client, engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, overall, part = await health_of(aiohttp_client, engine, await listen(port=port))

    assert (status, overall, part["status"]) == (200, "degraded", "unhealthy")
    assert part["reason"] == (
        f"UNIFIED_API_PORT: 127.0.0.1:{port} cannot be opened: address already in use"
    )


@pytest.mark.parametrize("host", ["203.0.113.7", "nowhere.invalid", "a..b", "x" * 300])
async def test_an_address_that_is_not_ours_is_told(listen, aiohttp_client, engine, host):
    status, overall, part = await health_of(aiohttp_client, engine, await listen(host=host))

    assert (status, overall, part["status"]) == (200, "degraded", "unhealthy")


async def test_comfyuis_own_port_is_left_to_comfyui(listen, aiohttp_client, engine):
    port = free_port()

    listener = await listen(port=port, comfyui_url=f"http://127.0.0.1:{port}")

    assert "of ComfyUI itself" in listener.component.reason
    with socket.create_server(("127.0.0.1", port)):
        pass


# The lock


async def editor(_request):
    return web.Response(text="the editor")


async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("hello")
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest.fixture
def comfyui(aiohttp_client, engine):
    """Something like ComfyUI, locked."""

    async def start(keyring=KEYRING, **surface):
        app = web.Application()
        app.add_routes([web.route("*", path, editor) for path in ("/", "/prompt", "/api/prompt")])
        app.add_routes([web.get("/ws", websocket)])
        made = Surface("1", keyring=keyring, is_locked=True, **surface)
        mount(app, engine, made)
        Lock(lambda: app)
        return await aiohttp_client(app)

    return start


def basic(secret, user="anybody"):
    encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer("uak_wrong"), 401),
        (bearer(READER), 403),
        (bearer(SECRET), 200),
        (basic("uak_wrong"), 401),
        (basic(""), 401),
        (basic(READER), 403),
        (basic(SECRET), 200),
        (basic(SECRET, user=""), 200),
        (basic(f"x:{SECRET}"), 401),
        ({"Authorization": f"Basic {SECRET}"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Basic ä"}, 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": f"Digest {SECRET}"}, 401),
    ],
)
async def test_the_rest_of_comfyui_takes_an_admin_key(comfyui, headers, status):
    client = await comfyui()

    for method, path in [
        ("GET", "/"),
        ("POST", "/prompt"),
        ("POST", "/api/prompt"),
        ("OPTIONS", "/prompt"),
        ("GET", "/%61pi/prompt"),
        ("GET", f"{PREFIX}/%2e%2e/%2e%2e/prompt"),
    ]:
        reply = await client.request(method, path, headers=headers)
        text = await reply.text()
        if PREFIX not in path:
            assert (reply.status, text == "the editor") == (status, status == 200)
        assert ("WWW-Authenticate" in reply.headers) == (reply.status == 401)
        assert text != "the editor" or status == 200


@pytest.mark.parametrize("headers", [bearer(SECRET), basic(SECRET)])
async def test_the_websocket_takes_an_admin_key(comfyui, headers):
    client = await comfyui()

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws")
    async with client.ws_connect("/ws", headers=headers) as connection:
        assert await connection.receive_str() == "hello"

    assert refused.value.status == 401


@pytest.mark.parametrize("headers", [bearer(SECRET), basic(SECRET)])
@pytest.mark.parametrize("left", [[], [key("root", SECRET, "read-all")]])
async def test_the_websocket_of_a_key_that_is_revoked_is_cut_off(comfyui, tmp_path, headers, left):
    file = tmp_path / "keys.json"
    root, other = key("root", SECRET, "admin"), key("other", READER, "admin")
    write(file, root, other)
    client = await comfyui(Keyring(file=file), recheck_seconds=0.05)
    cut_off = await client.ws_connect("/ws", headers=headers)
    stays = await client.ws_connect("/ws", headers=bearer(READER))

    write(file, other, *left)

    assert await cut_off.receive_str(timeout=10) == "hello"
    assert (await cut_off.receive(timeout=10)).type in CLOSED
    assert await stays.receive_str(timeout=10) == "hello"
    await asyncio.sleep(0.2)
    await stays.send_str("still here?")
    assert await stays.receive_str(timeout=10) == "still here?"


CLOSED = {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR}


def write(file, *keys):
    part = file.with_suffix(".part")
    part.write_text(json.dumps([json.loads(each.model_dump_json()) for each in keys]))
    part.replace(file)


async def test_what_is_not_there_takes_an_admin_key_as_well(comfyui):
    client = await comfyui()

    assert (await client.get("/nothing")).status == 401
    assert (await client.get("/nothing", headers=bearer(SECRET))).status == 404


async def test_our_own_routes_ask_for_their_own_scopes(comfyui):
    client = await comfyui()

    assert (await client.get("/health")).status == 200
    assert (await client.get(PREFIX)).status == 200
    assert (await client.get(f"{PREFIX}/jobs")).status == 401
    assert (await client.get(f"{PREFIX}/jobs", headers=bearer(READER))).status == 200
    assert (await client.get(f"{PREFIX}/jobs", headers=basic(SECRET))).status == 401
    assert (await client.get(f"{PREFIX}/x/y", headers=bearer(READER))).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "Same-Site"},
        {"Sec-Fetch-Site": "something-new"},
        {"Sec-Fetch-Site": ""},
        CIMultiDict([("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]),
    ],
)
async def test_a_password_that_the_browser_remembers_serves_no_other_page(comfyui, headers):
    client = await comfyui()

    given = CIMultiDict([*basic(SECRET).items(), *headers.items()])

    remembered = await client.post("/prompt", headers=given)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws", headers=given)

    assert (remembered.status, refused.value.status) == (403, 403)


async def test_a_bearer_key_is_no_password_that_a_browser_remembers(comfyui):
    client = await comfyui()

    reply = await client.post("/prompt", headers={**bearer(SECRET), "Origin": "https://a.example"})

    assert reply.status == 200


async def test_the_lock_comes_before_whatever_else_may_answer(aiohttp_client, engine):
    @web.middleware
    async def hasty(_request, _handler):
        return web.Response(text="the editor")

    app = web.Application(middlewares=[hasty])
    made = Surface("1", keyring=KEYRING)
    mount(app, engine, made)
    Lock(lambda: app)

    assert (await (await aiohttp_client(app)).get("/")).status == 401


@pytest.mark.parametrize(
    "site", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}]
)
async def test_the_editor_may_use_it(comfyui, site):
    client = await comfyui()
    own = {"Origin": str(client.make_url("/")).rstrip("/"), **site}

    assert (await client.post("/prompt", headers={**basic(SECRET), **own})).status == 200
    assert (await client.get("/", headers={**basic(SECRET), **site})).status == 200


async def test_a_lock_without_a_key_says_how_to_make_one(comfyui):
    client = await comfyui(keyring=Keyring())

    reply = await client.get("/", headers=basic(SECRET))

    assert reply.status == 503
    assert "./install.sh key add" in await reply.text()
    assert (await client.get("/health")).status == 200


async def test_a_lock_whose_keys_are_gone_says_so(comfyui, tmp_path):
    file = tmp_path / "keys.json"
    file.write_text("[]")
    client = await comfyui(keyring=Keyring(file=file))

    revoked = await client.get("/", headers=basic(SECRET))
    file.unlink()
    gone = await client.get("/", headers=basic(SECRET))

    assert (revoked.status, gone.status) == (503, 503)
    assert "restore keys.json" in await gone.text()
    assert "WWW-Authenticate" not in gone.headers


async def test_the_lock_is_not_opened_by_what_a_page_may_do_elsewhere(comfyui):
    client = await comfyui(is_open=True, is_local=True)

    assert (await client.get("/")).status == 401
