"""Connections: those of a port of our own, so many at most, each for so long without a request."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice, takewhile
from typing import Any, cast
from uuid import uuid4

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage

from ..jobs.counted_log import CountedLog
from ..jobs.errors import NotReady
from ..jobs.open_files import limit
from ..jobs.settings import Settings
from .problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, problem

log = logging.getLogger(__name__)

#: By default a port has half of the files that the process may open, or so many connections.
MOST_BY_DEFAULT = 4096
#: What is accepted in one step of the loop, before a connection too many can be closed.
MOST_AT_ONCE, FEWEST_AT_ONCE = 128, 8
#: Whoever connects while the port is closed has this for a request, or all would wait for it.
CLOSING_SECONDS = 0.5
#: What the system holds ready; whoever comes while that is full tries again after a second.
BACKLOG = 1024
FULL = (
    "All connections that this server may have (UNIFIED_API_MAX_CONNECTIONS) are in use."
    " Try again later."
)
CROWDED = (
    "the port has all the %d connections that it may have (UNIFIED_API_MAX_CONNECTIONS);"
    " those that have waited longest for a request are closed"
)


def most_connections(settings: Settings) -> int:
    """How many connections a port may have, well below the files that this process may open."""
    files = limit(at_most=settings.open_files)
    if settings.max_connections is None:
        return max(1, min(files // 2, MOST_BY_DEFAULT))
    return max(1, min(settings.max_connections, files * 3 // 4))


@dataclass(frozen=True)
class ConnectionLimits:
    """How many there may be, and how long each may take, in seconds."""

    most: int
    #: From the first byte of a request, or from a connection, to the end of the request's head.
    head_seconds: float = 20.0
    #: From an answer to the next request.
    keep_alive_seconds: float = 75.0
    #: While the other side takes nothing of what it is sent.
    send_seconds: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        return cls(
            most_connections(settings),
            head_seconds=settings.head_timeout,
            keep_alive_seconds=settings.keep_alive_timeout,
            send_seconds=settings.send_timeout,
        )


class Connection(web.RequestHandler):
    """aiohttp's side of a connection, which tells `Connections` what becomes of it."""

    __slots__ = ("_connections", "body")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        #: Of the request that is answered.
        self.body: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.opened(self, cast(asyncio.Transport, transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if data:
            self._connections.receives(self)
        super().data_received(data)
        if self.body and self._is_malformed:
            # The rest of the body cannot be told from what follows, and aiohttp would let it be
            # waited for.
            self.body.set_exception(web.RequestPayloadError())
            self.body.feed_eof()

    async def finish_response(self, *args: Any, **kwargs: Any) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(*args, **kwargs)
        self._connections.answered(self)
        return finished

    @property
    def _is_malformed(self) -> bool:
        """Whether what came last could not be read."""
        return bool(self._messages) and not isinstance(self._messages[-1][0], RawRequestMessage)


class Connections:
    """Makes the connections of a server's port, and knows which of them wait for a request.

    If there are too many, the one that has waited longest is closed: a client that wants something
    asks at once, and one that had its answer connects again. While a request is answered, be it by
    a stream of events, its connection stays.
    """

    def __init__(self, runner: web.AppRunner, limits: ConnectionLimits) -> None:
        """`runner` is set up, and closes those that are open when it ends."""
        assert runner.server is not None, "it is set up"
        self._server = server = runner.server
        self._limits = limits
        self._counted = CountedLog(log)
        self._loop = asyncio.get_running_loop()
        self._listening: asyncio.Server | None = None
        self._request_of = server.request_factory
        server.request_factory = self._begin
        self._open: dict[Connection, asyncio.Transport] = {}
        #: Those that ask for nothing, the longest first.
        self._waiting: dict[Connection, None] = {}
        #: When each of these began to send a request, or was made; the longest first.
        self._heads: dict[Connection, float] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def __call__(self) -> Connection:
        return Connection(
            self,
            self._server,
            loop=self._loop,
            keepalive_timeout=self._limits.keep_alive_seconds,
            access_log=None,
        )

    async def listen(self, host: str, port: int) -> None:
        """Open the port. Raises OSError, or ValueError for what is no address at all."""
        at_once = max(FEWEST_AT_ONCE, min(self._limits.most // 4, MOST_AT_ONCE))
        self._listening = await self._loop.create_server(self, host, port, backlog=at_once)
        for each in self._listening.sockets:
            # asyncio has one number for both.
            with each.dup() as listening:
                listening.listen(BACKLOG)

    def close(self) -> None:
        """Accept no more. What is asked is still answered."""
        if self._listening:
            self._listening.close()
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(CLOSING_SECONDS, self._drop_waiting)

    # -- what becomes of a connection ------------------------------------------------------------

    def opened(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._open[connection] = transport
        self._close_if_stalled(transport)
        self._wait_for_head(connection)
        if len(self._open) > self._limits.most:
            self._make_room()

    def receives(self, connection: Connection) -> None:
        """The first bytes of a request, or more of one."""
        if connection in self._waiting and connection not in self._heads:
            self._wait_for_head(connection)

    def answered(self, connection: Connection) -> None:
        if connection in self._open:
            self._waiting[connection] = None

    def closed(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self._stop_waiting(connection)

    def _begin(self, message: Any, payload: Any, protocol: Any, *others: Any) -> web.BaseRequest:
        """A request is there; whatever it is, it is going to be answered."""
        self._stop_waiting(protocol)
        protocol.body = payload
        return self._request_of(message, payload, protocol, *others)

    # -- waiting -----------------------------------------------------------------------------------

    def _wait_for_head(self, connection: Connection) -> None:
        self._stop_waiting(connection)
        self._waiting[connection] = None
        self._heads[connection] = self._loop.time()
        self._set_alarm()

    def _stop_waiting(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)
        self._heads.pop(connection, None)

    def _set_alarm(self) -> None:
        if self._heads and self._alarm is None:
            end = next(iter(self._heads.values())) + self._limits.head_seconds
            self._alarm = self._loop.call_at(end, self._close_slow)

    def _close_slow(self) -> None:
        last = self._loop.time() - self._limits.head_seconds
        for connection in [*takewhile(lambda each: self._heads[each] <= last, self._heads)]:
            self._drop(connection)
        self._alarm = None
        self._set_alarm()

    def _drop_waiting(self) -> None:
        for connection in tuple(self._waiting):
            self._drop(connection)

    def _make_room(self) -> None:
        self._counted.log(logging.WARNING, CROWDED, self._limits.most)
        longest, *others = islice(self._waiting, 2)
        if not others:
            # The new one alone is not at work.
            self._open[longest].write(_refusal())
        self._drop(longest)

    def _drop(self, connection: Connection) -> None:
        transport = self._open[connection]
        self.closed(connection)
        # Not `close`, which waits for whoever takes nothing.
        transport.abort()

    def _close_if_stalled(self, transport: asyncio.Transport) -> None:
        """Have the system close a connection whose other side takes nothing for so long."""
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            milliseconds = int(self._limits.send_seconds * 1000)
            with suppress(OSError):
                transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, option, milliseconds
                )


def _refusal() -> bytes:
    """The answer to whatever would be asked."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps(problem(NotReady(FULL), path="/", request_id=uuid4().hex)).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"Retry-After: {RETRY_AFTER_SECONDS[status]}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
