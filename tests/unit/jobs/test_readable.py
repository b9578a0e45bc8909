"""Which objects are read with the machine's credentials, however they are spelt."""

import pytest
from unified_api.jobs.errors import ForbiddenSource
from unified_api.jobs.settings import Settings
from unified_api.jobs.sources import S3Object, Web, source_of

BUCKET = "results"
RESULT = "images/comfyui-results/draw/7.png"
UPLOAD = "unified-api/inputs/ab.png"


def read(reference, **variables):
    settings = Settings.from_env(
        {"S3_BUCKET": BUCKET, "CLOUDFRONT_DOMAIN": "CDN.example", **variables}
    )
    assert settings.problems == ()
    return source_of(reference, readable=settings.readable, published=settings.published)


def access(key, bucket=BUCKET, **variables):
    """'anybody', 'owner' or 'nobody'."""
    try:
        source = read(f"s3://{bucket}/{key}", **variables)
    except ForbiddenSource:
        return "nobody"
    return "owner" if source.is_owned else "anybody"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("images/in.png", "anybody"),
        ("images/a/b/c.png", "anybody"),
        ("images/comfyui-results-old/a.png", "anybody"),
        (RESULT, "owner"),
        ("images/comfyui-results/a.png", "owner"),
        ("images//comfyui-results/draw/7.png", "owner"),
        ("images/./comfyui-results/draw/7.png", "owner"),
        ("/images/comfyui-results/draw/7.png", "owner"),
        (UPLOAD, "owner"),
        ("unified-api/requests/ab.json", "owner"),
        ("hr/scan.png", "nobody"),
        ("images-private/a.png", "nobody"),
        ("images", "nobody"),
        ("images/", "nobody"),
        ("Images/a.png", "nobody"),
        ("a/images/b.png", "nobody"),
        ("comfyui-results/draw/7.png", "nobody"),
        ("images/../hr/scan.png", "nobody"),
        ("images/..\\hr/scan.png", "nobody"),
        ("images/%2e%2e/hr.png", "anybody"),
        ("", "nobody"),
    ],
)
def test_without_a_setting_images_is_open_and_what_jobs_made_is_their_owners(key, expected):
    assert access(key) == expected


@pytest.mark.parametrize(
    ("named", "key", "expected"),
    [
        ("results/hr", "hr/scan.png", "anybody"),
        ("results/hr/", "hr/scan.png", "anybody"),
        ("results/hr", "hr-secret/scan.png", "nobody"),
        ("results/hr", "images/in.png", "nobody"),
        ("results/hr", RESULT, "owner"),
        ("results/hr, results/in", "in/a.png", "anybody"),
        ("results/comfyui-results", "comfyui-results/draw/7.png", "anybody"),
        ("results", "hr/scan.png", "anybody"),
        ("results", RESULT, "owner"),
        ("results", UPLOAD, "owner"),
        ("results/images", RESULT, "owner"),
        ("results/images/comfyui-results", RESULT, "anybody"),
        ("results/images/comfyui-results/draw", RESULT, "anybody"),
        ("results/images/comfyui-results/other", RESULT, "owner"),
        ("partner", "images/in.png", "nobody"),
        ("-", "images/in.png", "nobody"),
        ("-", RESULT, "owner"),
    ],
)
def test_what_is_named_is_open_instead(named, key, expected):
    assert access(key, UNIFIED_API_S3_READ_BUCKETS=named) == expected


