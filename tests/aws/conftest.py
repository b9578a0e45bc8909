"""Bucket, queue and table on each emulator, reached through a proxy that can spoil requests."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from emulators import CREDENTIALS, REGION, Emulator, start_ministack, start_moto
from fault_proxy import FaultProxy
from PIL import Image
from tasks import Deployment, Worker, deploy
from unified_api.jobs.job import Job, Rendered
from unified_api.jobs.links import WEEK_SECONDS, CdnLinks
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.client import S3
from unified_api.jobs.s3.results import S3Results
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.aws import Aws
from unified_api.sqs_bridge.bridge import Bridge
from unified_api.sqs_bridge.listener import SqsListener
from unified_api.sqs_bridge.orchestrator import orchestrator
from unified_api.sqs_bridge.outbox import Outbox
from unified_api.sqs_bridge.task_index import TaskIndex
from unified_api.sqs_bridge.task_queue import TaskQueues
from unified_api.sqs_bridge.task_table import TaskTable

from ..unit.fake_host import Bench, bench, definitions, engine, gallery, settings

__all__ = ["bench", "definitions", "engine", "gallery", "settings"]


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = start_moto(tmp_path_factory.mktemp("moto"))
    yield emulator
    emulator.stop()


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = start_ministack(tmp_path_factory.mktemp("ministack"))
    yield emulator
    emulator.stop()


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Emulator:
    """Moto, unless a test names others."""
    found: Emulator = request.getfixturevalue(getattr(request, "param", "moto"))
    return found


@pytest.fixture
def proxy(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultProxy]:
    """The way to the emulator that the environment names."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with FaultProxy(emulator.port) as proxy:
        for name, value in {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "AWS_ENDPOINT_URL_SQS": proxy.url,
            "AWS_ENDPOINT_URL_DYNAMODB": proxy.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "NO_PROXY": "127.0.0.1,localhost",
        }.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def aws(emulator: Emulator) -> Any:
    """A client of one's own, past the proxy."""
    return emulator.s3


@pytest.fixture
def bucket_name(aws: Any) -> str:
    name = f"results-{uuid4().hex}"
    aws.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3(proxy: FaultProxy) -> S3:
    return S3(REGION)


@pytest.fixture
def bucket(s3: S3, bucket_name: str) -> Bucket:
    return Bucket(s3, bucket_name)


@pytest.fixture
def results(bucket: Bucket) -> S3Results:
    links = CdnLinks("cdn.example")
    return S3Results(bucket, prefix="images/comfyui-results", links=links, patience=30)


RenderJob = Callable[..., Job]


@pytest.fixture
def rendered_job(tmp_path: Path) -> RenderJob:
    """A job whose pictures are made and wait to be published."""

    def render(*colors: str, job_id: str | None = None, name: str = "image") -> Job:
        files = tuple(_picture(tmp_path, color, name) for color in colors or ("teal",))
        job = Job(
            job_id=job_id or str(uuid4()), workflow="image-resize", parameters={}, created_at=0
        )
        return job.running(now=1).publishing(files, run_ms=1)

    return render


def _picture(folder: Path, color: str, name: str) -> Rendered:
    path = folder / f"{uuid4().hex}.png"
    Image.new("RGB", (8, 6), color).save(path)
    return Rendered(name=name, path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def deployment(emulator: Emulator, request: pytest.FixtureRequest) -> Deployment:
    """A message is received ten times at most, unless a test says otherwise."""
    return deploy(emulator, most_receives=getattr(request, "param", 10))


Hire = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def hire(
    deployment: Deployment,
    bucket_name: str,
    results: S3Results,
    definitions: Path,
    settings: Any,
    gallery: Any,
    tmp_path: Path,
) -> AsyncIterator[Hire]:
    """`await hire()` starts a worker, `home=dead.home` on the disk of another.

    Variables are for its listener; settings in small letters, as `spool_bytes=1`, for its engine.
    """
    workers: list[tuple[Worker, Bridge]] = []

    def new_home() -> Bench:
        folder = tmp_path / f"worker-{len(workers)}"
        return Bench(folder, definitions, partial(settings, allow_hosts=gallery.place))

    async def start(home: Bench | None = None, host: Any = None, **given: Any) -> Worker:
        home = home or new_home()
        host = host or home.new_host()
        variables = {name: given.pop(name) for name in list(given) if name.isupper()}
        engine = await home.open(host=host, results=results, **given)
        names = {
            "SQS_QUEUE_URL": deployment.queue_url,
            "DYNAMODB_TABLE": deployment.table,
            "S3_BUCKET": bucket_name,
            "UNIFIED_API_VISIBILITY_SECONDS": "3",
        }
        listening = Settings.from_env({**names, **variables})
        bridge = Bridge.of(listening)
        listener = SqsListener(engine, bridge, listening)
        listener.start()
        workers.append((Worker(home, host, engine, listener), bridge))
        return workers[-1][0]

    yield start
    for worker, bridge in workers:
        await worker.listener.stop()
        await bridge.close()
    for home in {worker.home for worker, _ in workers}:
        await home.close()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def dynamodb(proxy: FaultProxy) -> AsyncIterator[Aws]:
    aws = Aws("dynamodb", REGION, attempts=3)
    yield aws
    await aws.close()


@pytest.fixture
def table(dynamodb: Aws, deployment: Deployment, clock: Clock) -> TaskTable:
    return TaskTable(dynamodb, deployment.table, retention_seconds=WEEK_SECONDS, clock=clock)


@pytest.fixture
def index(dynamodb: Aws, deployment: Deployment) -> TaskIndex:
    return TaskIndex(dynamodb, deployment.table)


Orchestrate = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


@pytest.fixture
def environment(proxy: FaultProxy, deployment: Deployment, definitions: Path) -> dict[str, str]:
    """The settings of an orchestrator with a queue and a table."""
    return {
        "SQS_QUEUE_URL": deployment.queue_url,
        "DYNAMODB_TABLE": deployment.table,
        "UNIFIED_API_WORKFLOWS_DIR": str(definitions),
    }


@pytest.fixture
def orchestrate(environment: dict[str, str], aiohttp_client: Any) -> Orchestrate:
    """`await orchestrate(S3_BUCKET="b")` puts one on the network; its client."""

    async def start(**given: str) -> TestClient[web.Request, web.Application]:
        settings = Settings.from_env({**environment, **given})
        client: TestClient[web.Request, web.Application]
        client = await aiohttp_client(orchestrator(settings))
        return client

    return start


@pytest.fixture
async def outbox(
    environment: dict[str, str], table: TaskTable, index: TaskIndex
) -> AsyncIterator[Outbox]:
    """One that sends again at once what is not sent, as another replica would later."""
    sqs = Aws("sqs", REGION)
    queues = TaskQueues(sqs, environment["SQS_QUEUE_URL"], high_sqs=sqs)
    yield Outbox(table, index, queues, None, unsent_seconds=0)
    await sqs.close()
