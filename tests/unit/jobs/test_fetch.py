"""Fetching from servers that are slow, huge, broken or lying."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from unified_api.jobs.egress.fetch import CONNECTIONS_PER_HOST, TRIES, Fetcher, FetchLimits
from unified_api.jobs.egress.guard import Guard, Place
from unified_api.jobs.errors import InputFetchFailed, InputInvalid

from ..fake_host import until

MEBIBYTE = 1 << 20
BLOCK = bytes(MEBIBYTE)
LIMITS = {"max_bytes": MEBIBYTE, "total_seconds": 20.0, "idle_seconds": 5.0, "pause_seconds": 0.0}

Open = Callable[..., Awaitable[Fetcher]]


@pytest.fixture
async def fetcher() -> AsyncIterator[Open]:
    """`await fetcher(*listeners, **limits)` may fetch from these listeners."""
    fetchers: list[Fetcher] = []

    async def start(*listeners, **limits) -> Fetcher:
        guard = Guard(allow=[Place("127.0.0.1", listener.port) for listener in listeners])
        fetchers.append(Fetcher(guard, FetchLimits(**{**LIMITS, **limits})))
        await fetchers[-1].open()
        return fetchers[-1]

    yield start
    for opened in fetchers:
        await opened.close()


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def size(chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


def reply(status: int = 200, body: bytes = b"picture", **headers: object) -> bytes:
    fields = {"Content-Length": len(body), **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Because\r\n{head}\r\n".encode() + body


def answering(*replies: bytes):
    """An answer that sends the next of these replies, the last for ever."""
    waiting = list(replies)

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    return answer


# What is tried again, and what is not -------------------------------------------------------------


async def test_the_body_is_handed_on_as_it_was_sent(serve, fetcher) -> None:
    server = await serve(answering(reply(body=b"abc" * 50_000)))

    body = await (await fetcher(server)).fetch(f"{server.url}/a%2Fb?c=%2B", whole)

    assert body == b"abc" * 50_000
    assert server.requests[0].startswith("GET /a%2Fb?c=%2B HTTP/1.1")


@pytest.mark.parametrize(
    "broken",
    [
        reply(503), reply(500), reply(429), b"", reply(body=b"pict", Content_Length=7),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npict\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npic", b"HTTP/1.1 200",
    ],
)  # fmt: skip
async def test_what_may_pass_is_tried_again_from_the_start(serve, fetcher, broken) -> None:
    server = await serve(answering(*[broken] * (TRIES - 1), reply()))

    assert await (await fetcher(server)).fetch(server.url, whole) == b"picture"
    await until(lambda: server.accepts >= TRIES)
    assert server.accepts == TRIES


@pytest.mark.parametrize("broken", [reply(503), reply(body=b"pict", Content_Length=7)])
async def test_what_does_not_pass_ends_after_three_tries(serve, fetcher, broken) -> None:
    server = await serve(answering(broken))

    with pytest.raises(InputFetchFailed) as caught:
        await (await fetcher(server)).fetch(server.url, whole)

    assert server.accepts == TRIES
    assert "127.0.0.1" not in str(caught.value)
    assert caught.value.code == "input_fetch_failed"


async def test_a_server_that_hangs_up_or_is_gone_is_given_up(serve, fetcher) -> None:
    server = await serve(answering(b""))
    opened = await fetcher(server)

    with pytest.raises(InputFetchFailed, match="reached"):
        await opened.fetch(server.url, whole)
    # aiohttp asks once more by itself when a connection breaks before the answer.
    assert TRIES <= server.accepts <= 2 * TRIES

    await server.close()
    with pytest.raises(InputFetchFailed, match="reached"):
        await opened.fetch(server.url, whole)


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 418])
async def test_another_status_is_final(serve, fetcher, status: int) -> None:
    server = await serve(answering(reply(status, b"")))

    with pytest.raises(InputFetchFailed, match=f"The server answered {status}"):
        await (await fetcher(server)).fetch(server.url, whole)

    assert server.accepts == 1


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 99_999]
)
async def test_what_is_not_http_is_not_understood(serve, fetcher, garbage: bytes) -> None:
    server = await serve(answering(garbage + b"\r\n\r\n"))

    with pytest.raises(InputFetchFailed):
        await (await fetcher(server)).fetch(server.url, whole)


async def test_an_error_of_the_keeper_is_not_the_server_s(serve, fetcher) -> None:
    server = await serve(answering(reply()))

    async def full(chunks: AsyncIterator[bytes]) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        await (await fetcher(server)).fetch(server.url, full)
    assert server.accepts == 1


# Redirects ----------------------------------------------------------------------------------------


def hops(path: str) -> int:
    return int(path.strip("/") or 0)


async def counting_down(path: str, writer: asyncio.StreamWriter) -> None:
    if left := hops(path):
        writer.write(reply(302, b"elsewhere", Location=f"/{left - 1}"))
    else:
        writer.write(reply())


async def test_three_redirects_are_followed_and_carry_nothing(serve, fetcher) -> None:
    server = await serve(counting_down)

    assert await (await fetcher(server)).fetch(f"{server.url}/3", whole) == b"picture"
    assert server.accepts == 4
    sent = "".join(server.requests).lower()
    assert not any(name in sent for name in ("authorization", "referer"))


@pytest.mark.parametrize("path", ["/4", "/20"])
async def test_more_than_three_redirects_are_too_many(serve, fetcher, path: str) -> None:
    server = await serve(counting_down)

    with pytest.raises(InputFetchFailed, match="redirects"):
        await (await fetcher(server)).fetch(server.url + path, whole)
    assert server.accepts == 4


async def test_a_redirect_with_an_endless_body_is_left_at_once(serve, fetcher) -> None:
    async def endless(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/there":
            writer.write(reply())
            return
        writer.write(reply(302, b"", Location="/there", Content_Length=1 << 40))
        await asyncio.Event().wait()

    server = await serve(endless)

    assert await (await fetcher(server)).fetch(server.url, whole) == b"picture"


# Size ---------------------------------------------------------------------------------------------


async def test_a_body_announced_as_too_large_is_not_begun(serve, fetcher) -> None:
    server = await serve(answering(reply(Content_Length=MEBIBYTE + 1)))
    begun = []

    async def keep(chunks: AsyncIterator[bytes]) -> None:
        begun.append(chunks)

    with pytest.raises(InputInvalid, match=str(MEBIBYTE)):
        await (await fetcher(server)).fetch(server.url, keep)
    assert begun == []


@pytest.mark.parametrize("header", ["gzip", "br", "deflate", "x-unknown", "GZIP", "identity, gzip"])
async def test_an_encoded_body_is_refused(serve, fetcher, header: str) -> None:
    server = await serve(answering(reply(body=gzip.compress(BLOCK), Content_Encoding=header)))

    with pytest.raises(InputFetchFailed, match="encoded"):
        await (await fetcher(server)).fetch(server.url, whole)
    assert "accept-encoding: identity\r\n" in server.requests[0].lower()


async def test_a_body_that_hides_its_encoding_is_not_unpacked(serve, fetcher) -> None:
    bomb = gzip.compress(BLOCK)
    server = await serve(answering(reply(body=bomb)))

    assert await (await fetcher(server)).fetch(server.url, whole) == bomb


class Strain:
    """How far memory grew, and for how long the loop's thread was at work at one go."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._before = self._most = resident_bytes()

    @property
    def grown(self) -> int:
        return self._most - self._before

    async def watch(self) -> None:
        while True:
            # By the thread's own time: what else the machine does is none of its work.
            begun = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - begun)
            self._most = max(self._most, resident_bytes())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def strain() -> AsyncIterator[Strain]:
    watched = Strain()
    task = asyncio.create_task(watched.watch())
    yield watched
    task.cancel()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("headers", ["", "Transfer-Encoding: chunked\r\n"])
