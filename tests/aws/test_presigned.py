"""Links to a private bucket."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from bucket_objects import new_object
from fault_proxy import FaultProxy
from marks import on_each_emulator
from unified_api.jobs.job import Output
from unified_api.jobs.links import WEEK_SECONDS, PresignedLinks
from unified_api.jobs.s3.bucket import Bucket
from unified_api.jobs.s3.client import S3
from yarl import URL

KEY = "图片/a b+c#d.png"


def output_of(bucket: Bucket) -> Output:
    return Output(
        name="image", s3_uri=bucket.uri(KEY), content_type="image/png", size=7, sha256="0" * 64
    )


@on_each_emulator
async def test_anybody_can_read_a_presigned_url(bucket: Bucket) -> None:
    await bucket.put_once(new_object(b"picture", key=KEY))
    link = await PresignedLinks(bucket, seconds=600).link(output_of(bucket))
    assert link is not None

    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(link.url, encoded=True)) as response,
    ):
        content = await response.read()

    assert (response.status, content) == (200, b"picture")
    assert response.headers["Content-Type"] == "image/png"


async def test_a_presigned_url_tells_when_it_ends(bucket: Bucket) -> None:
    link = await PresignedLinks(bucket, seconds=600).link(output_of(bucket))

    assert link is not None
    assert link.expires_at == pytest.approx(time.time() + 600, abs=30)
    signed = parse_qs(urlsplit(link.url).query)
    assert signed["X-Amz-Expires"] == ["600"]
    assert signed["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


async def test_a_url_is_signed_for_a_week_at_most(bucket: Bucket) -> None:
    link = await PresignedLinks(bucket, seconds=10 * WEEK_SECONDS).link(output_of(bucket))

    assert link is not None
    assert parse_qs(urlsplit(link.url).query)["X-Amz-Expires"] == [str(WEEK_SECONDS)]


async def test_a_url_ends_with_the_credentials_that_signed_it(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    lasting = {
        "Version": 1,
        "AccessKeyId": "id",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": ends.isoformat(),
    }
    tell = tmp_path / "tell.py"
    tell.write_text(f"print({json.dumps(lasting)!r})")
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {tell}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    link = await PresignedLinks(bucket).link(output_of(bucket))

    assert link is not None
    assert link.expires_at == ends.timestamp()


async def test_amazons_own_endpoint_is_that_of_the_region(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")

    url, _ = await Bucket(S3("eu-central-1"), "results").presign("a.png", seconds=60)

    assert url.startswith("https://results.s3.eu-central-1.amazonaws.com/a.png?")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
async def test_another_endpoint_has_the_bucket_in_its_path(
    variable: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(variable, "https://storage.example:9000")

    url, _ = await Bucket(S3("us-east-1"), "results").presign("a.png", seconds=60)

    assert url.startswith("https://storage.example:9000/results/a.png?")
