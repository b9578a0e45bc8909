"""Pictures from a private bucket in, results under the CDN's domain out; a bucket that is away."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_process import ComfyProcess, wait_until
from conftest import NEWEST
from emulators import CREDENTIALS, Emulator, start_moto
from fault_proxy import FaultProxy, answer
from forked import ForkedComfy
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

BUCKET, PRIVATE, FOREIGN = "results", "private-photos", "not-ours"
CDN = "https://cdn.example.org"


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = start_moto(tmp_path_factory.mktemp("moto"))
    for name in (BUCKET, PRIVATE, FOREIGN):
        emulator.s3.create_bucket(Bucket=name)
    yield emulator
    emulator.stop()


@pytest.fixture(scope="module")
def proxy(moto: Emulator) -> Iterator[FaultProxy]:
    with FaultProxy(moto.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory, proxy: FaultProxy) -> Iterator[ComfyProcess]:
    process = ForkedComfy(
        NEWEST,
        tmp_path_factory.mktemp("storage"),
        **CREDENTIALS,
        AWS_ENDPOINT_URL_S3=proxy.url,
        S3_BUCKET=BUCKET,
        UNIFIED_API_S3_READ_BUCKETS=PRIVATE,
        CLOUDFRONT_DOMAIN="cdn.example.org",
        UNIFIED_API_SPOOL_BYTES="20000",
        NO_PROXY="127.0.0.1",
    )
    yield process.start()
    process.kill()


def put_photo(moto: Emulator, bucket: str, key: str, color: str = "red") -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    moto.s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())


def resize(comfy: ComfyProcess, image_url: str, **more: Any) -> dict[str, Any]:
    body = {"image_url": image_url, "width": 20, "height": 10, **more}
    return comfy.finished(comfy.submit("image-resize", body))


def component(comfy: ComfyProcess) -> dict[str, Any]:
    return dict(comfy.get("/health").json()["components"]["storage"])


def accepted_until_refused(comfy: ComfyProcess, tag: str) -> list[str]:
    """Submit until the spool is full; the ids of what was accepted before."""
    jobs: list[str] = []

    def is_refused() -> bool:
        response = comfy.post("/api/v1/probe/jobs", json={"tag": tag})
        if response.status_code == 202:
            jobs.append(response.json()["job_id"])
        return response.status_code == 503

    wait_until(is_refused)
    return jobs


@pytest.mark.parametrize(
    "reference",
    [
        f"s3://{PRIVATE}/shots/一.png",
        f"https://{PRIVATE}.s3.us-east-1.amazonaws.com/shots/%E4%B8%80.png",
        f"https://s3.us-east-1.amazonaws.com/{PRIVATE}/shots/%E4%B8%80.png",
    ],
)
def test_a_private_picture_comes_out_under_the_cdn(
    comfy: ComfyProcess, moto: Emulator, reference: str
) -> None:
    put_photo(moto, PRIVATE, "shots/一.png")

    job = resize(comfy, reference)

    assert job["status"] == "completed", job["error"]
    key = f"images/comfyui-results/image-resize/{job['job_id']}.png"
    assert job["result_s3_uri"] == f"{CDN}/{key}"
    assert job["outputs"][0]["s3_uri"] == f"s3://{BUCKET}/{key}"
    stored = moto.s3.get_object(Bucket=BUCKET, Key=key)
    assert stored["ContentType"] == "image/png"
    picture = Image.open(io.BytesIO(stored["Body"].read()))
    assert isinstance(picture, PngImageFile)
    assert picture.size == (20, 10)
    assert picture.text == {}
    path = f"/api/v1/jobs/{job['job_id']}/outputs/0"
    assert comfy.get(path, allow_redirects=False).headers["Location"] == job["result_url"]


def test_a_result_is_the_input_of_the_next_job_by_its_cdn_link(
    comfy: ComfyProcess, moto: Emulator
) -> None:
    put_photo(moto, PRIVATE, "first.png")
    first = resize(comfy, f"s3://{PRIVATE}/first.png")

    second = resize(comfy, first["result_s3_uri"])

    assert second["status"] == "completed", second["error"]


@pytest.mark.parametrize(
    "reference",
    [
        "s3://{bucket}/{key}",
        "{cdn}/{key}",
        "https://{bucket}.s3.us-east-1.amazonaws.com/{key}",
        "https://s3.us-east-1.amazonaws.com/{bucket}/images%2F..%2F{key}",
    ],
)
def test_nobody_has_a_private_picture_out_of_the_results_bucket(
    comfy: ComfyProcess, moto: Emulator, reference: str
) -> None:
    put_photo(moto, BUCKET, "hr/scan.png")

    job = resize(comfy, reference.format(bucket=BUCKET, cdn=CDN, key="hr/scan.png"))

    assert (job["status"], job["error_detail"]["code"]) == ("failed", "forbidden_source")
    assert "UNIFIED_API_S3_READ_BUCKETS" in job["error"]


def test_another_bucket_is_refused(comfy: ComfyProcess, moto: Emulator) -> None:
    put_photo(moto, FOREIGN, "a.png")

    job = resize(comfy, f"s3://{FOREIGN}/a.png")

    assert (job["status"], job["error_detail"]["code"]) == ("failed", "forbidden_source")


def test_the_format_asked_for_decides_key_and_type(comfy: ComfyProcess, moto: Emulator) -> None:
    put_photo(moto, PRIVATE, "b.png")

    job = resize(comfy, f"s3://{PRIVATE}/b.png", output_format="jpeg", quality=70)

    assert job["result_s3_uri"].endswith(f"{job['job_id']}.jpg")
    assert job["outputs"][0]["content_type"] == "image/jpeg"


def test_a_picture_in_the_request_is_stored_once_and_not_repeated(comfy: ComfyProcess) -> None:
    uri = (
        "data:image/png;base64,"
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )

    job = resize(comfy, uri)

    assert job["status"] == "completed", job["error"]
    assert job["parameters"]["image_url"].startswith("upload:")


@pytest.mark.timeout(300)
def test_a_bucket_that_is_away_loses_nothing_and_comes_back_by_itself(
    comfy: ComfyProcess, proxy: FaultProxy, moto: Emulator
) -> None:
    for method in ("PUT", "HEAD"):
        proxy.spoil(answer(503, "SlowDown"), method=method, times=math.inf)
    jobs = accepted_until_refused(comfy, "away")

    wait_until(lambda: component(comfy)["status"] == "degraded")
    assert {comfy.job(job)["status"] for job in jobs} <= {"processing", "pending"}
    assert comfy.get("/health").status_code == 200
    proxy.heal()

    for job in jobs:
        assert comfy.finished(job, seconds=120)["status"] == "completed"
    assert len(comfy.runs("away")) == len(jobs)
    wait_until(lambda: component(comfy)["status"] == "healthy", seconds=60)
    assert comfy.finished(comfy.submit("probe"))["status"] == "completed"
