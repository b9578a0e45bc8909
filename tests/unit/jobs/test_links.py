"""Links by way of a CDN."""

from __future__ import annotations

import pytest
from unified_api.jobs.job import Output
from unified_api.jobs.links import CdnLinks, Link, PresignedLinks, links_for
from unified_api.jobs.settings import Settings


def output(s3_uri: str | None) -> Output:
    return Output(name="image", s3_uri=s3_uri, content_type="image/png", size=1, sha256="0" * 64)


@pytest.mark.parametrize(
    "domain", ["cdn.example", "https://cdn.example", "https://cdn.example/", " cdn.example// "]
)
async def test_the_domain_may_be_written_with_or_without_scheme(domain: str) -> None:
    link = await CdnLinks(domain).link(output("s3://bucket/images/a.png"))

    assert link == Link("https://cdn.example/images/a.png", expires_at=None)


async def test_another_scheme_is_kept() -> None:
    link = await CdnLinks("http://localhost:9000").link(output("s3://bucket/a.png"))

    assert link == Link("http://localhost:9000/a.png")


async def test_a_key_is_percent_encoded() -> None:
    link = await CdnLinks("cdn.example").link(output("s3://bucket/图/a b?c#d%.png"))

    assert link == Link("https://cdn.example/%E5%9B%BE/a%20b%3Fc%23d%25.png")


async def test_an_output_that_is_in_no_bucket_has_no_link() -> None:
    assert await CdnLinks("cdn.example").link(output(None)) is None


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"CLOUDFRONT_DOMAIN": "cdn.example"}, CdnLinks),
        ({"CLOUDFRONT_DOMAIN": "cdn.example", "UNIFIED_API_URL_MODE": "presigned"}, PresignedLinks),
        ({}, PresignedLinks),
    ],
)
def test_the_settings_choose_the_way_to_link(given: dict[str, str], kind: type) -> None:
    assert isinstance(links_for(Settings.from_env(given), NoSigner()), kind)


def test_without_a_cdn_and_a_bucket_there_is_no_way() -> None:
    assert links_for(Settings.from_env({}), None) is None


class NoSigner:
    """A bucket that is asked for nothing."""

    async def presign(self, key: str, *, seconds: float) -> tuple[str, float]:
        raise NotImplementedError
