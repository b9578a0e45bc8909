"""Results in a bucket: written once, found again, never mixed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from bucket_objects import keys, new_object, stored
from fault_proxy import FaultProxy, answer, lose_answer
from marks import on_each_emulator
from unified_api.jobs.errors import ObjectTaken, OutputLost, StorageDenied, UnknownOutput
from unified_api.jobs.job import Job
from unified_api.jobs.links import CdnLinks, key_of
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.client import S3
from unified_api.jobs.s3.results import S3Results

pytestmark = on_each_emulator

RenderJob = Callable[..., Job]


def first_key(job: Job) -> str:
    return f"images/comfyui-results/image-resize/{job.job_id}.png"


async def test_the_first_output_lies_where_the_job_says(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal")

    (output,) = await results.publish(job)

    assert output.s3_uri == f"s3://{bucket.name}/{first_key(job)}"
    assert (output.content_type, output.width, output.height) == ("image/png", 8, 6)
    content = stored(aws, bucket.name, first_key(job))
    assert hashlib.sha256(content).hexdigest() == output.sha256 == job.rendered[0].sha256


async def test_the_content_type_tells_the_truth_of_a_wrong_extension(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal").model_copy(update={"extension": "webp"})

    (output,) = await results.publish(job)

    key = key_of(output.s3_uri or "")
    assert key.endswith(f"{job.job_id}.webp")
    assert aws.head_object(Bucket=bucket.name, Key=key)["ContentType"] == "image/png"


async def test_what_was_published_is_found_again(
    results: S3Results, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal", "navy", "red", name="镜头")

    published = await results.publish(job)

    assert await results.find(job) == published
    assert [output.name for output in published] == ["镜头"] * 3


async def test_what_was_not_published_is_not_found(
    results: S3Results, rendered_job: RenderJob
) -> None:
    assert await results.find(rendered_job()) is None


async def test_the_first_output_is_written_last(
    results: S3Results, proxy: FaultProxy, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal", "navy", "red")

    await results.publish(job)

    puts = [exchange.line for exchange in proxy.seen if exchange.line.startswith("PUT ")]
    assert len(puts) == 3
    assert puts[-1].endswith(first_key(job))


async def test_outputs_too_many_for_the_metadata_are_found_again(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job(*[f"#0000{number:02x}" for number in range(20)])

    published = await results.publish(job)

    assert await results.find(job) == published
    assert len(keys(aws, bucket.name)) == 21


async def test_publishing_twice_is_publishing_once(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal", "navy")

    assert await results.publish(job) == await results.publish(job)

    assert len(keys(aws, bucket.name)) == 2


async def test_two_attempts_at_once_have_one_result(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job_id = str(uuid4())
    attempts = [rendered_job(color, "red", job_id=job_id) for color in ("teal", "navy", "lime")]

    published = await asyncio.gather(*(results.publish(attempt) for attempt in attempts))

    assert published[0] == published[1] == published[2]
    content = stored(aws, bucket.name, first_key(attempts[0]))
    assert hashlib.sha256(content).hexdigest() == published[0][0].sha256


async def test_a_late_attempt_adopts_all_outputs_of_the_first(
    results: S3Results, rendered_job: RenderJob
) -> None:
    first = rendered_job("teal", *["navy"] * 20)
    late = rendered_job("red", *["lime"] * 20, job_id=first.job_id)
    published = await results.publish(first)

    assert await results.publish(late) == published


async def test_an_attempt_that_broke_off_leaves_nothing_in_the_result_of_the_next(
    results: S3Results, bucket: Bucket, aws: Any, proxy: FaultProxy, rendered_job: RenderJob
) -> None:
    broken = rendered_job("teal", *["navy"] * 20)
    following = rendered_job("red", *["lime"] * 20, job_id=broken.job_id)
    proxy.spoil(
        answer(403, "AccessDenied"),
        method="PUT",
        times=2,
        when=lambda exchange: exchange.line.endswith(first_key(broken)),
    )
    with pytest.raises(StorageDenied):
        await results.publish(broken)

    published = await results.publish(following)

    assert [output.sha256 for output in published] == [file.sha256 for file in following.rendered]
    assert await results.find(following) == published
    for output in published:
        content = stored(aws, bucket.name, key_of(output.s3_uri or ""))
        assert hashlib.sha256(content).hexdigest() == output.sha256


async def test_answers_lost_after_the_write_change_nothing(
    results: S3Results, bucket: Bucket, aws: Any, proxy: FaultProxy, rendered_job: RenderJob
) -> None:
    job = rendered_job("teal", "navy")
    proxy.spoil(lose_answer, method="PUT", times=6)

    published = await results.publish(job)

    assert [output.sha256 for output in published] == [file.sha256 for file in job.rendered]
    assert len(keys(aws, bucket.name)) == 2


async def test_something_else_in_the_place_of_a_result_is_left_alone(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job()
    await bucket.put_once(new_object(b"theirs", key=first_key(job), job_id="theirs"))

    with pytest.raises(ObjectTaken):
        await results.publish(job)

    assert await results.find(job) is None
    assert stored(aws, bucket.name, first_key(job)) == b"theirs"


async def test_a_result_that_may_not_be_looked_for_is_not_found_but_not_replaced(
    results: S3Results, proxy: FaultProxy, rendered_job: RenderJob
) -> None:
    first = rendered_job("teal")
    published = await results.publish(first)
    proxy.spoil(answer(403, "Forbidden"), method="HEAD")

    assert await results.find(first) is None

    assert await results.publish(rendered_job("red", job_id=first.job_id)) == published


async def test_a_file_that_changed_is_not_published(
    results: S3Results, bucket: Bucket, aws: Any, rendered_job: RenderJob
) -> None:
    job = rendered_job()
    job.rendered[0].path.write_bytes(b"changed")

    with pytest.raises(OutputLost):
        await results.publish(job)

    assert keys(aws, bucket.name) == []


async def test_results_in_a_bucket_have_no_path_here(
    results: S3Results, rendered_job: RenderJob
) -> None:
    with pytest.raises(UnknownOutput):
        results.path(rendered_job(), 0)


def test_starting_needs_no_bucket(proxy: FaultProxy) -> None:
    proxy.refuse()

    results = S3Results(Bucket(S3("us-east-1"), "results"), prefix="", links=CdnLinks("cdn"))

    asyncio.run(results.open())
    assert proxy.seen == []