async def test_a_body_of_a_gigabyte_is_cut_without_growing(serve, fetcher, headers: str) -> None:
    before, after = (b"100000\r\n", b"\r\n") if headers else (b"", b"")
    sent = 0

    async def gigabyte(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
        for _ in range(1024):
            writer.write(before + BLOCK + after)
            await writer.drain()
            sent += 1

    server = await serve(gigabyte)
    opened = await fetcher(server, max_bytes=50 * MEBIBYTE)

    async with strain() as watched:
        with pytest.raises(InputInvalid):
            await opened.fetch(server.url, size)

    assert 50 <= sent < 60
    assert watched.grown < 64 * MEBIBYTE
    assert watched.longest < 0.1


# Time ---------------------------------------------------------------------------------------------


async def drip(path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silent(path: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def headers_only(path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    await writer.drain()
    await asyncio.Event().wait()


async def test_a_body_that_drips_ends_at_the_total_time(serve, fetcher) -> None:
    server = await serve(drip)
    opened = await fetcher(server, total_seconds=0.5)

    async with strain() as watched:
        begun = time.monotonic()
        with pytest.raises(InputFetchFailed, match=r"longer than 0\.5 s"):
            await opened.fetch(server.url, whole)
        took = time.monotonic() - begun

    assert 0.4 < took < 4
    assert server.accepts == 1
    assert watched.grown < 64 * MEBIBYTE
    assert watched.longest < 0.1


@pytest.mark.parametrize("answer", [silent, headers_only])
async def test_a_server_that_says_nothing_is_left_after_the_idle_time(
    serve, fetcher, answer
) -> None:
    server = await serve(answer)
    opened = await fetcher(server, idle_seconds=0.1)

    with pytest.raises(InputFetchFailed):
        await opened.fetch(server.url, whole)

    await until(lambda: server.accepts >= TRIES)
    assert server.accepts == TRIES


async def test_the_total_time_is_over_all_tries(serve, fetcher) -> None:
    server = await serve(silent)
    opened = await fetcher(server, idle_seconds=1.2, total_seconds=1.8)

    with pytest.raises(InputFetchFailed, match="longer"):
        await opened.fetch(server.url, whole)

    assert server.accepts == 2


async def test_dead_hosts_hold_up_only_their_own_pictures(serve, fetcher) -> None:
    dead = [await serve(silent) for _ in range(15)]
    alive = await serve(answering(reply()))
    opened = await fetcher(*dead, alive)
    stuck = [asyncio.ensure_future(opened.fetch(host.url, whole)) for host in dead * 10]

    bodies = await asyncio.gather(*(opened.fetch(alive.url, whole) for _ in range(20)))

    assert bodies == [b"picture"] * 20
    await until(lambda: all(host.accepts >= CONNECTIONS_PER_HOST for host in dead))
    assert {host.accepts for host in dead} == {CONNECTIONS_PER_HOST}
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
