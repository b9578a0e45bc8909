"""What test servers need of an event loop."""

from __future__ import annotations

import asyncio

#: asyncio takes three to get from an accepted connection into its handler.
STEPS = 5


async def stop_listening(server: asyncio.Server) -> None:
    """Close the server once each accepted connection has reached its handler.

    asyncio closes no connection that it has accepted when its server is closed in between, nor one
    whose handler is cancelled before its first step: both are reported as leaks, in a later test.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(STEPS):
        await asyncio.sleep(0)
    server.close()
