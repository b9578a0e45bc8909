"""The door: who comes in, to which rooms, how often, and what is told to those who do not."""

import asyncio
import json
from hashlib import sha256

import pytest
from aiohttp import web
from multidict import CIMultiDict
from unified_api.jobs.keys import Key
from unified_api.jobs.settings import Settings
from unified_api.routes import announce, mount
from unified_api.routes.api import API, BESIDE, METRICS, NEEDS, PUBLIC
from unified_api.routes.auth import Keyring
from unified_api.routes.limits import Limits, Quota, Rate
from unified_api.routes.service import Surface
from yarl import URL

PREFIX = "/api/v1"
JOBS = f"{PREFIX}/jobs"
DRAW = f"{PREFIX}/draw/jobs"
ALL = ("submit", "read", "cancel")


def secret_of(name):
    return f"uak_{name.ljust(43, 'x')}"


def key(name="ann", scopes=ALL):
    digest = sha256(secret_of(name).encode()).hexdigest()
    return Key(name=name, scopes=scopes, sha256=digest)


def bearer(name="ann"):
    return {"Authorization": f"Bearer {secret_of(name)}"}


@pytest.fixture
def door(aiohttp_client, engine):
    """A client of an API whose surface is given; without a word on keys there is one, Ann's."""

    async def start(service=engine, **surface):
        surface.setdefault("keyring", Keyring([key()]))
        app = web.Application()
        mount(app, service, Surface("1", **surface))
        return await aiohttp_client(app)

    return start


async def code_of(reply):
    assert reply.content_type == "application/problem+json"
    return (reply.status, (await reply.json())["code"])


async def submitted(client, name="ann", **headers):
    reply = await client.post(DRAW, json={}, headers={**bearer(name), **headers})
    assert reply.status == 202, await reply.text()
    return (await reply.json())["job_id"]


# Keys

ANN = secret_of("ann")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", ANN)],
        [("Authorization", f"Basic {ANN}")],
        [("Authorization", f"Token {ANN}")],
        [("Authorization", f"Bearer{ANN}")],
        [("Authorization", f"Bearer {ANN[:-1]}")],
        [("Authorization", f"Bearer {ANN}x")],
        [("Authorization", f"Bearer {ANN} {ANN}")],
        [("Authorization", f"Bearer {ANN.upper()}")],
        [("Authorization", f"Bearer {sha256(ANN.encode()).hexdigest()}")],
        [("Authorization", "Bearer ann")],
        [("Authorization", "Bearer ключ-ä")],
        [("Authorization", f"Bearer {'x' * 5000}")],
        [("Authorization", f"Bearer {ANN}"), ("Authorization", f"Bearer {ANN}")],
        [("Authorization", f"Bearer {ANN}"), ("authorization", "Bearer other")],
        [("Cookie", f"Authorization=Bearer {ANN}")],
        [("X-Api-Key", ANN)],
        [("Proxy-Authorization", f"Bearer {ANN}")],
    ],
)
async def test_whoever_has_no_key_is_refused_in_the_same_words(door, headers):
    client = await door()

    reply = await client.get(f"{JOBS}?key={ANN}&access_token={ANN}", headers=CIMultiDict(headers))

    told = await reply.json()
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
    del told["request_id"]
    assert told == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "code": "unauthorized",
        "detail": "Send one header `Authorization: Bearer KEY` with a key of this server.",
        "instance": JOBS,
    }