@pytest.mark.parametrize(
    ("named", "bucket", "key", "expected"),
    [
        ("partner", "partner", "any/thing.png", "anybody"),
        ("partner/shots", "partner", "shots/a.png", "anybody"),
        ("partner/shots", "partner", "shots-2/a.png", "nobody"),
        ("partner/shots", "partner", "other/a.png", "nobody"),
        ("partner", "partner-2", "a.png", "nobody"),
        ("partner", "partner", RESULT, "anybody"),
    ],
)
def test_of_another_bucket_what_is_named_is_open(named, bucket, key, expected):
    assert access(key, bucket, UNIFIED_API_S3_READ_BUCKETS=named) == expected


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ("", "images/in.png", "owner"),
        ("images", "images/in.png", "owner"),
        ("/out/", "out/draw/7.png", "owner"),
        ("/out/", "images/comfyui-results/draw/7.png", "anybody"),
    ],
)
def test_what_is_published_belongs_to_its_owner_wherever_that_is(prefix, key, expected):
    variables = {"UNIFIED_API_S3_PREFIX": prefix} if prefix else {"UNIFIED_API_S3_PREFIX": "/"}

    assert access(key, **variables) == expected


SPELLINGS = [
    "https://results.s3.amazonaws.com/{}",
    "https://results.s3.us-east-1.amazonaws.com/{}",
    "https://results.s3-us-west-2.amazonaws.com/{}",
    "https://results.s3.dualstack.eu-west-1.amazonaws.com/{}",
    "https://results.s3.cn-north-1.amazonaws.com.cn/{}",
    "https://s3.us-east-1.amazonaws.com/results/{}",
    "https://s3.dualstack.us-east-1.amazonaws.com/results/{}",
    "https://s3.amazonaws.com/results/{}",
    "HTTPS://RESULTS.S3.AMAZONAWS.COM/{}",
    "https://results.s3.amazonaws.com:443/{}",
    "https://results.s3.amazonaws.com/{}?X-Amz-Signature=abc&X-Amz-Expires=60",
    "https://cdn.example/{}",
    "https://CDN.EXAMPLE/{}?v=1#x",
    "http://cdn.example/{}",
]
CLOSED = [
    "hr/scan.png",
    "images/../hr/scan.png",
    "images/%2E%2e/hr/scan.png",
    "images/..%2Fhr/scan.png",
    "images-private/a.png",
    "images/%5C..%5Chr.png",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", CLOSED)
def test_no_spelling_of_a_closed_object_uses_the_machines_credentials(spelling, key):
    url = spelling.format(key)

    assert read(url) == Web(url, is_closed=True)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", [RESULT, "%69mages/comfyui-result%73/draw/7.png"])
def test_every_spelling_of_a_result_is_its_owners(spelling, key):
    url = spelling.format(key)

    assert read(url) == S3Object(BUCKET, RESULT, is_owned=True, url=url)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_an_open_object_is_read(spelling):
    source = read(spelling.format("images/%E4%B8%80.png"))

    assert isinstance(source, S3Object)
    assert (source.key, source.is_owned) == ("images/一.png", False)


@pytest.mark.parametrize(
    "url",
    [
        "https://results.s3.amazonaws.com.evil.example/images/a.png",
        "https://user@results.s3.amazonaws.com/images/a.png",
        "https://results.s3.amazonaws.com:444/images/a.png",
        "http://results.s3.amazonaws.com/images/a.png",
        "ftp://cdn.example/images/a.png",
        "https://cdn.example@evil.example/images/a.png",
        "S3://results/images/a.png",
    ],
)
def test_what_only_looks_like_the_bucket_is_fetched_without_credentials(url):
    assert read(url) == Web(url)


def test_a_refusal_says_what_to_do():
    with pytest.raises(ForbiddenSource, match=r"UNIFIED_API_S3_READ_BUCKETS.*upload the picture"):
        read("s3://results/hr/scan.png")


@pytest.mark.parametrize("wrong", ["s3://partner", "a b", "Partner", "a/../b", "-, a", "a//b"])
def test_a_wrong_setting_opens_nothing(wrong):
    settings = Settings.from_env({"S3_BUCKET": BUCKET, "UNIFIED_API_S3_READ_BUCKETS": wrong})

    assert "UNIFIED_API_S3_READ_BUCKETS" in settings.problems[0]
    with pytest.raises(ForbiddenSource):
        source_of("s3://results/images/in.png", readable=settings.readable)
