"""The orchestrator as a process of its own: started, told to end, and killed at bad moments."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
from fault_proxy import Exchange, Fault, FaultProxy, hang, nothing, operation
from tasks import Deployment
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.orchestrator import host_of

from tests.common.orchestrator import LOAD, MAIN
from tests.common.ports import HOST, free_port

START_SECONDS = 30.0
#: What is accepted and not sent is sent again within this time.
SWEPT_SECONDS = 30.0
KEY = f"ci:submit:{sha256(b'secret').hexdigest()}"


@dataclass
class Running:
    """An orchestrator at work."""

    process: asyncio.subprocess.Process
    url: str

    async def post(self) -> tuple[int, Any]:
        path = f"{self.url}/api/v1/draw/jobs"
        async with aiohttp.ClientSession() as session, session.post(path, json={}) as reply:
            return reply.status, await reply.json()

    async def answers(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url) as reply:
                return reply.status == 200
        except aiohttp.ClientConnectionError:
            return False


Start = Callable[[], Awaitable[Running]]


@pytest.fixture
async def start(environment: dict[str, str]) -> AsyncIterator[Start]:
    """`await start()` runs one until the end of the test."""
    started: list[Running] = []

    async def run() -> Running:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAIN),
            env={**os.environ, **environment, "UNIFIED_API_PORT": str(port)},
        )
        started.append(Running(process, f"http://{HOST}:{port}"))
        await until(started[-1].answers, START_SECONDS)
        return started[-1]

    yield run
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
        await one.process.wait()


async def until(question: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """The first answer that is something true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (answer := await question()):
        if loop.time() > end:
            raise TimeoutError("the answer never came")
        await asyncio.sleep(0.05)
    return answer


def came(proxy: FaultProxy, name: str) -> Callable[[], Awaitable[bool]]:
    async def question() -> bool:
        return any(operation(name)(exchange) for exchange in proxy.seen)

    return question


async def kill_at(start: Start, proxy: FaultProxy, name: str) -> None:
    """Kill one when it has begun an operation for a job."""
    proxy.spoil(hang, method="POST", times=1000, when=operation(name))
    running = await start()
    posting = asyncio.create_task(running.post())
    await until(came(proxy, name), START_SECONDS)
    running.process.kill()
    with pytest.raises(aiohttp.ClientConnectionError):
        await posting
    proxy.heal()


@pytest.mark.parametrize(("name", "left_behind"), [("SendMessage", 0), ("UpdateItem", 1)])
async def test_what_was_accepted_by_a_process_that_died_is_sent(
    start: Start, proxy: FaultProxy, deployment: Deployment, name: str, left_behind: int
) -> None:
    await kill_at(start, proxy, name)
    before = deployment.messages()

    await start()

    async def sent() -> list[dict[str, Any]]:
        return deployment.messages()

    (message,) = await until(sent, SWEPT_SECONDS)
    assert len(before) == left_behind
    assert all(earlier == message for earlier in before)
    assert deployment.item(message["task_id"])["status"] == "pending"
    assert deployment.count() == 1


async def test_without_keys_it_refuses_what_a_proxy_passes_on(start: Start) -> None:
    url = f"{(await start()).url}/api/v1/jobs"

    async with aiohttp.ClientSession() as session:
        direct = await session.get(url)
        forwarded = await session.get(url, headers={"X-Forwarded-For": "203.0.113.7"})
        told = await forwarded.json()

    assert (direct.status, forwarded.status) == (200, 503)
    assert told["code"] == "auth_not_configured"
    assert "UNIFIED_API_KEYS" in told["detail"]


async def test_a_request_under_way_is_answered_when_it_is_told_to_end(
    start: Start, proxy: FaultProxy, deployment: Deployment
) -> None:
    released = threading.Event()
    proxy.spoil(held(released), method="POST", when=operation("PutItem"))
    running = await start()
    posting = asyncio.create_task(running.post())
    await until(came(proxy, "PutItem"), START_SECONDS)

    running.process.send_signal(signal.SIGTERM)

    async def is_closed() -> bool:
        return not await running.answers()

    await until(is_closed, START_SECONDS)
    released.set()
    status, job = await posting
    assert status == 202
    assert await asyncio.wait_for(running.process.wait(), START_SECONDS) == 0
    assert [message["task_id"] for message in deployment.messages()] == [job["job_id"]]


def held(released: threading.Event) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await asyncio.get_running_loop().run_in_executor(None, released.wait)
        await nothing(exchange)

    return fault


async def test_a_port_that_is_taken_is_said_and_ends_it(
    start: Start, environment: dict[str, str]
) -> None:
    running = await start()
    port = running.url.rpartition(":")[2]

    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAIN),
        env={**os.environ, **environment, "UNIFIED_API_PORT": port},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(second.communicate(), START_SECONDS)

    assert second.returncode == 1
    assert f"{HOST}:{port} cannot be opened" in said.decode()
    assert b"Traceback" not in said


#: Beside what boto3 needs; and more connections than that.
FILES, HALF_OPEN = 256, 1100
HALF = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def test_a_thousand_half_open_connections_keep_nobody_from_it(
    start: Start, environment: dict[str, str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    environment["UNIFIED_API_OPEN_FILES"] = str(FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    try:
        running = await start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    port = int(running.url.rpartition(":")[2])
    clients = []
    for number in range(HALF_OPEN):
        clients.append((await asyncio.open_connection(HOST, port))[1])
        clients[-1].write(HALF)
        if number % 200 == 0:
            assert (await running.post())[0] == 202

    assert await running.answers()
    for client in clients:
        client.close()
    assert (await running.post())[0] == 202


async def test_a_request_that_does_not_come_in_time_ends_its_connection(
    start: Start, environment: dict[str, str]
) -> None:
    environment["UNIFIED_API_HEAD_TIMEOUT"] = "0.5"
    running = await start()
    reader, writer = await asyncio.open_connection(HOST, int(running.url.rpartition(":")[2]))
    writer.write(HALF)

    assert await asyncio.wait_for(reader.read(), START_SECONDS) == b""
    writer.close()


async def test_it_needs_no_torch_no_pillow_and_no_comfyui() -> None:
    load = f"{LOAD}; import unified_api.sqs_bridge.orchestrator, json, sys"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{load}; print(json.dumps(sorted(sys.modules)))"),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await asyncio.wait_for(process.communicate(), START_SECONDS)

    loaded = {name.split(".")[0] for name in json.loads(told)}

    assert "boto3" in loaded
    assert loaded.isdisjoint({"torch", "PIL", "numpy", "server", "nodes", "comfy", "folder_paths"})


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ({}, "127.0.0.1"),
        ({"UNIFIED_API_KEYS": KEY}, "0.0.0.0"),
        ({"UNIFIED_API_KEYS": "unreadable"}, "0.0.0.0"),
        ({"UNIFIED_API_ALLOW_ANONYMOUS": "1"}, "0.0.0.0"),
        ({"UNIFIED_API_HOST": "10.0.0.7"}, "10.0.0.7"),
        ({"UNIFIED_API_HOST": "127.0.0.1", "UNIFIED_API_KEYS": KEY}, "127.0.0.1"),
    ],
)
def test_it_listens_everywhere_only_where_that_is_meant(given: dict[str, str], host: str) -> None:
    assert host_of(Settings.from_env(given)) == host
