"""A proxy that stands between a client and a server and spoils some requests, as asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.common.loops import stop_listening
from tests.common.ports import HOST, free_port

WAIT_SECONDS = 20.0
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"


@dataclass
class Exchange:
    """A request on its way, its answer not yet given."""

    head: bytes
    upstream_port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def line(self) -> str:
        """'PUT /bucket/key'"""
        return self.head.split(b"\r\n", 1)[0].rpartition(b" ")[0].decode()

    def header(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return ""

    async def body(self) -> bytes:
        if self.header("expect"):
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self.reader.readexactly(int(self.header("content-length") or 0))

    async def forward(self, body: bytes) -> bytes:
        """Have the server do it; its whole answer."""
        reader, writer = await asyncio.open_connection(HOST, self.upstream_port)
        try:
            writer.write(_once(self.head) + body)
            return await reader.read(-1)
        finally:
            writer.close()

    async def reply(self, answer: bytes) -> None:
        self.writer.write(answer)
        await self.writer.drain()


Fault = Callable[[Exchange], Awaitable[None]]


async def nothing(exchange: Exchange) -> None:
    """Leave the request and its answer as they are."""
    await exchange.reply(await exchange.forward(await exchange.body()))


def answer(status: int, code: str) -> Fault:
    """Refuse without asking the server."""

    async def fault(exchange: Exchange) -> None:
        await exchange.body()
        text = "" if exchange.line.startswith("HEAD ") else ERROR.format(code=code)
        head = f"HTTP/1.1 {status} Injected\r\nConnection: close\r\n"
        await exchange.reply(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())

    return fault


def refuse_operation(code: str, status: int = 400) -> Fault:
    """Refuse as SQS and DynamoDB do, without asking the server."""

    async def fault(exchange: Exchange) -> None:
        await exchange.body()
        text = json.dumps({"__type": f"com.amazonaws#{code}", "message": "injected"})
        head = f"HTTP/1.1 {status} Injected\r\nConnection: close\r\n"
        kind = "Content-Type: application/x-amz-json-1.0\r\n"
        await exchange.reply(f"{head}{kind}Content-Length: {len(text)}\r\n\r\n{text}".encode())

    return fault


def operation(name: str) -> Callable[[Exchange], bool]:
    """Whether a request is for that operation of SQS or DynamoDB: `when=operation("PutItem")`."""
    return lambda exchange: exchange.header("x-amz-target").endswith(f".{name}")


async def lose_answer(exchange: Exchange) -> None:
    """Have the server do it and tell nobody."""
    await exchange.forward(await exchange.body())


def cut_answer(missing: int) -> Fault:
    """Break off that many bytes before the end."""

    async def fault(exchange: Exchange) -> None:
        whole = await exchange.forward(await exchange.body())
        await exchange.reply(whole[:-missing])

    return fault


async def flip_bit(exchange: Exchange) -> None:
    """Change one bit of the body on its way to the server."""
    body = bytearray(await exchange.body())
    body[len(body) // 2] ^= 1
    await exchange.reply(await exchange.forward(bytes(body)))


async def hang(exchange: Exchange) -> None:
    """Never answer; ends when the client goes."""
    await exchange.body()
    await exchange.reader.read(1)


async def crawl(exchange: Exchange) -> None:
    """Take the body slowly, 3 MB a second, and never answer."""
    if exchange.header("expect"):
        exchange.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while True:
        await asyncio.sleep(0.02)
        if not await exchange.reader.read(1 << 16):
            return


@dataclass
class _Rule:
    fault: Fault
    method: str
    when: Callable[[Exchange], bool]
    left: float

    def takes(self, exchange: Exchange) -> bool:
        return self.left > 0 and exchange.line.startswith(f"{self.method} ") and self.when(exchange)


@dataclass
class FaultProxy:
    """Use it in a `with`; it works in a thread of its own."""

    upstream_port: int
    #: Every request that came, spoiled or not.
    seen: list[Exchange] = field(default_factory=list)

    def __enter__(self) -> FaultProxy:
        self._rules: list[_Rule] = []
        self._came = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._port = free_port()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._do(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    def spoil(
        self,
        fault: Fault,
        *,
        method: str,
        times: float = 1,
        when: Callable[[Exchange], bool] = lambda _: True,
    ) -> None:
        """Let the next requests of a method meet a fault."""
        self._rules.append(_Rule(fault, method, when, times))

    def heal(self) -> None:
        """Forget all faults."""
        self._rules.clear()

    def refuse(self) -> None:
        """Stop listening: connections are refused."""
        self._do(self._stop_listening())

    def open(self) -> None:
        """Listen, again at the same port."""
        self._do(self._listen())

    def count(self, method: str) -> int:
        """How many requests of a method came."""
        return sum(exchange.line.startswith(f"{method} ") for exchange in self.seen)

    def wait(self, method: str, times: int) -> None:
        """Until so many requests of a method have come."""
        with self._came:
            if not self._came.wait_for(lambda: self.count(method) >= times, WAIT_SECONDS):
                raise TimeoutError(f"{self.count(method)} of {times} {method} came")

    def _do(self, work: Awaitable[None]) -> None:
        async def done() -> None:
            await work

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(WAIT_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self._port)

    async def _stop_listening(self) -> None:
        await stop_listening(self._server)

    async def _end_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            exchange = Exchange(head, self.upstream_port, reader, writer)
            with self._came:
                self.seen.append(exchange)
                self._came.notify_all()
            await self._fault_for(exchange)(exchange)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    def _fault_for(self, exchange: Exchange) -> Fault:
        for rule in self._rules:
            if rule.takes(exchange):
                rule.left -= 1
                return rule.fault
        return nothing


def _once(head: bytes) -> bytes:
    """The same head, but the connection ends after the answer, and the body comes unasked."""
    lines = [
        line
        for line in head.rstrip(b"\r\n").split(b"\r\n")
        if not line.lower().startswith((b"expect:", b"connection:"))
    ]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])
