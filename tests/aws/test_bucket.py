"""The bucket while all is well, on both emulators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bucket_objects import KEY, keys, new_object, stored
from fault_proxy import FaultProxy
from marks import on_each_emulator
from unified_api.jobs.errors import InputFetchFailed, ObjectTaken
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.client import S3

pytestmark = on_each_emulator


async def test_an_object_is_stored_with_what_is_told_of_it(
    bucket: Bucket, aws: Any, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"picture" * 100_000)

    assert await bucket.put_once(new_object(file))

    told = aws.head_object(Bucket=bucket.name, Key=KEY)
    assert stored(aws, bucket.name) == file.read_bytes()
    assert told["ContentType"] == "image/png"
    assert told["CacheControl"] == "public, max-age=31536000, immutable"


async def test_metadata_come_back_whatever_they_hold(bucket: Bucket) -> None:
    texts = {
        "name": "镜头转换 é",
        "percent": "100% of % 20",
        "edges": "  a  b  ",
        "json": '{"a":1}',
    }

    await bucket.put_once(new_object(**texts))

    found = await bucket.head(KEY)
    assert found is not None
    assert texts.items() <= found.metadata.items()


async def test_an_object_is_never_replaced(bucket: Bucket, aws: Any) -> None:
    await bucket.put_once(new_object(b"first"))

    assert not await bucket.put_once(new_object(b"second"))

    assert stored(aws, bucket.name) == b"first"


async def test_an_object_of_another_job_is_not_taken_for_ones_own(bucket: Bucket) -> None:
    await bucket.put_once(new_object(job_id="theirs"))

    with pytest.raises(ObjectTaken):
        await bucket.put_once(new_object(job_id="mine"))


async def test_nothing_is_found_where_nothing_lies(bucket: Bucket) -> None:
    assert await bucket.head("images/absent.png") is None


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(bucket: Bucket, aws: Any) -> None:
    await bucket.put_once(new_object())

    await bucket.delete([KEY, "images/absent.png"])
    await bucket.delete([KEY])

    assert keys(aws, bucket.name) == []


async def test_an_object_is_downloaded_in_pieces(s3: S3, bucket: Bucket, aws: Any) -> None:
    content = bytes(range(256)) * 10_000
    aws.put_object(Bucket=bucket.name, Key=KEY, Body=content)

    pieces = [piece async for piece in s3.download(bucket.name, KEY)]

    assert b"".join(pieces) == content
    assert len(pieces) > 1


async def test_an_absent_object_is_no_input(s3: S3, bucket: Bucket) -> None:
    with pytest.raises(InputFetchFailed):
        [piece async for piece in s3.download(bucket.name, "images/absent.png")]


async def test_the_checksum_and_the_encryption_key_are_sent(
    s3: S3, bucket: Bucket, proxy: FaultProxy
) -> None:
    encrypted = Bucket(s3, bucket.name, kms_key_id="alias/results")

    await encrypted.put_once(new_object(b"picture"))

    sent = proxy.seen[-1]
    assert sent.header("x-amz-checksum-sha256") == "LOonTQvtw57Eq2up5Z7IiePtb7VqHPCIpk2bODN43Jc="
    assert sent.header("x-amz-server-side-encryption") == "aws:kms"
    assert sent.header("x-amz-server-side-encryption-aws-kms-key-id") == "alias/results"
    assert sent.header("if-none-match") == "*"
