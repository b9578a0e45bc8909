"""A web server that takes webhooks, and answers them as it is told to."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import pytest
from aiohttp import web


class Told(NamedTuple):
    """One webhook as it came in."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self):
        return json.loads(self.body)

    @property
    def webhook_id(self):
        return self.headers["webhook-id"]


class Receiver:
    """Answers 204 when the `answers`, of status and headers, are used up. A closed gate holds."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.server = None

    @property
    def place(self):
        return f"{self.server.host}:{self.server.port}"

    @property
    def url(self):
        return f"http://{self.place}/hook?token=hidden"

    @property
    def events(self):
        return [told.message["type"] for told in self.told]

    async def answer(self, request):
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told.append(Told(headers, await request.read()))
        await self.gate.wait()
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=headers)


@pytest.fixture
async def receive(aiohttp_server):
    """`await receive()` opens another receiver for the length of the test."""
    opened = []

    async def start():
        receiver = Receiver()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", receiver.answer)
        receiver.server = await aiohttp_server(app)
        opened.append(receiver)
        return receiver

    yield start
    for receiver in opened:
        receiver.gate.set()


@pytest.fixture
async def receiver(receive):
    return await receive()
