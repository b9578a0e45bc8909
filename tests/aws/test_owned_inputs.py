"""Objects of the results bucket as inputs: each caller has what his own jobs made."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from emulators import REGION
from PIL import Image
from tasks import Deployment, new_job
from unified_api.jobs.engine import Engine
from unified_api.jobs.errors import ForbiddenSource, InputFetchFailed
from unified_api.jobs.inputs import Inputs
from unified_api.jobs.job import Job
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.client import S3
from unified_api.jobs.s3.results import S3Results
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.deposit import Deposit
from unified_api.sqs_bridge.known_jobs import KnownJobs
from unified_api.sqs_bridge.task_table import TaskTable

from ..unit.fake_host import Bench, until

OWNERS = ("ann", "bob", None)
RESULT = "images/comfyui-results/image-resize/{}.png"

Fetch = Callable[..., Awaitable[str]]


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, "PNG")
    return buffer.getvalue()


async def content(color: str = "red") -> AsyncIterator[bytes]:
    yield png(color)


@pytest.fixture
async def fetch(
    s3: S3, bucket: Bucket, deployment: Deployment, tmp_path: Path, gallery: Any
) -> AsyncIterator[Fetch]:
    """Fetch one reference for an owner; the jobs that the store knows are given."""
    known: dict[str, Job] = {}

    async def in_the_store(job_id: str) -> Job | None:
        return known.get(job_id)

    settings = Settings.from_env(
        {
            "AWS_REGION": REGION,
            "S3_BUCKET": bucket.name,
            "CLOUDFRONT_DOMAIN": f"http://{gallery.place}",
            "UNIFIED_API_ALLOW_HOSTS": gallery.place,
            "DYNAMODB_TABLE": deployment.table,
        }
    )
    find_jobs = [in_the_store, KnownJobs(settings).find]
    inputs = Inputs(tmp_path / "input", settings, objects=s3, find_jobs=find_jobs)
    await inputs.open()

    async def one(reference: str, owner: str | None, *jobs: Job) -> str:
        known.update({job.job_id: job for job in jobs})
        return (await inputs.fetch({"image_url": reference}, owner))["image_url"]

    yield one
    await inputs.close()


@pytest.mark.parametrize("owner", OWNERS)
async def test_a_result_is_read_for_its_owner_and_nobody_else(
    fetch: Fetch, results: S3Results, rendered_job: Any, owner: str | None
) -> None:
    job = rendered_job("red", "blue").model_copy(update={"owner": owner})

    for output in await results.publish(job):
        assert output.s3_uri is not None
        assert await fetch(output.s3_uri, owner)
        for other in set(OWNERS) - {owner}:
            with pytest.raises(ForbiddenSource, match="UNIFIED_API_S3_READ_BUCKETS"):
                await fetch(output.s3_uri, other)


async def test_two_who_ask_at_once_do_not_share_what_is_one_of_theirs(
    fetch: Fetch, results: S3Results, rendered_job: Any
) -> None:
    job = rendered_job().model_copy(update={"owner": "ann"})
    (output,) = await results.publish(job)

    hers, his = await asyncio.gather(
        fetch(output.s3_uri, "ann"), fetch(output.s3_uri, "bob"), return_exceptions=True
    )

    assert isinstance(hers, str)
    assert isinstance(his, ForbiddenSource)


async def test_what_lies_elsewhere_in_the_bucket_is_nobodys(
    fetch: Fetch, bucket: Bucket, aws: Any
) -> None:
    for key in ("images/in.png", "hr/scan.png", "images-private/scan.png"):
        aws.put_object(Bucket=bucket.name, Key=key, Body=png())

    assert await fetch(bucket.uri("images/in.png"), "ann")
    for key in ("hr/scan.png", "images-private/scan.png", "images/../hr/scan.png"):
        with pytest.raises(ForbiddenSource, match="upload the picture"):
            await fetch(bucket.uri(key), "ann")


async def test_a_closed_object_by_its_link_is_fetched_like_any_page(
    fetch: Fetch, bucket: Bucket, aws: Any, gallery: Any
) -> None:
    aws.put_object(Bucket=bucket.name, Key="hr/scan.png", Body=png())
    refused = gallery.hang("/hr/scan.png", b"", status=403)
    public = gallery.hang("/hr/public.png", png("blue"))

    with pytest.raises(ForbiddenSource, match="UNIFIED_API_S3_READ_BUCKETS"):
        await fetch(refused, "ann")
    assert await fetch(public, "ann")
    assert gallery.asked == {"/hr/scan.png": 1, "/hr/public.png": 1}


async def test_a_result_by_its_link_is_read_for_its_owner_and_fetched_for_others(
    fetch: Fetch, results: S3Results, rendered_job: Any, gallery: Any
) -> None:
    job = rendered_job().model_copy(update={"owner": "ann"})
    await results.publish(job)
    path = "/" + RESULT.format(job.job_id)
    link = gallery.hang(path, b"", status=403)

    assert await fetch(link, "ann")
    assert not gallery.asked
    with pytest.raises(ForbiddenSource):
        await fetch(link, "bob")
    assert gallery.asked[path] == 1


async def test_a_redirect_to_the_bucket_is_followed_without_credentials(
    fetch: Fetch, bucket: Bucket, aws: Any, gallery: Any
) -> None:
    aws.put_object(Bucket=bucket.name, Key="images/in.png", Body=png())
    target = gallery.hang("/images/in.png", b"", status=403)
    link = gallery.hang("/elsewhere.png", b"", status=302, headers={"Location": target})

    with pytest.raises((InputFetchFailed, ForbiddenSource)):
        await fetch(link, "ann")

    assert gallery.asked["/images/in.png"] == 1


async def test_an_upload_is_read_for_its_owner_and_nobody_else(
    fetch: Fetch, bucket: Bucket, aws: Any
) -> None:
    deposit = Deposit(bucket, max_image_bytes=10_000)
    hers, his = [await deposit.stage_upload(content(), owner) for owner in ("ann", "bob")]

    await deposit.commit([hers.reference, his.reference])

    assert hers.reference != his.reference
    assert await fetch(hers.reference, "ann")
    for other in ("bob", None):
        with pytest.raises(ForbiddenSource):
            await fetch(hers.reference, other)


def put_as_earlier_versions(aws: Any, bucket: Bucket, key: str, job_id: str, **more: str) -> str:
    """A result or an upload without the mark of its owner."""
    metadata = {"job-id": job_id, **more}
    aws.put_object(Bucket=bucket.name, Key=key, Body=png(), Metadata=metadata)
    return bucket.uri(key)


async def test_of_an_earlier_result_the_job_tells_whose_it_is(
    fetch: Fetch, bucket: Bucket, aws: Any, table: TaskTable
) -> None:
    here, there = new_job(owner="ann"), new_job(owner="ann")
    await table.put_new(there)

    for job in (here, there):
        uri = put_as_earlier_versions(aws, bucket, RESULT.format(job.job_id), job.job_id)
        assert await fetch(uri, "ann", here)
        for other in ("bob", None):
            with pytest.raises(ForbiddenSource):
                await fetch(uri, other, here)


async def test_of_a_result_that_another_program_wrote_the_table_tells_it(
    fetch: Fetch, bucket: Bucket, aws: Any, deployment: Deployment
) -> None:
    deployment.accept("theirs")
    key = RESULT.format("theirs")
    aws.put_object(Bucket=bucket.name, Key=key, Body=png())

    assert await fetch(bucket.uri(key), None)
    with pytest.raises(ForbiddenSource):
        await fetch(bucket.uri(key), "ann")


@pytest.mark.parametrize("owner", OWNERS)
async def test_a_result_of_which_nothing_is_known_is_nobodys(
    fetch: Fetch, bucket: Bucket, aws: Any, owner: str | None
) -> None:
    uri = put_as_earlier_versions(aws, bucket, RESULT.format("gone"), "gone")

    with pytest.raises(ForbiddenSource):
        await fetch(uri, owner)


async def test_an_upload_of_an_earlier_version_is_read_by_the_hash_of_its_content(
    fetch: Fetch, bucket: Bucket, aws: Any
) -> None:
    sha256 = "ab" * 32
    key = f"unified-api/inputs/{sha256}.png"

    uri = put_as_earlier_versions(aws, bucket, key, sha256, sha256=sha256)
    assert await fetch(uri, "ann")

    uri = put_as_earlier_versions(aws, bucket, key, sha256, sha256="cd" * 32)
    with pytest.raises(ForbiddenSource):
        await fetch(uri, "bob")


async def test_while_the_table_does_not_answer_nothing_is_given_away(
    fetch: Fetch, bucket: Bucket, aws: Any, deployment: Deployment
) -> None:
    job = new_job(owner="ann")
    uri = put_as_earlier_versions(aws, bucket, RESULT.format(job.job_id), job.job_id)
    deployment.emulator.dynamodb.delete_table(TableName=deployment.table)

    with pytest.raises(InputFetchFailed, match="task table"):
        await fetch(uri, "ann")


@pytest.fixture
def home(s3: S3, bucket: Bucket, definitions: Path, tmp_path: Path) -> Bench:
    """The disk of a machine that reads from the bucket."""

    def settings(**given: Any) -> Settings:
        return Settings.from_env({"S3_BUCKET": bucket.name})

    home = Bench(tmp_path / "home", definitions, settings)
    home.objects = s3
    return home


@pytest.fixture
async def machine(home: Bench, results: S3Results) -> AsyncIterator[Engine]:
    """The engine of it."""
    yield await home.open(results=results)
    await home.close()


def code_of(job: Job) -> str | None:
    return job.error_detail.code if job.error_detail else None


async def test_each_job_reads_what_its_owner_may_have(
    home: Bench, machine: Engine, results: S3Results, rendered_job: Any
) -> None:
    made = rendered_job().model_copy(update={"owner": "ann"})
    (output,) = await results.publish(made)

    for owner, expected in (("ann", None), ("bob", "forbidden_source"), (None, "forbidden_source")):
        body = {"image_url": output.s3_uri}
        accepted = (await machine.submit("edit", body, owner=owner)).job
        assert code_of(await home.ended(machine, accepted)) == expected


async def test_a_result_is_the_input_of_its_owners_next_job(home: Bench, machine: Engine) -> None:
    first = await home.ended(machine, (await machine.submit("draw", {}, owner="ann")).job)

    for owner, expected in (("ann", None), ("bob", "forbidden_source")):
        body = {"image_url": first.outputs[0].s3_uri}
        accepted = (await machine.submit("edit", body, owner=owner)).job
        assert code_of(await home.ended(machine, accepted)) == expected


@pytest.mark.parametrize(
    ("owner", "expected"), [("ann", "completed"), ("bob", "failed"), (None, "failed")]
)
async def test_of_a_task_the_table_tells_whose_it_is(
    hire: Any,
    home: Bench,
    deployment: Deployment,
    results: S3Results,
    rendered_job: Any,
    owner: str | None,
    expected: str,
) -> None:
    made = rendered_job().model_copy(update={"owner": "ann"})
    (output,) = await results.publish(made)
    edit = {"api_path": "/api/v1/edit/jobs"}
    named = {"owner": owner} if owner else {}
    deployment.accept("next", job_type=edit["api_path"], **named)
    deployment.send({"image_url": output.s3_uri}, "next", **edit)

    await hire(home)

    await until(lambda: deployment.item("next")["status"] in ("completed", "failed"))
    item = deployment.item("next")
    assert item["status"] == expected
    if expected == "failed":
        assert item["error_detail"]["code"] == "forbidden_source"


@pytest.mark.parametrize("name", ["ab" * 32, "ab" * 40])
async def test_no_task_names_an_upload_that_lies_on_the_worker(
    hire: Any, deployment: Deployment, name: str
) -> None:
    edit = {"api_path": "/api/v1/edit/jobs"}
    deployment.accept("bad", job_type=edit["api_path"])
    deployment.send({"image_url": f"upload:{name}.png"}, "bad", **edit)

    await hire()

    await until(lambda: deployment.item("bad")["status"] == "failed")
    assert deployment.item("bad")["error_detail"]["code"] == "forbidden_source"
