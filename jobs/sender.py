"""Sender: posts a body to a URL that the guard lets through, and says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from .errors import ForbiddenSource
from .guard import AddressRefused, Guard

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
    """Follows no redirect, reads no answer but its head, carries no cookies or proxy settings."""

    def __init__(
        self,
        guard: Guard,
        *,
        resolver: AbstractResolver | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._guard = guard
        self._resolver = resolver
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        resolver = self._resolver or aiohttp.ThreadedResolver()
        # Apart, so that what is allowed to one place never serves for another.
        guarded = self._guard.connector(resolver)
        allowed = aiohttp.TCPConnector(resolver=resolver, limit=0)
        self._sessions = {False: self._session(guarded), True: self._session(allowed)}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

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
        session = self._sessions[self._guard.is_allowed(url)]
        async with session.post(
            url, data=body, headers={**HEADERS, **headers}, allow_redirects=False
        ) as response:
            wish = response.headers.get("Retry-After") if response.status in LATER else None
            return Answer(response.status, _fault(response.status), wish)

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )


def _fault(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if status == GONE:
        return "gone"
    return "redirected" if 300 <= status < 400 else "refused"
