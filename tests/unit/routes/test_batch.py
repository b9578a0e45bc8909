"""Many jobs in one request: each is accepted or refused by itself."""

from __future__ import annotations

import base64
import io
import json
from hashlib import sha256

import pytest
from unified_api.jobs.keys import Key
from unified_api.routes.auth import Keyring
from unified_api.routes.limits import Limits, Quota, Rate
from unified_api.routes.listener import application
from unified_api.routes.service import Surface

BATCH = "/api/v1/draw/jobs:batch"
EDITS = "/api/v1/edit/jobs:batch"
SECRET = "uak_of-the-batch"
HEADERS = {"Authorization": f"Bearer {SECRET}"}


def keyring(*scopes):
    return Keyring([Key(name="k", scopes=scopes, sha256=sha256(SECRET.encode()).hexdigest())])


@pytest.fixture
def serve(aiohttp_client, bench):
    """`await serve(max_pending=1)`: a client of an engine that runs nothing to its end."""

    async def start(surface=None, **settings):
        bench.host.gate.clear()
        engine = await bench.open(**settings)
        return await aiohttp_client(application(engine, surface or Surface("1")))

    return start


@pytest.fixture
async def client(serve):
    return await serve()


async def send(client, *items, path=BATCH, **headers):
    reply = await client.post(path, json={"items": list(items)}, headers=headers)
    body = await reply.json()
    assert reply.status == 200, body
    return body["results"]


def statuses(results):
    return [result["status"] for result in results]


async def job_ids(client):
    return [job["job_id"] for job in (await (await client.get("/api/v1/jobs")).json())["data"]]


async def test_each_item_becomes_a_job_in_their_order(client) -> None:
    results = await send(client, {"text": "a"}, {"text": "b", "metadata": {"n": 2}}, {"text": "c"})

    jobs = [result["job"] for result in results]
    assert statuses(results) == [202, 202, 202]
    assert [job["parameters"]["text"] for job in jobs] == ["a", "b", "c"]
    assert [job["metadata"] for job in jobs] == [{}, {"n": 2}, {}]
    assert await job_ids(client) == [job["job_id"] for job in reversed(jobs)]
    read = await (await client.get(jobs[0]["urls"]["self"])).json()
    assert read.keys() == jobs[0].keys()


async def test_an_item_that_is_refused_harms_no_other(client) -> None:
    results = await send(client, {}, {"size": 0}, 7, None, {"colour": "red"}, {})

    assert statuses(results) == [202, 422, 400, 400, 422, 202]
    refused = results[1]["error"]
    assert refused["code"] == "invalid_parameters"
    assert refused["errors"][0]["param"] == "size"
    assert results[2]["error"]["code"] == "malformed_body"
    assert len(await job_ids(client)) == 2


async def test_a_problem_in_a_batch_carries_the_number_of_the_request(client) -> None:
    (result,) = await send(client, 7, **{"X-Request-Id": "mine"})

    assert result["error"]["request_id"] == "mine"


async def test_equal_keys_are_one_job(client) -> None:
    item = {"text": "a", "idempotency_key": "k"}

    first = await send(client, item, item, {"text": "b", "idempotency_key": "k"})
    again = await client.post(
        "/api/v1/draw/jobs", json={"text": "a"}, headers={"Idempotency-Key": "k"}
    )

    assert statuses(first) == [202, 200, 422]
    assert first[2]["error"]["code"] == "idempotency_key_reused"
    assert first[0]["job"]["job_id"] == first[1]["job"]["job_id"] == (await again.json())["job_id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\nb", 7, {}])
async def test_a_key_that_is_none_is_refused(client, key) -> None:
    (result,) = await send(client, {"idempotency_key": key})

    assert (result["status"], result["error"]["code"]) == (400, "invalid_idempotency_key")


async def test_a_key_of_null_is_no_key(client) -> None:
    results = await send(client, {"idempotency_key": None}, {"idempotency_key": None})

    assert statuses(results) == [202, 202]


