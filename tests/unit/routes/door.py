"""The door of the API, whoever is given a key to it, and those who come without."""

from hashlib import sha256

import pytest
from aiohttp import web
from unified_api.jobs.keys import Key
from unified_api.routes import mount
from unified_api.routes.auth import Keyring
from unified_api.routes.service import Surface

PREFIX = "/api/v1"
JOBS = f"{PREFIX}/jobs"
DRAW = f"{PREFIX}/draw/jobs"
ALL = ("submit", "read", "cancel")


def secret_of(name):
    return f"uak_{name.ljust(43, 'x')}"


ANN = secret_of("ann")


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


async def status_for(client, name):
    return (await client.get(JOBS, headers=bearer(name))).status


async def listed(client, name):
    return (await (await client.get(JOBS, headers=bearer(name))).json())["data"]
