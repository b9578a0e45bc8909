"""The door: who comes in, to which rooms, and what is told to those who do not."""

import asyncio
import json
import os
from hashlib import sha256

import pytest
from multidict import CIMultiDict
from unified_api.jobs.health import State
from unified_api.jobs.keys import Key, Scope
from unified_api.jobs.settings import Settings
from unified_api.routes.api import API, BESIDE, METRICS, NEEDS, PUBLIC
from unified_api.routes.auth import Keyring
from unified_api.routes.limits import Limits, Quota, Rate
from unified_api.routes.service import Surface

from .door import (
    ALL,
    ANN,
    DRAW,
    JOBS,
    PREFIX,
    bearer,
    code_of,
    key,
    listed,
    secret_of,
    status_for,
    submitted,
)

# Keys


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


READERS = {"read", "read-all", "admin"}
FOLLOWERS = {*READERS, "submit"}


@pytest.mark.parametrize(
    ("scopes", "method", "path", "status"),
    [
        (READERS, "GET", JOBS, 200),
        (READERS, "GET", f"{PREFIX}/workflows", 200),
        (READERS, "GET", f"{PREFIX}/workflows/draw", 200),
        (READERS, "GET", f"{PREFIX}/openapi.json", 200),
        (READERS, "GET", "/metrics", 200),
        (READERS, "GET", f"{JOBS}/nobody/deliveries", 404),
        (FOLLOWERS, "GET", f"{JOBS}/nobody", 404),
        (FOLLOWERS, "GET", f"{DRAW}/nobody", 404),
        (FOLLOWERS, "GET", f"{JOBS}/nobody/outputs/0", 404),
        (FOLLOWERS, "GET", f"{JOBS}/nobody/outputs/0/thumbnail", 404),
        (FOLLOWERS, "GET", f"{JOBS}/nobody/events", 404),
        ({"submit", "admin"}, "POST", DRAW, 202),
        ({"submit", "admin"}, "POST", f"{DRAW}?dry_run=true", 200),
        ({"submit", "admin"}, "POST", f"{DRAW}:batch", 422),
        ({"cancel", "admin"}, "POST", f"{JOBS}/nobody/cancel", 404),
        ({"cancel", "admin"}, "DELETE", f"{JOBS}/nobody", 404),
    ],
)
async def test_each_route_takes_its_scopes_and_no_other(door, scopes, method, path, status):
    everyone = [scope.value for scope in Scope]
    client = await door(keyring=Keyring([key(each, [each]) for each in everyone]))
    body = {"json": {}} if method == "POST" else {}

    replies = {
        name: (await client.request(method, path, headers=bearer(name), **body)).status
        for name in everyone
    }

    assert replies == {name: status if name in scopes else 403 for name in everyone}


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


@pytest.mark.parametrize(
    ("headers", "slugs"), [({}, None), (bearer("other"), None), (bearer(), ["draw", "edit"])]
)
async def test_the_names_of_workflows_are_for_those_who_may_read(door, headers, slugs):
    client = await door()

    told = await (await client.get(PREFIX, headers=headers)).json()

    assert (told["name"], told["workflows"]) == ("ComfyUI Unified API Service", slugs)


async def test_the_names_of_workflows_are_not_told_to_the_network_before_there_are_keys(door):
    client = await door(keyring=Keyring(), is_open=False)

    assert (await (await client.get(PREFIX)).json())["workflows"] is None


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

    assert await status_for(client, "ann") == 503


async def test_a_file_that_cannot_be_looked_at_lets_nobody_in(door, tmp_path):
    file = tmp_path / "keys.json"
    file.symlink_to(file)
    client = await door(keyring=Keyring(file=file))

    assert await status_for(client, "ann") == 503


async def test_a_folder_in_place_of_the_file_lets_nobody_in(door, tmp_path):
    (tmp_path / "keys.json").mkdir()
    client = await door(keyring=Keyring(file=tmp_path / "keys.json"))

    assert await status_for(client, "ann") == 503


async def test_a_file_without_keys_lets_nobody_in(door, tmp_path):
    filed(tmp_path / "keys.json")
    client = await door(keyring=Keyring(file=tmp_path / "keys.json"))

    assert await status_for(client, "ann") == 503


async def test_a_file_that_is_mended_counts_again(door, tmp_path):
    file = tmp_path / "keys.json"
    file.write_bytes(b"{")
    client = await door(keyring=Keyring(file=file))
    assert await status_for(client, "ann") == 503

    filed(file, key("ann"))

    assert await status_for(client, "ann") == 200


class CountingKeyring(Keyring):
    """Counts how often it is asked."""

    asked = read = 0

    def find(self, secret):
        self.asked += 1
        return super().find(secret)

    async def refresh(self):
        self.read += 1
        await super().refresh()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (DRAW, {}, 202),
        (f"{DRAW}?wait=0", {}, 202),
        (f"{DRAW}?dry_run=true", {}, 200),
        (f"{DRAW}:batch", {"items": [{}] * 100}, 200),
        (f"{JOBS}/unknown/cancel", {}, 404),
    ],
)
async def test_a_key_is_looked_up_once_for_a_request(door, tmp_path, path, body, status):
    keyring = CountingKeyring([key()], tmp_path / "keys.json")
    client = await door(keyring=keyring, limits=Limits(Rate(1000), Quota(1000)))

    reply = await client.post(path, json=body, headers=bearer())

    assert reply.status == status, await reply.text()
    assert (keyring.asked, keyring.read) == (1, 1)


