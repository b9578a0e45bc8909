"""The bucket while something is wrong between it and us."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bucket_objects import KEY, keys, new_object, stored
from fault_proxy import (
    Exchange,
    FaultProxy,
    answer,
    crawl,
    cut_answer,
    flip_bit,
    hang,
    lose_answer,
)
from unified_api.jobs.errors import (
    InputFetchFailed,
    ObjectUnknown,
    StorageDenied,
    StorageUnreachable,
)
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.client import CALLS_AT_ONCE, S3
from unified_api.jobs.threads import POOL_THREADS, off_loop

ALWAYS = float("inf")
LIMIT_SECONDS = 20


@pytest.mark.parametrize("lost", [1, 2, 4])
async def test_a_put_whose_answer_was_lost_counts_as_done(
    bucket: Bucket, aws: Any, proxy: FaultProxy, lost: int
) -> None:
    proxy.spoil(lose_answer, method="PUT", times=lost)

    await bucket.put_once(new_object())

    assert keys(aws, bucket.name) == [KEY]
    assert stored(aws, bucket.name) == b"picture"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "SlowDown"),
        (409, "ConditionalRequestConflict"),
        (400, "RequestTimeout"),
        (429, "TooManyRequests"),
    ],
)
async def test_trouble_that_passes_is_waited_for(
    bucket: Bucket, aws: Any, proxy: FaultProxy, status: int, code: str
) -> None:
    proxy.spoil(answer(status, code), method="PUT", times=3)

    assert await bucket.put_once(new_object())

    assert stored(aws, bucket.name) == b"picture"


async def test_trouble_that_does_not_pass_ends_with_our_patience(
    s3: S3, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.spoil(answer(503, "SlowDown"), method="PUT", times=ALWAYS)

    with pytest.raises(StorageUnreachable):
        await bucket.put_once(new_object(), patience=0.5)

    assert proxy.count("PUT") > 1
    assert isinstance(s3.trouble, StorageUnreachable)


@pytest.mark.parametrize("emulator", ["ministack"], indirect=True)
async def test_a_picture_that_arrives_damaged_is_sent_again(
    bucket: Bucket, aws: Any, proxy: FaultProxy
) -> None:
    proxy.spoil(flip_bit, method="PUT", times=2)

    assert await bucket.put_once(new_object())

    assert stored(aws, bucket.name) == b"picture"
    assert proxy.count("PUT") == 3


async def test_an_expired_token_is_waited_for(
    s3: S3, bucket: Bucket, aws: Any, proxy: FaultProxy
) -> None:
    proxy.spoil(answer(400, "ExpiredToken"), method="PUT", times=ALWAYS)
    putting = asyncio.ensure_future(bucket.put_once(new_object()))
    await asyncio.to_thread(proxy.wait, "PUT", 3)
    assert isinstance(s3.trouble, StorageUnreachable)

    proxy.heal()

    assert await asyncio.wait_for(putting, LIMIT_SECONDS)
    assert stored(aws, bucket.name) == b"picture"
    assert s3.trouble is None


async def test_an_expired_token_does_not_hide_an_object(bucket: Bucket, proxy: FaultProxy) -> None:
    await bucket.put_once(new_object())
    proxy.spoil(answer(400, "ExpiredToken"), method="HEAD", times=8)

    assert await bucket.head(KEY) is not None


async def test_new_credentials_are_found_without_a_restart(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    lines = "[default]\naws_access_key_id = {}\naws_secret_access_key = secret\n"
    file.write_text(lines.format("OLD"))
    proxy.spoil(answer(400, "ExpiredToken"), method="PUT", times=ALWAYS, when=_is_signed_by_old)
    putting = asyncio.ensure_future(bucket.put_once(new_object()))
    await asyncio.to_thread(proxy.wait, "PUT", 2)

    file.write_text(lines.format("NEW"))

    assert await asyncio.wait_for(putting, LIMIT_SECONDS)


def _is_signed_by_old(exchange: Exchange) -> bool:
    return "Credential=OLD/" in exchange.header("authorization")


async def test_credentials_that_are_not_there_yet_are_waited_for(
    s3: S3, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(StorageUnreachable):
        await bucket.put_once(new_object(), patience=0)

    file.write_text("[default]\naws_access_key_id = id\naws_secret_access_key = secret\n")

    assert await bucket.put_once(new_object())


async def test_a_refusal_is_believed_the_second_time(
    s3: S3, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.spoil(answer(403, "AccessDenied"), method="PUT", times=ALWAYS)

    with pytest.raises(StorageDenied):
        await bucket.put_once(new_object())

    assert proxy.count("PUT") == 2
    assert isinstance(s3.trouble, StorageDenied)


async def test_an_input_that_is_not_there_is_no_problem_of_the_bucket(
    s3: S3, bucket: Bucket
) -> None:
    with pytest.raises(InputFetchFailed):
        [piece async for piece in s3.download(bucket.name, "absent.png")]

    assert s3.trouble is None


async def test_a_bucket_that_refuses_us_is_a_problem_when_probed(s3: S3) -> None:
    await Bucket(s3, "no-such-bucket-here").probe()

    assert isinstance(s3.trouble, StorageDenied)


async def test_a_refusal_may_be_a_slip(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.spoil(answer(403, "AccessDenied"), method="PUT", times=1)

    assert await bucket.put_once(new_object())


async def test_a_missing_bucket_is_a_refusal(s3: S3) -> None:
    with pytest.raises(StorageDenied):
        await Bucket(s3, "no-such-bucket-here").put_once(new_object())


async def test_what_is_forbidden_to_see_is_not_called_absent(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.spoil(answer(403, "Forbidden"), method="HEAD", times=ALWAYS)

    with pytest.raises(ObjectUnknown):
        await bucket.head(KEY)


async def test_a_bucket_that_was_away_is_found_again(
    s3: S3, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.refuse()
    await bucket.probe()
    assert isinstance(s3.trouble, StorageUnreachable)
    putting = asyncio.ensure_future(bucket.put_once(new_object()))

    proxy.open()

    assert await asyncio.wait_for(putting, LIMIT_SECONDS)
    await bucket.probe()
    assert s3.trouble is None


async def test_a_bucket_that_hangs_stops_nobody_else(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.spoil(hang, method="PUT", times=ALWAYS)
    puts = [
        asyncio.ensure_future(bucket.put_once(new_object(key=f"{n}"))) for n in range(POOL_THREADS)
    ]
    await asyncio.to_thread(proxy.wait, "PUT", CALLS_AT_ONCE)

    await off_loop(int)

    assert not any(put.done() for put in puts)


async def test_a_bucket_that_hangs_is_given_up(bucket_name: str, proxy: FaultProxy) -> None:
    bucket = Bucket(S3("us-east-1", read_seconds=1), bucket_name)
    proxy.spoil(hang, method="PUT", times=ALWAYS)

    puts = [bucket.put_once(new_object(key=f"{n}"), patience=1) for n in range(POOL_THREADS)]
    ends = await asyncio.gather(*puts, return_exceptions=True)

    assert [type(end) for end in ends] == [StorageUnreachable] * POOL_THREADS


async def test_an_upload_that_crawls_is_given_up(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(32 << 20))
    proxy.spoil(crawl, method="PUT", times=ALWAYS)

    with pytest.raises(StorageUnreachable):
        await asyncio.wait_for(bucket.put_once(new_object(file), patience=1), LIMIT_SECONDS)


async def test_a_download_that_breaks_off_goes_on_where_it_was(
    s3: S3, bucket: Bucket, aws: Any, proxy: FaultProxy
) -> None:
    content = bytes(range(256)) * 10_000
    aws.put_object(Bucket=bucket.name, Key=KEY, Body=content)
    proxy.spoil(cut_answer(300_000), method="GET", times=2)

    pieces = [piece async for piece in s3.download(bucket.name, KEY)]

    assert b"".join(pieces) == content
    assert proxy.seen[-1].header("range")


async def test_a_download_that_breaks_off_again_and_again_is_given_up(
    s3: S3, bucket: Bucket, aws: Any, proxy: FaultProxy
) -> None:
    aws.put_object(Bucket=bucket.name, Key=KEY, Body=b"picture" * 1000)
    proxy.spoil(cut_answer(10), method="GET", times=ALWAYS)

    with pytest.raises(InputFetchFailed):
        [piece async for piece in s3.download(bucket.name, KEY)]

    assert proxy.count("GET") == 3
