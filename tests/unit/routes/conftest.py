"""A service on the network, and who asks it."""

import json
from dataclasses import dataclass

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy
from unified_api.routes import mount
from unified_api.routes.service import Surface
from yarl import URL

from ..fake_host import until
from .door import door

__all__ = ["door"]

PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: CIMultiDictProxy
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """Of a problem."""
        assert self.headers["Content-Type"].startswith(PROBLEM)
        assert self.json["status"] == self.status
        return self.json["code"]


@pytest.fixture
def serve(aiohttp_client, tmp_path):
    """Put a service on the network; the function that asks it. No reply tells our inside."""

    async def start(service, **surface):
        app = web.Application()
        mount(app, service, Surface(version="1.2.3", **surface))
        client = await aiohttp_client(app)

        async def ask(method, path, **how):
            response = await client.request(method, URL(path, encoded=True), **how)
            body = await response.read()
            assert b"Traceback" not in body
            assert str(tmp_path).encode() not in body
            return Reply(response.status, response.headers, body)

        return ask

    return start


@pytest.fixture
async def ask(serve, engine):
    return await serve(engine)


@pytest.fixture
def ended():
    async def wait(ask, reply):
        """The job of a reply once it is final."""

        async def final():
            shown = (await ask("GET", reply.headers["Location"])).json
            return shown if shown["status"] in {"completed", "failed", "cancelled"} else None

        return await until(final)

    return wait
