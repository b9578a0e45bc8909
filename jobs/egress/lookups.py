"""Lookups: names become addresses in threads of their own.

The system's resolver takes as long as the name server of a name likes it to. In the few threads
that all of ComfyUI shares, names whose servers are silent would hold everybody up.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any, cast

import aiohttp

from ..single_flight import SingleFlight
from ..threads import in_daemon

#: Lookups at a time. One may outlive the request that wanted it, but the system ends it soon.
MOST_LOOKUPS = 256


class Lookups(aiohttp.ThreadedResolver):
    """The system's resolver. A name is looked up once at a time, however many want to know."""

    def __init__(self) -> None:
        self._threads = _Threads()
        # It asks nothing else of a loop.
        super().__init__(cast(asyncio.AbstractEventLoop, self._threads))

    async def close(self) -> None:
        """Wait for no answer any more."""
        await self._threads.close()


class _Threads:
    """The part of an event loop that looks names up."""

    def __init__(self) -> None:
        self._flights: SingleFlight[Any] = SingleFlight()
        self._slots = asyncio.Semaphore(MOST_LOOKUPS)

    async def getaddrinfo(self, host: str, port: int, **how: int) -> Any:
        return await self._look_up(partial(socket.getaddrinfo, host, port, **how))

    async def getnameinfo(self, address: tuple[Any, ...], flags: int) -> Any:
        return await self._look_up(partial(socket.getnameinfo, address, flags))

    async def close(self) -> None:
        await self._flights.close()

    async def _look_up(self, work: partial[Any]) -> Any:
        async def in_turn() -> Any:
            async with self._slots:
                return await in_daemon("unified-api-lookup", work)

        return await self._flights.run(repr(work), in_turn)
