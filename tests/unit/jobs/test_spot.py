"""Notices of EC2, told by a stand-in for its metadata service on loopback."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from unified_api.jobs.spot import spot_notice

from ..fake_host import until

NOTICE = "/latest/meta-data/spot/instance-action"
LIFECYCLE = "/latest/meta-data/autoscaling/target-lifecycle-state"
ACTION = '{"action": "terminate", "time": "2030-01-01T00:00:00Z"}'
POLL_SECONDS = 0.01


class Metadata:
    """Version 2 of the service: nothing is told without a token, and a token is used once."""

    def __init__(self):
        self.told = {}
        self.trouble = None
        self.rounds = 0
        self._tokens = 0

    async def give_token(self, request):
        self.rounds += 1
        if self.trouble:
            return self.trouble()
        assert 0 < int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
        self._tokens += 1
        return web.Response(text=f"token {self._tokens}")

    async def tell(self, request):
        if request.headers.get("X-aws-ec2-metadata-token") != f"token {self._tokens}":
            raise web.HTTPUnauthorized()
        if request.path not in self.told:
            raise web.HTTPNotFound()
        return web.Response(text=self.told[request.path])


@pytest.fixture
async def metadata(aiohttp_server):
    metadata = Metadata()
    app = web.Application()
    app.router.add_put("/latest/api/token", metadata.give_token)
    app.router.add_get("/latest/{path:.*}", metadata.tell)
    server = await aiohttp_server(app)
    metadata.url = str(server.make_url("")).rstrip("/")
    return metadata


@pytest.fixture
async def notice(metadata):
    """Somebody who waits for a notice."""
    task = asyncio.ensure_future(spot_notice(metadata.url, every_seconds=POLL_SECONDS))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def rounds(metadata, number):
    end = metadata.rounds + number
    await until(lambda: metadata.rounds >= end)


async def test_there_is_no_notice_until_there_is_one(metadata, notice):
    await rounds(metadata, 3)
    assert not notice.done()

    metadata.told[NOTICE] = ACTION

    assert "terminate" in await asyncio.wait_for(notice, 5)


async def test_an_instance_that_its_group_ends_is_told_so(metadata, notice):
    metadata.told[LIFECYCLE] = "InService"
    await rounds(metadata, 3)
    assert not notice.done()

    metadata.told[LIFECYCLE] = "Terminated"

    assert "Auto Scaling" in await asyncio.wait_for(notice, 5)


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: web.Response(status=500),
        lambda: web.Response(status=403),
        lambda: web.Response(status=404),
        lambda: web.Response(body=b"\xff\xfe"),
        lambda: web.Response(text="two\nlines"),
        lambda: web.Response(headers={"Content-Encoding": "gzip"}, body=b"not gzip"),
    ],
)
async def test_a_service_in_trouble_is_told_once_and_asked_again(metadata, notice, caplog, trouble):
    metadata.trouble = trouble
    await rounds(metadata, 3)
    metadata.trouble = None
    metadata.told[NOTICE] = ACTION

    assert "terminate" in await asyncio.wait_for(notice, 5)
    assert len(caplog.records) == 1
    assert "not heard" in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://[", "gopher://x"])
async def test_where_no_service_is_nothing_is_noticed(caplog, url):
    task = asyncio.ensure_future(spot_notice(url, every_seconds=POLL_SECONDS))

    await until(lambda: caplog.records or task.done())

    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
