"""A bucket on each emulator, reached through a proxy that can spoil requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from emulators import CREDENTIALS, REGION, Emulator, start_ministack, start_moto
from fault_proxy import FaultProxy
from PIL import Image
from unified_api.jobs.bucket import Bucket
from unified_api.jobs.job import Job, Rendered
from unified_api.jobs.links import CdnLinks
from unified_api.jobs.s3 import S3
from unified_api.jobs.s3_results import S3Results


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