async def test_the_next_request_sees_a_change_that_an_earlier_one_still_reads_past(tmp_path):
    file = tmp_path / "keys.json"
    keyring = Keyring(file=file)
    earlier = [asyncio.ensure_future(keyring.refresh()) for _ in range(3)]
    # The first has begun to look.
    await asyncio.sleep(0)
    filed(file, key("bob"))

    await keyring.refresh()

    assert keyring.find(secret_of("bob").encode())
    await asyncio.gather(*earlier)


async def test_a_disk_that_does_not_answer_holds_nobody_else_up(door, tmp_path):
    file, away = tmp_path / "keys.json", tmp_path / "away"
    # Whoever opens one waits until somebody writes to it, like on a disk that is away.
    os.mkfifo(file)
    away.hardlink_to(file)
    keyring = Keyring([key("ann")], file, read_seconds=0.2)
    client = await door(keyring=keyring, parts=(keyring,))

    waiting = asyncio.ensure_future(status_for(client, "bob"))
    assert (await client.get(PREFIX)).status == 200
    assert not waiting.done()
    assert await waiting == 401
    assert await status_for(client, "ann") == 200
    assert keyring.component.state is State.DEGRADED

    filed(file, key("bob"))
    assert await status_for(client, "bob") == 401
    await asyncio.to_thread(away.write_text, "[]")
    assert await status_for(client, "bob") == 200


async def test_what_a_late_read_found_does_not_count(door, tmp_path):
    file, later = tmp_path / "keys.json", tmp_path / "later.json"
    os.mkfifo(file)
    keyring = Keyring(file=file, read_seconds=0.2)
    client = await door(keyring=keyring)
    assert await status_for(client, "bob") == 503

    # The disk answers, and only then bob's key is taken away.
    await asyncio.to_thread(file.write_text, f"[{key('bob').model_dump_json()}]")
    filed(later, key("eve"))
    later.replace(file)

    assert await status_for(client, "bob") == 401
    assert await status_for(client, "eve") == 200


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
        lists[name] = [job["job_id"] for job in await listed(client, name)]

    assert seen == {"ann": [200] * 3, "bob": [404] * 3, "root": [200] * 3}
    assert lists == {"ann": [job_id], "bob": [], "root": [job_id]}
    assert (await client.post(f"{JOBS}/{job_id}/cancel", headers=bearer("bob"))).status == 404


async def test_who_reads_all_sees_everybodys_jobs_and_changes_none(door, bench):
    scopes = ["read-all", "submit", "cancel"]
    client = await door(keyring=Keyring([key("ann"), key("eye", scopes), key("mon", ["read-all"])]))
    theirs, own = await submitted(client, "ann"), await submitted(client, "eye")
    paths = ("", "/events", "/deliveries", "/outputs/0", "/outputs/0/thumbnail")

    for name in ("eye", "mon"):
        assert [job["job_id"] for job in await listed(client, name)] == [own, theirs]
        for path in paths:
            reply = await client.get(f"{JOBS}/{theirs}{path}?wait=30", headers=bearer(name))
            assert reply.status == 200, path
            await reply.read()

    eye = bearer("eye")
    for method, path in (("POST", f"{theirs}/cancel"), ("DELETE", theirs)):
        reply = await client.request(method, f"{JOBS}/{path}", headers=eye)
        assert await code_of(reply) == (403, "forbidden")
        assert "admin" in (await reply.json())["detail"]
    assert (await client.post(f"{JOBS}/{own}/cancel", headers=eye)).status == 200
    assert (await client.delete(f"{JOBS}/{own}", headers=eye)).status == 204


async def test_who_submits_a_job_is_shown_it_at_once_and_later_by_its_id_alone(door):
    keys = [key("ann", ["submit"]), key("bob", ["submit"])]
    client = await door(keyring=Keyring(keys))

    reply = await client.post(DRAW, json={}, headers={**bearer("ann"), "Prefer": "wait=30"})
    waited = await reply.json()
    path = waited["urls"]["self"]
    later = [await client.get(path, headers=bearer(name)) for name in ("ann", "bob")]
    result = await client.get(f"{path}/outputs/0", headers=bearer("ann"))

    assert waited["status"] == "completed"
    assert [each.status for each in later] == [200, 404]
    assert await later[0].json() == waited
    assert result.status == 200
    assert await status_for(client, "ann") == 403


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

    assert [job["job_id"] for job in await listed(client, "root")] == [job_id]
    assert await listed(client, "ann") == []
    assert (await client.get(f"{JOBS}/{job_id}", headers=bearer("ann"))).status == 404
