"""Links: whether clients can fetch what lies in the bucket, by the links they are given."""

from __future__ import annotations

import asyncio

import aiohttp

from ...jobs.job import Output
from ...jobs.links import links_for
from ...jobs.s3.bucket import Bucket
from ...jobs.settings import Settings
from .examination import Arns
from .finding import Finding, Level, ok

CONTENT = b"Written by doctor to see whether it may. It can be deleted.\n"
FETCH_SECONDS = 15.0
OF_SIGNER = "this role, and open the bucket to the networks of clients"
OF_CDN = (
    "cloudfront.amazonaws.com in the policy of the bucket (origin access control), and check"
    " CLOUDFRONT_DOMAIN and the path of its origin"
)


async def linked(settings: Settings, arns: Arns, bucket: Bucket, key: str) -> Finding:
    """Of an object with CONTENT."""
    links = links_for(settings, bucket)
    assert links is not None, "there is a bucket to sign for"
    about = {"name": "probe", "content_type": "", "size": len(CONTENT), "sha256": ""}
    link = await links.link(Output(**about, s3_uri=bucket.uri(key)))
    assert link is not None, "it lies in a bucket"
    is_signed = link.expires_at is not None
    way, reader = ("a signed URL", OF_SIGNER) if is_signed else ("the CDN", OF_CDN)
    told = await _fetched(link.url)
    if told == CONTENT:
        return ok("links", f"{way} gives the object")
    resource = arns.objects(bucket.name, key.rpartition("/")[0])
    # The URL itself is not shown: whoever has a signed one may read.
    text = f"{way} does not give the object: {_shown(told)}"
    cure = f"Allow s3:GetObject on {resource} to {reader}."
    return Finding(Level.FAILED, "links", text, cure, "s3:GetObject", resource)


async def _fetched(url: str) -> bytes | str:
    """The content, or in a word why there is none."""
    patience = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=patience) as session, session.get(url) as answer:
            return await answer.read() if answer.status == 200 else f"status {answer.status}"
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
        return type(error).__name__


def _shown(told: bytes | str) -> str:
    return told if isinstance(told, str) else "something else is there"
