"""The systems that are compared. Each takes jobs, and tells when one is done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Protocol
from uuid import uuid4

import aiohttp

from tests.aws.emulators import Emulator

from .bench import DEFINITION, QUEUE, SLUG, TABLE, Task

PATH = f"/api/v1/{SLUG}/jobs"
WAIT_SECONDS = 60
#: How often the table is looked at, for all tasks together.
LOOK_SECONDS = 0.03
IMAGES = ("image_url", "image2_url", "image3_url")


class System(Protocol):
    """How it is called in the table; what tells whether it still answers, and how a job is."""

    name: str
    session: aiohttp.ClientSession
    health: str

    async def submit(self, task: Task) -> str: ...
    async def done(self, job: str) -> None: ...
    def status(self, job: str) -> str: ...


class Plain:
    """ComfyUI alone: the pictures lie on its disk, the results stay there."""

    name = "plain ComfyUI"
    health = "/queue"

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self._client_id = uuid4().hex
        self._ended: dict[str, asyncio.Event] = {}

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator[Plain]:
        async with connected(url) as session:
            system = cls(session)
            where = {"clientId": system._client_id}
            async with session.ws_connect("/ws", params=where, max_msg_size=0) as socket:
                listening = asyncio.ensure_future(system._listen(socket))
                yield system
                listening.cancel()

    async def submit(self, task: Task) -> str:
        prompt = {"prompt": graph_of(task), "client_id": self._client_id}
        async with self.session.post("/prompt", json=prompt) as reply:
            return str((await reply.json())["prompt_id"])

    async def done(self, job: str) -> None:
        await self._ended.setdefault(job, asyncio.Event()).wait()

    def status(self, job: str) -> str:
        return f"/history/{job}"

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                event = message.json()
                if event["type"] == "execution_success":
                    self._ended.setdefault(event["data"]["prompt_id"], asyncio.Event()).set()


class OverHttp:
    """Ours by HTTP: the pictures come from far away, the results go to a bucket far away."""

    name = "ours over HTTP"
    health = "/health"

    def __init__(self, session: aiohttp.ClientSession, far: str) -> None:
        self.session = session
        self._far = far

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, far: str) -> AsyncIterator[OverHttp]:
        async with connected(url) as session:
            yield cls(session, far)

    async def submit(self, task: Task) -> str:
        async with self.session.post(PATH, json=body_of(task, self._far)) as reply:
            answer = await reply.json()
        if reply.status != HTTPStatus.ACCEPTED:
            raise RuntimeError(answer)
        return str(answer["job_id"])

    async def done(self, job: str) -> None:
        status = ""
        while status != "completed":
            async with self.session.get(f"{self.status(job)}?wait={WAIT_SECONDS}") as reply:
                answer = await reply.json()
            status = answer["status"]
            if status == "failed":
                raise RuntimeError(answer["error"])

    def status(self, job: str) -> str:
        return f"/api/v1/jobs/{job}"


class OverQueue:
    """Ours by SQS and DynamoDB, which an emulator plays."""

    name = "ours over SQS"
    health = "/health"

    def __init__(self, session: aiohttp.ClientSession, far: str, aws: Emulator) -> None:
        self.session = session
        self._far = far
        self._aws = aws
        self._queue_url = aws.sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        self._waiting: dict[str, asyncio.Event] = {}

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, far: str, aws: Emulator) -> AsyncIterator[OverQueue]:
        async with connected(url) as session:
            system = cls(session, far, aws)
            watching = asyncio.ensure_future(system._watch())
            yield system
            watching.cancel()

    async def submit(self, task: Task) -> str:
        task_id = str(uuid4())
        body = body_of(task, self._far)
        message = json.dumps({"task_id": task_id, "api_path": PATH, "request_body": body})
        await asyncio.to_thread(
            self._aws.sqs.send_message, QueueUrl=self._queue_url, MessageBody=message
        )
        return task_id

    async def done(self, job: str) -> None:
        await self._waiting.setdefault(job, asyncio.Event()).wait()

    def status(self, job: str) -> str:
        return f"/api/v1/jobs/{job}"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._waiting:
                for task_id in await asyncio.to_thread(self._completed, list(self._waiting)):
                    self._waiting.pop(task_id).set()

    def _completed(self, tasks: list[str]) -> list[str]:
        keys = [{"task_id": {"S": task_id}} for task_id in tasks]
        wanted = {TABLE: {"Keys": keys, "ConsistentRead": True}}
        items = self._aws.dynamodb.batch_get_item(RequestItems=wanted)["Responses"][TABLE]
        ended = {item["task_id"]["S"]: item["status"]["S"] for item in items}
        if "failed" in ended.values():
            raise RuntimeError("a task failed; ComfyUI's log tells why")
        return [task_id for task_id, status in ended.items() if status == "completed"]


def connected(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))


def body_of(task: Task, far: str) -> dict[str, Any]:
    urls = [f"{far}/pictures/{name}" for name in task.pictures]
    named = dict(zip(IMAGES, urls, strict=False))
    return {**named, "milliseconds": task.milliseconds, "seed": task.seed}


def graph_of(task: Task) -> dict[str, Any]:
    """As an editor sends it: only the pictures that there are."""
    graph: dict[str, Any] = json.loads((DEFINITION / "graph.json").read_text())
    model = graph["4"]["inputs"]
    for number, name in enumerate(("image", "image2", "image3")):
        loader = str(number + 1)
        if number < len(task.pictures):
            graph[loader]["inputs"]["image"] = task.pictures[number]
        else:
            del graph[loader], model[name]
    model |= {"milliseconds": task.milliseconds, "seed": task.seed}
    return graph
