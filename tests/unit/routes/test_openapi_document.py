"""The OpenAPI document as it is served: to readers, once made, and as long as it is true."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from unified_api.jobs.offer import Offered
from unified_api.routes.auth import Keyring
from unified_api.routes.openapi_document import Documents
from unified_api.routes.service import Surface
from unified_api.workflows import LIBRARY, Catalog, Takes

from .door import DRAW, PREFIX, bearer, code_of, key

DOCUMENT = f"{PREFIX}/openapi.json"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("scopes", "status"), [(["read"], 200), (["admin"], 200), (["submit", "cancel"], 403)]
)
async def test_where_keys_are_set_it_takes_one_that_may_read(door, method, scopes, status):
    client = await door(keyring=Keyring([key("ann", scopes)]))

    without = await client.request(method, DOCUMENT)
    reply = await client.request(method, DOCUMENT, headers=bearer())

    assert (without.status, reply.status) == (401, status)


async def test_where_no_key_is_set_it_is_open_to_this_machine_alone(door):
    here = await door(keyring=Keyring(), is_local=True)
    network = await door(keyring=Keyring(), is_open=False)

    assert (await here.get(DOCUMENT)).status == 200
    assert await code_of(await network.get(DOCUMENT)) == (503, "auth_not_configured")
    stranger = await here.get(DOCUMENT, headers={"Host": "evil.example"})
    assert await code_of(stranger) == (403, "unknown_host")


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}'])
async def test_who_has_it_already_is_not_sent_it_again(door, known):
    client = await door()
    first = await client.get(DOCUMENT, headers=bearer())
    known = {**bearer(), "If-None-Match": known.format(first.headers["ETag"])}

    again = await client.get(DOCUMENT, headers=known)
    stranger = await client.get(DOCUMENT, headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "private, no-cache"
    assert (first.content_type, first.charset) == ("application/json", "utf-8")
    assert (again.status, await again.read()) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert stranger.status == 401


async def test_a_definition_that_changes_makes_another_one(door, bench):
    engine = await bench.open()
    client = await door(engine)
    known = await etag_of(client)
    assert await etag_of(client) == known

    file = bench.definitions / "draw" / "workflow.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "title": "Another title"}))
    engine.offer.refresh()

    reply = await client.get(DOCUMENT, headers={**bearer(), "If-None-Match": known})
    assert reply.status == 200
    assert "Another title" in await reply.text()


async def test_a_definition_that_breaks_is_in_it_no_more(door, bench):
    engine = await bench.open()
    client = await door(engine)
    known = await etag_of(client)

    (bench.definitions / "draw" / "graph.json").write_text("{}")
    engine.offer.refresh()

    reply = await client.get(DOCUMENT, headers={**bearer(), "If-None-Match": known})
    assert DRAW not in (await reply.json())["paths"]


async def test_what_this_machine_takes_makes_another_one_when_it_changes(door, bench):
    engine = await bench.open()
    client = await door(engine)
    known = await etag_of(client)

    bench.host.taking = {"Draw": {"text": Takes(choices=("", "cat"))}}
    engine.offer.refresh()

    reply = await client.get(DOCUMENT, headers={**bearer(), "If-None-Match": known})
    assert reply.status == 200
    assert '["", "cat", null]' in await reply.text()


async def test_the_first_key_makes_another_one(door, tmp_path):
    file = tmp_path / "keys.json"
    client = await door(keyring=Keyring(file=file))
    assert (await (await client.get(DOCUMENT)).json())["security"] == []

    file.write_text(f"[{key().model_dump_json()}]")

    reply = await client.get(DOCUMENT, headers=bearer())
    assert (await reply.json())["security"] == [{"key": []}]


class OfferOf:
    """A service that has workflows, and nothing else."""

    def __init__(self, *workflows):
        self.offer = self
        self.workflows = list(workflows)

    def all(self):
        return [Offered(one.slug, one, ()) for one in self.workflows]


class Watched(dict):
    """Knows the threads in which somebody asked for its parts."""

    threads: set[threading.Thread]

    def __getitem__(self, name):
        self.threads.add(threading.current_thread())
        return super().__getitem__(name)


@pytest.fixture
def resize():
    return Catalog([LIBRARY]).workflows["image-resize"]


async def test_it_is_made_once_for_all_who_ask_and_beside_the_loop(resize):
    schema = Watched(resize.schema)
    schema.threads = set()
    documents = Documents(OfferOf(replace(resize, schema=schema)), Surface("1"))

    made = await asyncio.gather(*(documents.latest() for _ in range(20)))
    later = await documents.latest()

    assert {id(each) for each in (*made, later)} == {id(later)}
    assert len(schema.threads) == 1
    assert threading.main_thread() not in schema.threads


async def test_what_changes_while_it_is_made_is_in_the_answer_to_who_asks_then(resize):
    service = OfferOf(resize)
    documents = Documents(service, Surface("1"))
    early = asyncio.ensure_future(documents.latest())
    # The making has begun.
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    service.workflows.append(replace(resize, slug="another", title="Another title"))
    late = await documents.latest()

    assert b"Another title" in late.body
    await early


async def test_a_caller_who_leaves_does_not_have_it_made_again(resize):
    schema = Watched(resize.schema)
    schema.threads = set()
    documents = Documents(OfferOf(replace(resize, schema=schema)), Surface("1"))

    leaving = asyncio.ensure_future(documents.latest())
    await asyncio.sleep(0)
    leaving.cancel()
    await documents.latest()

    assert leaving.cancelled()
    assert len(schema.threads) == 1


async def etag_of(client):
    return (await client.get(DOCUMENT, headers=bearer())).headers["ETag"]
