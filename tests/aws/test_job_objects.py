"""What a job leaves in the bucket beside the pictures themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from bucket_objects import keys
from unified_api.jobs.job import Job
from unified_api.jobs.links import key_of
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.results import S3Results

RenderJob = Callable[..., Job]


async def job_metadata(results: S3Results, bucket: Bucket, job: Job) -> list[str | None]:
    """Of each output."""
    published = await results.publish(job)
    found = [await bucket.head(key_of(output.s3_uri or "")) for output in published]
    return [each.metadata.get("job-metadata") if each else None for each in found]


async def test_the_metadata_of_a_job_go_with_its_objects(
    results: S3Results, bucket: Bucket, rendered_job: RenderJob
) -> None:
    metadata = {"who": "王 🎨", "order": 7}
    job = rendered_job("teal", "navy").model_copy(update={"metadata": metadata})

    told = await job_metadata(results, bucket, job)

    assert [json.loads(each or "") for each in told] == [metadata, metadata]
    assert await results.find(job)


@pytest.mark.parametrize("metadata", [{}, {"long": "x" * 3000}])
async def test_metadata_without_room_or_content_are_left_out(
    results: S3Results, bucket: Bucket, rendered_job: RenderJob, metadata: dict[str, Any]
) -> None:
    job = rendered_job("teal").model_copy(update={"metadata": metadata})

    assert await job_metadata(results, bucket, job) == [None]
    assert await results.find(job)


@pytest.mark.parametrize("pictures", [1, 3, 20])
async def test_the_objects_of_a_job_are_removed_and_no_others(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob, pictures: int
) -> None:
    colors = [f"#0000{number:02x}" for number in range(pictures)]
    job, other = rendered_job(*colors), rendered_job(*colors)
    await results.publish(other)
    others = keys(aws, bucket.name)

    done = job.completed(await results.publish(job), now=1, publish_ms=1)
    for _ in range(2):
        await results.remove(done)

    assert keys(aws, bucket.name) == others


async def test_what_lies_in_another_bucket_is_not_removed(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal")
    outputs = await results.publish(job)
    elsewhere = outputs[0].model_copy(
        update={"s3_uri": f"{outputs[0].s3_uri}".replace("s3://", "s3://x")}
    )

    await results.remove(job.completed((elsewhere,), now=1, publish_ms=1))

    assert len(keys(aws, bucket.name)) == 1
