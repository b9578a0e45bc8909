"""Sender: posts a body to a URL that the guard lets through, and says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..errors import ForbiddenSource
from .guard import AddressRefused, Guard
from .sessions import Sessions

TIMEOUT_SECONDS = 15.0
HEADERS = {"Content-Type": "application/json", "User-Agent": "ComfyUI-Unified-API"}
GONE = 410
#: The answers that say when to come again.
LATER = (429, 503)
#: What it is called when there is no answer; the first that fits.
FAILURES = (
    (asyncio.TimeoutError, "timed_out"),
    (aiohttp.ClientSSLError, "tls_failed"),
    (aiohttp.ClientError, "unreachable"),
)


class Answer(NamedTuple):
    """What came of it; without an `error` the receiver has taken it."""

    status: int | None = None
    error: str | None = None
    #: The receiver's wish, as he wrote it.
    retry_after: str | None = None


class Sender:
    """Follows no redirect, and reads no answer but its head."""

    def __init__(
        self,
        guard: Guard,
        *,
        resolver: AbstractResolver | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._guard = guard
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._sessions = Sessions(guard, resolver, headers=HEADERS, timeout=timeout)

    async def open(self) -> None:
        await self._sessions.open()

    async def close(self) -> None:
        await self._sessions.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            return await self._post(self._guard.check_url(url), body, headers)
        except ForbiddenSource as refusal:
            return Answer(error=refusal.code)
        except tuple(kind for kind, _ in FAILURES) as error:
            if isinstance(getattr(error, "os_error", None), AddressRefused):
                return Answer(error=ForbiddenSource.code)
            return Answer(error=next(name for kind, name in FAILURES if isinstance(error, kind)))

    async def _post(self, url: URL, body: bytes, headers: Mapping[str, str]) -> Answer:
        session = self._sessions.towards(url)
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            wish = response.headers.get("Retry-After") if response.status in LATER else None
            return Answer(response.status, _fault(response.status), wish)


def _fault(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if status == GONE:
        return "gone"
    return "redirected" if 300 <= status < 400 else "refused"
