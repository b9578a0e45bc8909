"""Connections that ask nothing, ask slowly, or ask nonsense, and who is served meanwhile."""

import asyncio
import json
import logging
import os
import re
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from unified_api.jobs.open_files import limit, raise_limit
from unified_api.routes import Listener, count_server_errors
from unified_api.routes.connections import most_connections
from unified_api.routes.server_log import SERVER_LOGS
from unified_api.routes.service import Surface

from tests.common.ports import HOST, free_port

JOBS = "/api/v1/jobs"
DRAW = "/api/v1/draw/jobs"
HALF = b"GET /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WHOLE = HALF + b"\r\n"
#: A job without its body.
SUBMIT = (
    b"POST /api/v1/draw/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
)
#: In the place of many seconds.
SOON = 0.3
#: Of a read that is not to wait for ever.
PATIENCE = 20.0


class Client:
    """One connection, and what is read from it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def send_parts(self, data, *, is_split):
        """The rest after the head of a request, so that the head has been read by then."""
        head, end, body = data.partition(b"\r\n\r\n")
        await self.send(head + end)
        if is_split:
            await asyncio.sleep(SOON / 3)
        await self.send(body)

    async def answer(self):
        """Status and body of the next answer."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def asks(self, data=WHOLE):
        await self.send(data)
        return (await self.answer())[0]

    async def rest(self):
        """What comes until the connection is closed."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionError:
            return b""

    async def is_closed(self, *, seconds=0.05):
        try:
            return await asyncio.wait_for(self.reader.read(1), seconds) == b""
        except ConnectionError:
            return True
        except asyncio.TimeoutError:
            return False


@pytest.fixture
async def listen(engine, settings):
    """A listener with these settings: how to connect to it."""
    opened, clients = [], []

    async def start(**given):
        made = settings(port=free_port(), **given)
        listener = Listener(made)
        surface = Surface.of(made, version="1", keys_file=None, is_local=True)
        await listener.open(engine, surface, comfyui_url="http://127.0.0.1:1")
        opened.append(listener)

        async def connect():
            clients.append(Client(*await asyncio.open_connection(HOST, listener.port)))
            return clients[-1]

        return connect

    yield start
    for client in clients:
        client.writer.close()
    for listener in opened:
        await listener.close()


# How many


async def test_whoever_asks_is_served_while_others_only_connect(listen):
    connect = await listen(max_connections=10)
    silent = [await connect() for _ in range(30)]

    assert await (await connect()).asks() == 200
    assert sum([await client.is_closed() for client in silent]) >= 21


async def test_the_one_that_has_waited_longest_makes_room(listen):
    connect = await listen(max_connections=3)
    kept_alive, silent, half = [await connect() for _ in range(3)]
    await half.send(HALF)
    assert await kept_alive.asks() == 200

    assert await (await connect()).asks() == 200

    assert [await each.is_closed() for each in (kept_alive, silent, half)] == [False, True, False]
    assert await kept_alive.asks() == 200


async def test_who_waits_for_jobs_leaves_connections_for_others(listen, bench):
    bench.host.gate.clear()
    connect = await listen(max_connections=8)
    _, job = await posted(await connect())
    waiting = [await connect() for _ in range(8)]
    for each in waiting:
        await each.send(WHOLE.replace(b"jobs", f"jobs/{job}?wait=60".encode()))
    await asyncio.sleep(SOON)

    assert await (await connect()).asks() == 200

    bench.host.gate.set()
    answers = [await each.answer() for each in waiting[:4]]
    assert [json.loads(body)["status"] for _, body in answers] == ["completed"] * 4


async def test_a_connection_that_is_answered_is_never_closed_for_another(listen, bench):
    bench.host.gate.clear()
    connect = await listen(max_connections=4, max_streams=2)
    _, job = await posted(await connect())
    streams = [await connect() for _ in range(2)]
    for stream in streams:
        await stream.send(WHOLE.replace(b"jobs", f"jobs/{job}/events".encode()))
        await stream.reader.readuntil(b"event: status")

    for _ in range(20):
        assert await (await connect()).asks() == 200

    assert [await stream.is_closed() for stream in streams] == [False, False]
    bench.host.gate.set()
    await asyncio.wait_for(streams[0].reader.readuntil(b"completed"), PATIENCE)


async def posted(client):
    await client.send(SUBMIT + b"{}")
    status, answer = await client.answer()
    return status, json.loads(answer)["job_id"]


async def test_one_connection_too_many_at_work_is_told_so(listen, bench, caplog):
    bench.host.gate.clear()
    connect = await listen(max_connections=2)
    first = await connect()
    _, job = await posted(first)
    await first.send(WHOLE.replace(b"jobs", f"jobs/{job}?wait=60".encode()))
    await (await connect()).send(SUBMIT)
    await asyncio.sleep(SOON)

    refused = [await connect() for _ in range(5)]
    status, body = await refused[0].answer()

    assert (status, json.loads(body)["code"]) == (503, "not_ready")
    assert await refused[0].is_closed()
    assert len([r for r in caplog.records if "UNIFIED_API_MAX_CONNECTIONS" in r.message]) == 1
    bench.host.gate.set()
    assert (await first.answer())[0] == 200


async def test_the_streams_of_one_key_leave_room_for_others(settings):
    surface = Surface.of(settings(max_connections=10), version="1", keys_file=None, is_local=True)

    with ExitStack() as streams:
        for _ in range(5):
            streams.enter_context(surface.limits.streams.one("ann"))
        with pytest.raises(Exception, match="UNIFIED_API_MAX_STREAMS"):
            streams.enter_context(surface.limits.streams.one("ann"))


# How long


@pytest.mark.parametrize("sent", [b"", b"G", HALF])
async def test_a_head_that_does_not_come_in_time_ends_the_connection(listen, sent):
    client = await (await listen(head_timeout=SOON))()
    await client.send(sent)

    assert await client.rest() == b""


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_byte_now_and_then_gains_no_time(listen, is_first):
    client = await (await listen(head_timeout=SOON))()
    assert is_first or await client.asks() == 200
    begun = asyncio.get_running_loop().time()

    async def trickle():
        await client.send(HALF + b"A: ")
        while True:
            await client.send(b"a")
            await asyncio.sleep(SOON / 10)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(trickle(), PATIENCE)
    assert asyncio.get_running_loop().time() - begun < PATIENCE / 2


async def test_an_answer_may_take_longer_than_a_head(listen, bench):
    bench.host.gate.clear()
    client = await (await listen(head_timeout=SOON, keep_alive_timeout=SOON))()
    _, job = await posted(client)
    await client.send(WHOLE.replace(b"jobs", f"jobs/{job}?wait=60".encode()))

    await asyncio.sleep(3 * SOON)
    bench.host.gate.set()

    assert (await client.answer())[0] == 200


async def test_a_connection_that_is_kept_alive_is_closed_after_its_own_time(listen):
    connect = await listen(head_timeout=SOON, keep_alive_timeout=5 * SOON)
    client = await connect()
    assert await client.asks() == 200

    await asyncio.sleep(2 * SOON)

    assert await client.asks() == 200
    assert await client.rest() == b""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
async def test_whoever_takes_nothing_of_an_answer_is_let_go(listen):
    client = await (await listen(send_timeout=1))()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.writer.transport.pause_reading()
    asking = WHOLE.replace(b"/api/v1/jobs", b"/api/v1/openapi.json")

    async def keep_asking():
        while True:
            await client.send(asking)
            await asyncio.sleep(0.01)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(keep_asking(), PATIENCE)


async def test_a_slow_body_ends_with_its_time(listen):
    client = await (await listen(body_timeout=SOON))()
    await client.send(
        b"POST /api/v1/draw/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )

    status, body = await client.answer()

    assert (status, json.loads(body)["code"]) == (408, "body_timeout")
    # Else it would be waited for.
    await client.send(b" " * 999)


# Nonsense

MALFORMED = {
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a bad version": b"GET / HTTP/9.9\r\n\r\n",
    "a bad target": b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a header with a zero": b"GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
    "a long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a long header": WHOLE[:-2] + b"A: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": WHOLE[:-2] + b"A: a\r\n" * 10_000 + b"\r\n",
    "a length that is no number": WHOLE[:-2] + b"Content-Length: ten\r\n\r\n",
    "a negative length": WHOLE[:-2] + b"Content-Length: -1\r\n\r\n",
    "two lengths": WHOLE[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": WHOLE[:-2]
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another encoding": WHOLE[:-2] + b"Transfer-Encoding: cat\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "an upgrade": WHOLE[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    "an upgrade to HTTP/2": WHOLE[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a strange expectation": WHOLE[:-2] + b"Expect: a miracle\r\n\r\n",
}
POST = b"POST /api/v1/draw/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = {
    "a chunk without a size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk that is too long": CHUNKED + b"1\r\n{}{}\r\n0\r\n\r\n",
    "a huge chunk": CHUNKED + b"f" * 40 + b"\r\n{}",
    "no gzip": b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "a body that ends early": b"Content-Length: 100\r\n\r\n{}",
}
KINDS = (b"application/json", b"multipart/form-data; boundary=x", b"text/plain")
REQUESTS = MALFORMED | {
    f"{name}, {kind.decode()}": POST % kind + body
    for name, body in BODIES.items()
    for kind in KINDS
}


@pytest.fixture
def counted():
    """Have what clients cause counted, in this test only."""
    loggers = [logging.getLogger(name) for name in SERVER_LOGS]
    before = [list(logger.filters) for logger in loggers]
    count_server_errors()
    yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters = filters


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_malformed_request_costs_one_line_however_often_it_comes(
    listen, counted, caplog, name
):
    connect = await listen(head_timeout=SOON, keep_alive_timeout=SOON)
    caplog.set_level(logging.INFO)

    for is_split in (False, True, True):
        client = await connect()
        await client.send_parts(REQUESTS[name], is_split=is_split)
        if "early" in name:
            client.writer.write_eof()
        answer = await client.rest()
        assert b"Traceback" not in answer
        assert b" 500 " not in answer[:20]

    lines = [record for record in caplog.records if "job=" not in record.getMessage()]
    assert [record.getMessage() for record in lines if record.exc_info] == []
    assert len(lines) <= 1
    assert all(len(record.getMessage()) < 200 for record in lines)
    assert await (await connect()).asks() == 200


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in BODIES if "early" not in name])
async def test_a_body_that_is_not_framed_as_it_says_is_the_callers_fault(
    listen, counted, name, kind, is_split
):
    client = await (await listen(keep_alive_timeout=SOON))()

    await client.send_parts(POST % kind + BODIES[name], is_split=is_split)

    answer = await client.rest()
    assert answer[9:12] in {b"400", b"415"}, answer


# A process that may have few files open

FILES = 256
HALF_OPEN = 1100


class Small:
    """A process of its own on a port, and its log."""

    def __init__(self, process, port, log):
        self.process, self.port, self._log = process, port, log

    def ask(self, path, body=None):
        headers = {"Content-Type": "application/json"}
        request = Request(f"http://{HOST}:{self.port}{path}", data=body, headers=headers)
        with urlopen(request, timeout=PATIENCE) as reply:
            return json.load(reply)

    @property
    def log(self):
        return self._log.read_text()

    def connect(self):
        """A connection that sends half a request; None if it is not even accepted."""
        try:
            client = socket.create_connection((HOST, self.port), timeout=PATIENCE)
            client.sendall(HALF)
        except OSError:
            return None
        return client


@contextmanager
def small_process(folder, files=FILES, **environment):
    port, log = free_port(), folder / "log"
    command = [sys.executable, str(Path(__file__).with_name("small_process.py")), str(folder)]
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, str(port), str(files)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        ) as process,
    ):
        assert process.stdout.readline() == b"healthy\n", log.read_text()
        yield Small(process, port, log)


def works(small):
    """Whether the catalog, a job to its end, and health are as they should be."""
    assert {one["slug"] for one in small.ask("/api/v1/workflows")["data"]} == {"draw", "edit"}
    assert small.ask("/health")["status"] == "healthy"
    job = small.ask(f"{DRAW}?wait=20", b"{}")
    assert job["status"] == "completed", job


def test_a_thousand_half_open_connections_keep_nobody_from_the_api(tmp_path):
    with small_process(tmp_path) as small, ExitStack() as clients:
        works(small)
        for number in range(HALF_OPEN):
            if client := small.connect():
                clients.enter_context(client)
            if number % 100 == 99:
                works(small)
        works(small)
        clients.close()
        works(small)

        assert "Traceback" not in small.log
        assert len(small.log.encode()) < 20_000


@pytest.fixture
def few_files():
    """Give this process a soft limit of its own: few_files(200)."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("most", "raised"), [(1000, 1000), (100, 300), (10**9, None)])
def test_the_soft_limit_is_raised_and_never_lowered(few_files, most, raised):
    few_files(300)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    raise_limit(most)

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised or hard, hard)


@pytest.mark.parametrize(
    ("files", "given", "most"),
    [
        (300, {}, 150),
        (300, {"max_connections": 10}, 10),
        (300, {"max_connections": 1000}, 225),
        (12_000, {}, 4096),
    ],
)
def test_connections_leave_files_for_everything_else(few_files, settings, files, given, most):
    few_files(files)

    assert limit(at_most=10**6) == files
    assert most_connections(settings(**given)) == most