async def test_a_key_of_bytes_that_are_no_text_is_refused(door):
    client = await door()
    reader, writer = await asyncio.open_connection(client.host, client.port)

    writer.write(
        b"GET /api/v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\xed\xa0\r\n"
    )
    writer.write(b"Connection: close\r\n\r\n")
    reply = await reader.read()
    writer.close()

    assert reply.split()[1] in {b"401", b"400"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_key_opens(door, scheme):
    client = await door()

    reply = await client.get(JOBS, headers={"Authorization": f"{scheme} {ANN}"})

    assert reply.status == 200


def test_every_route_is_public_or_needs_a_scope():
    assert {route.handler for route in (*API, *METRICS, *BESIDE)} == PUBLIC | set(NEEDS)
    assert PUBLIC.isdisjoint(NEEDS)


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("read", "GET", JOBS, 200),
        ("read", "GET", f"{PREFIX}/workflows", 200),
        ("read", "GET", f"{PREFIX}/workflows/draw", 200),
        ("read", "GET", f"{JOBS}/nobody", 404),
        ("read", "GET", f"{DRAW}/nobody", 404),
        ("read", "GET", f"{JOBS}/nobody/outputs/0", 404),
        ("submit", "POST", DRAW, 202),
        ("cancel", "POST", f"{JOBS}/nobody/cancel", 404),
    ],
)
async def test_each_route_takes_its_scope_or_admin_and_no_other(door, scope, method, path, status):
    client = await door(keyring=Keyring([key(each, [each]) for each in (*ALL, "admin")]))
    body = {"json": {}} if method == "POST" else {}

    replies = {
        name: (await client.request(method, path, headers=bearer(name), **body)).status
        for name in (*ALL, "admin")
    }

    others = dict.fromkeys({*ALL} - {scope}, 403)
    assert replies == {scope: status, "admin": status, **others}


async def test_a_missing_scope_is_told(door):
    client = await door(keyring=Keyring([key("reader", ["read"])]))

    reply = await client.post(DRAW, json={}, headers=bearer("reader"))

    assert await code_of(reply) == (403, "forbidden")


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/health", "/health", "/ready"])
async def test_the_outside_is_shown_to_everybody(door, path):
    client = await door()

    assert (await client.get(path)).status == 200


async def test_what_is_not_there_is_not_told_without_a_key(door):
    client = await door()

    without = [await client.get(f"{PREFIX}/nothing"), await client.put(JOBS)]
    known = [await client.get(f"{PREFIX}/nothing", headers=bearer())]

    assert [reply.status for reply in without] == [401, 401]
    assert [reply.status for reply in known] == [404]


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize(
    ("headers", "tells"), [({}, False), (bearer("other"), False), (bearer(), True)]
)
async def test_reasons_are_for_those_who_may_read(door, bench, headers, tells, is_open):
    bench.host.problem = "ComfyUI's worker thread has died."
    client = await door(is_open=is_open)

    health = await (await client.get("/health", headers=headers)).json()
    ready = await (await client.get("/ready", headers=headers)).json()

    comfyui = health["components"]["comfyui"]
    assert comfyui == {"status": "unhealthy", "reason": bench.host.problem if tells else None}
    assert ("workflows" in ready) == tells


async def test_a_name_may_have_two_keys_while_one_takes_the_place_of_the_other(door):
    new = Key(name="ann", scopes=ALL, sha256=key("new").sha256)
    client = await door(keyring=Keyring([key("ann"), new]))
    job_id = await submitted(client, "ann")

    assert (await client.get(f"{JOBS}/{job_id}", headers=bearer("new"))).status == 200


# The file of keys


