"""Sessions: HTTP to other people's servers, through the guard."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from .guard import Guard
from .lookups import Lookups


class Sessions:
    """They carry no cookies, credentials or proxy settings, and take bodies as they are sent."""

    def __init__(
        self,
        guard: Guard,
        resolver: AbstractResolver | None,
        *,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        limit_per_host: int = 0,
    ) -> None:
        self._guard = guard
        self._resolver = resolver
        self._headers = headers
        self._timeout = timeout
        self._limit_per_host = limit_per_host
        self._lookups: Lookups | None = None
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        self._lookups = Lookups()
        resolver, each = self._resolver or self._lookups, self._limit_per_host
        # Apart, so that what is allowed to one place never serves for another.
        guarded = self._guard.connector(resolver, limit_per_host=each)
        allowed = aiohttp.TCPConnector(resolver=resolver, limit=0, limit_per_host=each)
        self._sessions = {False: self._session(guarded), True: self._session(allowed)}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        if self._lookups:
            await self._lookups.close()

    def towards(self, url: URL) -> aiohttp.ClientSession:
        """The session for a URL that the guard has checked."""
        return self._sessions[self._guard.is_allowed(url)]

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