async def test_a_whole_batch_is_repeated_by_its_header(client) -> None:
    items = [{}, {"text": "a"}, {"idempotency_key": "own"}]

    first = await send(client, *items, **{"Idempotency-Key": "k"})
    again = await send(client, *items, **{"Idempotency-Key": "k"})

    assert (statuses(first), statuses(again)) == ([202] * 3, [200] * 3)
    ids = [[result["job"]["job_id"] for result in results] for results in (first, again)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


async def test_an_embedded_picture_is_kept(client, picture) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(picture('teal')).decode()}"

    good, bad = await send(client, {"image_url": uri}, {"image_url": "data:x"}, path=EDITS)

    assert good["job"]["parameters"]["image_url"].startswith("upload:")
    assert (bad["status"], bad["error"]["code"]) == (422, "input_invalid")


async def test_each_item_takes_a_permit(serve) -> None:
    client = await serve(Surface("1", limits=Limits(Rate(2))))

    results = await send(client, {}, {}, {})

    assert statuses(results) == [202, 202, 429]
    assert results[2]["error"]["code"] == "rate_limited"


async def test_each_item_takes_a_place_of_the_key(serve) -> None:
    surface = Surface("1", keyring=keyring("submit", "read"), limits=Limits(Rate(), Quota(2)))
    client = await serve(surface)

    results = await send(client, {}, {}, {}, **HEADERS)

    assert statuses(results) == [202, 202, 429]
    assert results[2]["error"]["code"] == "too_many_jobs"


async def test_no_more_are_accepted_than_may_wait(serve, bench) -> None:
    client = await serve(max_pending=3, fetch_ahead=1)

    results = await send(client, *[{}] * 20)

    assert statuses(results)[-1] == 429
    assert results[-1]["error"]["code"] == "queue_full"
    assert len(await job_ids(client)) == statuses(results).count(202) < 10


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": []},
        {"items": {}},
        {"items": None},
        {"items": [{}] * 101},
        {"items": [{}], "more": 1},
        {"text": "a"},
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(client, body) -> None:
    reply = await client.post(BATCH, json=body)

    assert reply.status == 422
    assert [error["param"] for error in (await reply.json())["errors"]] == ["items"]
    assert await job_ids(client) == []


async def test_a_hundred_items_are_a_batch(client) -> None:
    assert statuses(await send(client, *[{}] * 100)) == [202] * 100


@pytest.mark.parametrize(
    ("path", "how", "status", "code"),
    [
        ("/api/v1/nothing/jobs:batch", {"json": {"items": [{}]}}, 404, "unknown_workflow"),
        (f"{BATCH}?dry_run=true", {"json": {"items": [{}]}}, 400, "invalid_query"),
        (BATCH, {"json": [{}]}, 400, "malformed_body"),
        (BATCH, {"data": {"items": "a"}}, 415, "unsupported_body"),
    ],
)
async def test_a_request_that_is_no_batch_is_told_why(client, path, how, status, code) -> None:
    reply = await client.post(path, **how)

    assert (reply.status, (await reply.json())["code"]) == (status, code)


@pytest.mark.parametrize(("length", "status"), [(20_000, 200), (22_000, 413)])
async def test_a_batch_may_have_two_mebibytes(client, length, status) -> None:
    body = json.dumps({"items": ["x" * length] * 100}).encode()

    reply = await client.post(
        BATCH, data=io.BytesIO(body), headers={"Content-Type": "application/json"}
    )

    assert reply.status == status


async def test_a_key_that_may_not_submit_is_refused(serve) -> None:
    client = await serve(Surface("1", keyring=keyring("read")))

    reply = await client.post(BATCH, json={"items": [{}]}, headers=HEADERS)

    assert (reply.status, (await reply.json())["code"]) == (403, "forbidden")


class Faulty:
    """An engine with a fault in it that one text brings out."""

    def __init__(self, engine) -> None:
        self.offer = engine.offer
        self._engine = engine
        self.count_unfinished = engine.count_unfinished
        self.link = engine.link

    async def submit(self, slug, body, **more):
        if body.get("text") == "fault":
            raise RuntimeError("secret of the machine")
        return await self._engine.submit(slug, body, **more)


async def test_a_fault_of_ours_hides_no_job_that_was_accepted(
    aiohttp_client, engine, caplog
) -> None:
    client = await aiohttp_client(application(Faulty(engine), Surface("1")))

    results = await send(client, {}, {"text": "fault"}, {})

    assert statuses(results) == [202, 500, 202]
    assert "secret" not in results[1]["error"]["detail"]
    assert results[1]["error"]["request_id"] in caplog.text