def filed(path, *keys):
    """Written as the key command does it: a new file takes the place of the old one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps([json.loads(each.model_dump_json()) for each in keys]))
    part.replace(path)


async def status_for(client, name):
    return (await client.get(JOBS, headers=bearer(name))).status


async def test_a_change_of_the_file_counts_from_the_next_request(door, tmp_path):
    file = tmp_path / "keys.json"
    client = await door(keyring=Keyring([key("ann")], file))
    seen = [await status_for(client, "bob")]

    filed(file, key("bob"))
    seen.append(await status_for(client, "bob"))
    filed(file, key("eve"))
    seen.append(await status_for(client, "bob"))

    assert seen == [401, 200, 401]
    assert await status_for(client, "ann") == 200


async def test_the_first_key_closes_a_door_that_was_open(door, tmp_path):
    file = tmp_path / "keys.json"
    client = await door(keyring=Keyring(file=file))
    assert await status_for(client, "ann") == 200

    filed(file, key("bob"))
    assert await status_for(client, "ann") == 401

    file.unlink()
    assert await status_for(client, "ann") == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b'{"a": 1}', b'[{"name": "a"}]', b"\xff", b'[{"name": "a b"}]']
)
async def test_a_file_that_cannot_be_read_lets_nobody_in_and_is_told(door, tmp_path, content):
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    keyring = Keyring([key("ann")], file)
    client = await door(keyring=keyring, parts=(keyring,))

    health = await (await client.get("/health", headers=bearer("ann"))).json()

    assert (health["status"], health["components"]["keys"]["status"]) == ("degraded", "degraded")
    assert "keys.json" in health["components"]["keys"]["reason"]
    assert await status_for(client, "bob") == 401
    assert await status_for(client, "ann") == 200


async def test_a_file_that_breaks_shuts_out_those_it_let_in(door, tmp_path):
    file = tmp_path / "keys.json"
    filed(file, key("ann"))
    client = await door(keyring=Keyring(file=file))
    assert await status_for(client, "ann") == 200

    file.write_bytes(b"{")

    assert await status_for(client, "ann") == 401


async def test_a_file_that_cannot_be_looked_at_lets_nobody_in(door, tmp_path):
    file = tmp_path / "keys.json"
    file.symlink_to(file)
    client = await door(keyring=Keyring(file=file))

    assert await status_for(client, "ann") == 401


async def test_a_folder_in_place_of_the_file_lets_nobody_in(door, tmp_path):
    (tmp_path / "keys.json").mkdir()
    client = await door(keyring=Keyring(file=tmp_path / "keys.json"))

    assert await status_for(client, "ann") == 401


async def test_a_file_without_keys_lets_nobody_in(door, tmp_path):
    filed(tmp_path / "keys.json")
    client = await door(keyring=Keyring(file=tmp_path / "keys.json"))

    assert await status_for(client, "ann") == 401


async def test_a_file_that_is_mended_counts_again(door, tmp_path):
    file = tmp_path / "keys.json"
    file.write_bytes(b"{")
    client = await door(keyring=Keyring(file=file))
    assert await status_for(client, "ann") == 401

    filed(file, key("ann"))

    assert await status_for(client, "ann") == 200


# Reachable from the network, or not


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("allows_anonymous", ["0", "1"])
@pytest.mark.parametrize("has_keys", [True, False])
async def test_without_keys_only_this_machine_comes_in_unless_it_is_meant(
    door, settings, tmp_path, is_local, allows_anonymous, has_keys
):
    one = key()
    keys = {"keys": f"{one.name}:{'+'.join(one.scopes)}:{one.sha256}"} if has_keys else {}
    given = settings(allow_anonymous=allows_anonymous, **keys)
    made = Surface.of(given, version="1", keys_file=tmp_path / "none", is_local=is_local)
    client = await door(**{name: getattr(made, name) for name in vars(made) if name != "version"})

    stranger, ann = await client.get(JOBS), await client.get(JOBS, headers=bearer())

    is_open = is_local or allows_anonymous == "1"
    expected = (401, 200) if has_keys else ((200, 200) if is_open else (503, 503))
    assert (stranger.status, ann.status) == expected
    assert (await client.get("/ready")).status == (200 if has_keys or is_open else 503)


async def test_wrong_keys_in_the_settings_let_nobody_in(door, tmp_path):
    given = Settings.from_env({"UNIFIED_API_KEYS": ANN})
    made = Surface.of(given, version="1", keys_file=tmp_path / "none", is_local=True)
    client = await door(keyring=made.keyring)

    assert await status_for(client, "ann") == 401
    assert ANN not in "".join(given.problems)


# Other people's jobs


async def test_a_job_exists_for_its_owner_and_for_admins_alone(door, bench):
    client = await door(keyring=Keyring([key("ann"), key("bob"), key("root", ["admin"])]))
    job_id = await submitted(client, "ann")

    async def is_done():
        shown = await (await client.get(f"{JOBS}/{job_id}", headers=bearer("ann"))).json()
        return shown["status"] == "completed"

    await bench.until(is_done)
    paths = [f"{JOBS}/{job_id}", f"{DRAW}/{job_id}", f"{JOBS}/{job_id}/outputs/0"]

    seen, lists = {}, {}
    for name in ("ann", "bob", "root"):
        replies = [await client.get(path, headers=bearer(name)) for path in paths]
        seen[name] = [reply.status for reply in replies]
        lists[name] = [job["job_id"] for job in await _listed(client, name)]

    assert seen == {"ann": [200] * 3, "bob": [404] * 3, "root": [200] * 3}
    assert lists == {"ann": [job_id], "bob": [], "root": [job_id]}
    assert (await client.post(f"{JOBS}/{job_id}/cancel", headers=bearer("bob"))).status == 404


async def test_a_stranger_is_told_the_same_of_a_job_as_of_none(door):
    client = await door(keyring=Keyring([key("ann"), key("bob")]))
    job_id = await submitted(client, "ann")

    told = []
    for each in (job_id, "6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11"):
        reply = await (await client.get(f"{JOBS}/{each}", headers=bearer("bob"))).json()
        told.append((reply["status"], reply["code"], reply["detail"]))

    assert told[0] == told[1]


async def test_jobs_from_before_the_keys_are_for_admins(door, tmp_path):
    file = tmp_path / "keys.json"
    client = await door(keyring=Keyring(file=file))
    job_id = (await (await client.post(DRAW, json={})).json())["job_id"]

    filed(file, key("ann"), key("root", ["admin"]))

    assert [job["job_id"] for job in await _listed(client, "root")] == [job_id]
    assert await _listed(client, "ann") == []
    assert (await client.get(f"{JOBS}/{job_id}", headers=bearer("ann"))).status == 404


async def _listed(client, name):
    return (await (await client.get(JOBS, headers=bearer(name))).json())["data"]


# The same request twice


async def post_with(client, idempotency_key, body=None, name="ann"):
    headers = {**bearer(name), "Idempotency-Key": idempotency_key}
    return await client.post(DRAW, json=body or {}, headers=headers)


async def test_the_same_idempotency_key_gives_the_same_job(door):
    client = await door()

    first, again = [await post_with(client, "order 7", {"text": "a"}) for _ in range(2)]

    assert (first.status, again.status) == (202, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"] == again.headers["Location"]


async def test_fifty_equal_requests_at_once_make_one_job(door):
    client = await door()

    replies = await asyncio.gather(*(post_with(client, "order 7") for _ in range(50)))

    assert sorted({reply.status for reply in replies}) == [200, 202]
    assert len({reply.headers["Location"] for reply in replies}) == 1
    assert len(await _listed(client, "ann")) == 1


async def test_the_same_idempotency_key_with_another_body_is_refused(door):
    client = await door()
    await post_with(client, "order 7", {"text": "a"})

    reply = await post_with(client, "order 7", {"text": "b"})

    assert await code_of(reply) == (422, "idempotency_key_reused")


async def test_the_idempotency_keys_of_others_are_others(door):
    client = await door(keyring=Keyring([key("ann"), key("bob")]))

    anns, bobs = [await post_with(client, "order 7", name=name) for name in ("ann", "bob")]

    assert anns.headers["Location"] != bobs.headers["Location"]


@pytest.mark.parametrize("given", [[""], ["x" * 256], ["ä"], ["a\tb"], ["a", "a"], ["ключ"], [" "]])
async def test_an_idempotency_key_that_is_none_is_refused(door, given):
    client = await door()
    headers = CIMultiDict({**bearer()})
    headers.extend([("Idempotency-Key", each) for each in given])

    reply = await client.post(DRAW, json={}, headers=headers)

    assert await code_of(reply) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize("given", ["x", "x" * 255, 'a b;c="d",\'%00'])
async def test_any_other_idempotency_key_is_taken(door, given):
    client = await door()

    assert (await post_with(client, given)).status == 202


# Too many, too slow


async def test_a_flood_is_stopped_by_key_and_told_when_to_come_back(door):
    now = [1000.0]
    limits = Limits(rate=Rate(6, clock=lambda: now[0]))
    client = await door(limits=limits, keyring=Keyring([key("ann"), key("bob")]))

    flood = [await client.post(DRAW, json={}, headers=bearer("ann")) for _ in range(8)]

    assert [reply.status for reply in flood] == [202] * 6 + [429] * 2
    assert await code_of(flood[-1]) == (429, "rate_limited")
    assert flood[-1].headers["Retry-After"] == "10"
    assert await status_for(client, "ann") == 200
    await submitted(client, "bob")

    now[0] += 10
    await submitted(client, "ann")
    assert (await client.post(DRAW, json={}, headers=bearer("ann"))).status == 429


async def test_a_long_rest_earns_no_more_than_a_minute_of_jobs(door):
    now = [1000.0]
    client = await door(limits=Limits(rate=Rate(2, clock=lambda: now[0])))
    await submitted(client)

    now[0] += 86_400
    flood = [await client.post(DRAW, json={}, headers=bearer()) for _ in range(3)]

    assert [reply.status for reply in flood] == [202, 202, 429]


async def test_a_refused_request_costs_no_picture_and_no_body(door):
    limits = Limits(rate=Rate(1, clock=lambda: 0.0))
    client = await door(limits=limits)
    await submitted(client)

    reply = await client.post(DRAW, data=b"not json at all", headers=bearer())

    assert await code_of(reply) == (429, "rate_limited")


async def test_a_key_has_only_so_many_jobs_under_way(door, bench):
    bench.host.gate.clear()
    client = await door(
        limits=Limits(quota=Quota(3)), keyring=Keyring([key("ann"), key("bob"), key("eve")])
    )

    posts = (client.post(DRAW, json={}, headers=bearer("ann")) for _ in range(20))
    replies = await asyncio.gather(*posts)

    assert sorted(reply.status for reply in replies) == [202] * 3 + [429] * 17
    refused = next(reply for reply in replies if reply.status == 429)
    assert await code_of(refused) == (429, "too_many_jobs")
    assert int(refused.headers["Retry-After"]) >= 1
    await submitted(client, "bob")

    bench.host.gate.set()

    async def has_room():
        return (await client.post(DRAW, json={}, headers=bearer("ann"))).status == 202

    await bench.until(has_room)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=b"])
async def test_a_body_that_does_not_end_is_given_up(door, content_type):
    client = await door(limits=Limits(body_seconds=0.05))
    reader, writer = await asyncio.open_connection(client.host, client.port)

    head = f"POST {DRAW} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n"
    head += f"Authorization: Bearer {ANN}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b"--b\r\n")
    told = await reader.readuntil(b"}")
    writer.close()

    assert told.startswith(b"HTTP/1.1 408")
    assert b'"code": "body_timeout"' in told


async def test_a_caller_who_leaves_in_the_middle_leaves_no_trace_of_a_fault(door, bench, caplog):
    client = await door()
    _, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST {DRAW} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {ANN}\r\nContent-Length: 100\r\n\r\n"

    writer.write(head.encode() + b'{"te')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await client.get("/health")).status == 200
    assert "fault of this service" not in caplog.text
    assert "Traceback" not in caplog.text


# Browsers


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


# The log


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (DRAW, {}),
        (f"{PREFIX}/%0aERROR%20forged%1b[31m/jobs", {}),
        (f"{PREFIX}/%E2%80%A8%07/jobs", {}),
        (f"{PREFIX}/{'x' * 3000}/jobs", {}),
        (DRAW, {"X-Request-Id": "a;b <script>"}),
        (DRAW, {"Idempotency-Key": "ключ"}),
        (f"{PREFIX}/nothing", {}),
    ],
)
async def test_every_request_for_a_job_is_one_line_in_the_log(door, caplog, path, headers):
    caplog.set_level("INFO")
    client = await door()

    for key_headers in ({}, bearer(), bearer("bob")):
        await client.post(URL(path, encoded=True), json={}, headers={**headers, **key_headers})

    lines = [r.getMessage() for r in caplog.records if r.name.endswith(".record")]
    assert len(lines) == 3
    assert all(line.isascii() and line.isprintable() and len(line) < 500 for line in lines)
    assert [" key=ann " in line for line in lines] == [False, True, False]
    assert ANN not in caplog.text
    assert secret_of("bob") not in caplog.text


async def test_the_line_names_job_workflow_key_and_request(door, caplog):
    caplog.set_level("INFO")
    client = await door()

    job_id = await submitted(client, **{"X-Request-Id": "r-1"})

    headers = {**bearer(), "X-Request-Id": "r-2"}
    await client.post(f"/api/v1/jobs/{job_id}/cancel", headers=headers)

    assert f"job={job_id} workflow=draw key=ann request=r-1 status=202" in caplog.text
    assert f"job={job_id} workflow=- key=ann request=r-2 status=200" in caplog.text


@pytest.mark.parametrize(
    ("surface", "word"),
    [
        ({}, "auth: none"),
        ({"is_open": False}, "auth: closed until configured"),
        ({"keyring": Keyring([key()])}, "auth: keys"),
        ({"keyring": Keyring([key()])}, "can use the rest of ComfyUI without one"),
    ],
)
async def test_the_start_tells_how_the_door_is(engine, caplog, surface, word):
    caplog.set_level("INFO")

    announce(engine, Surface("1", **surface), url="http://a:8188", bucket=None, queue=None)

    assert word in caplog.text
