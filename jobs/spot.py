"""Spot: asks EC2's metadata service whether this machine is about to be taken away."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

log = logging.getLogger(__name__)

IMDS_URL = "http://169.254.169.254"
#: A notice comes two minutes ahead, if it comes.
POLL_SECONDS = 5.0
ANSWER_SECONDS = 2.0
TOKEN_SECONDS = 60


async def spot_notice(imds_url: str = IMDS_URL, *, every_seconds: float = POLL_SECONDS) -> str:
    """Wait until this machine is to be taken away; what was said of it.

    It never gives up on a metadata service that does not answer.
    """
    has_warned = False
    imds_url = imds_url.rstrip("/")
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            try:
                if notice := await _notice(session, imds_url):
                    return notice
            # A ValueError: what answers is no metadata service.
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
                if not has_warned:
                    _warn(error)
                has_warned = True
            await asyncio.sleep(every_seconds)


async def _notice(session: aiohttp.ClientSession, imds_url: str) -> str | None:
    token = await _token(session, imds_url)
    action = await _read(session, f"{imds_url}/latest/meta-data/spot/instance-action", token)
    if action:
        return f"EC2 takes this spot instance back: {action}"
    place = f"{imds_url}/latest/meta-data/autoscaling/target-lifecycle-state"
    if await _read(session, place, token) == "Terminated":
        return "EC2 Auto Scaling ends this instance"
    return None


async def _token(session: aiohttp.ClientSession, imds_url: str) -> str:
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
    async with session.put(f"{imds_url}/latest/api/token", headers=lifetime) as reply:
        reply.raise_for_status()
        return await reply.text()


async def _read(session: aiohttp.ClientSession, url: str, token: str) -> str | None:
    """None for what there is not."""
    async with session.get(url, headers={"X-aws-ec2-metadata-token": token}) as reply:
        if reply.status == 404:
            return None
        reply.raise_for_status()
        return (await reply.text()).strip()


def _warn(error: Exception) -> None:
    log.warning(
        "notices of EC2 are not heard (%s): the metadata service does not answer as it should."
        " In a container it needs a hop limit of 2.",
        repr(error),
    )
