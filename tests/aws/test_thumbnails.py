"""Small pictures of results in a bucket, and where an orchestrator sends who asks for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy
from tasks import PATH, Deployment
from unified_api.jobs.errors import UnknownOutput
from unified_api.jobs.file_cache import FileCache
from unified_api.jobs.job import Job
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.results import S3Results
from unified_api.jobs.thumbnails import Thumbnails

API = "/api/v1"

RenderJob = Callable[..., Job]


@pytest.fixture
async def job(results: S3Results, rendered_job: RenderJob) -> Job:
    """Completed, its pictures in the bucket."""
    rendered = rendered_job("teal", "navy")
    return rendered.completed(await results.publish(rendered), now=2, publish_ms=1)


@pytest.fixture
def thumbnails(results: S3Results, tmp_path: Path) -> Thumbnails:
    return Thumbnails(results, FileCache(tmp_path / "thumbnails", max_bytes=1 << 20))


async def test_a_thumbnail_is_made_of_what_is_in_the_bucket(
    thumbnails: Thumbnails, job: Job
) -> None:
    small = await thumbnails.of(job, 1)

    assert small[8:12] == b"WEBP"


async def test_the_bucket_is_asked_once_and_nothing_is_put_into_it(
    thumbnails: Thumbnails, job: Job, proxy: FaultProxy
) -> None:
    before = len(proxy.seen)
    first = await thumbnails.of(job, 0)
    methods = {exchange.line.split()[0] for exchange in proxy.seen[before:]}
    asked = len(proxy.seen)

    again = await thumbnails.of(job, 0)

    assert methods == {"GET"}
    assert (again, len(proxy.seen)) == (first, asked)


async def test_an_object_that_is_gone_is_no_trouble_of_the_bucket(
    thumbnails: Thumbnails, results: S3Results, bucket: Bucket, job: Job
) -> None:
    await results.remove(job)

    with pytest.raises(UnknownOutput, match="no longer there"):
        await thumbnails.of(job, 0)

    assert bucket.trouble is None


async def test_an_object_that_could_not_be_read_is_tried_again(
    thumbnails: Thumbnails, results: S3Results, rendered_job: RenderJob
) -> None:
    rendered = rendered_job("teal")
    job = rendered.completed(await results.publish(rendered), now=2, publish_ms=1)
    await results.remove(job)
    with pytest.raises(UnknownOutput):
        await thumbnails.of(job, 0)
    await results.publish(rendered)

    small = await thumbnails.of(job, 0)

    assert small[8:12] == b"WEBP"


async def test_an_object_of_another_bucket_is_not_read(
    thumbnails: Thumbnails, job: Job, proxy: FaultProxy
) -> None:
    outputs = (job.outputs[0].model_copy(update={"s3_uri": "s3://other/a.png"}),)
    seen = len(proxy.seen)

    with pytest.raises(UnknownOutput):
        await thumbnails.of(job.model_copy(update={"outputs": outputs}), 0)

    assert len(proxy.seen) == seen


async def test_an_orchestrator_sends_readers_to_the_whole_picture(
    orchestrate: Any, deployment: Deployment
) -> None:
    client = await orchestrate()
    link = "https://cdn.example/images/old.png"
    deployment.put(
        task_id="t", status="completed", job_type=PATH, created_at=1000, result_s3_uri=link
    )

    first = await client.get(f"{API}/jobs/t/outputs/0/thumbnail", allow_redirects=False)
    other = await client.get(f"{API}/jobs/t/outputs/1/thumbnail", allow_redirects=False)

    assert (first.status, first.headers["Location"], other.status) == (307, link, 404)
    assert first.headers["Cache-Control"] == "no-store"
