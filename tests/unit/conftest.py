"""What many unit tests share. Here: a server on loopback that counts who connects to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import hypothesis
import pytest

from tests.common.loops import stop_listening

from .fake_host import bench, definitions, engine, gallery, picture, settings
from .planted_comfyui import finish, host, planted, run, saved, seam, worker
from .receiver import receive, receiver

__all__ = [
    "bench",
    "definitions",
    "engine",
    "finish",
    "gallery",
    "host",
    "picture",
    "planted",
    "receive",
    "receiver",
    "run",
    "saved",
    "seam",
    "serve",
    "settings",
    "worker",
]

# A busy machine is no fault of ours.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Answers each connection once, by `answer(path, writer)`, and closes it."""

    def __init__(self, answer: Answer) -> None:
        self.accepts = 0
        self.requests: list[str] = []
        self._answer = answer
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        await stop_listening(self._server)
        for task in filter(None, self._tasks):
            task.cancel()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepts += 1
        self._tasks.add(asyncio.current_task())
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            await self._answer(request.split()[1], writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is free to go
        finally:
            writer.close()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Answer], Awaitable[Listener]]]:
    """`await serve(answer)` opens a listener for the length of the test."""
    listeners: list[Listener] = []

    async def start(answer: Answer) -> Listener:
        listeners.append(Listener(answer))
        await listeners[-1].open()
        return listeners[-1]

    yield start
    for listener in listeners:
        await listener.close()
