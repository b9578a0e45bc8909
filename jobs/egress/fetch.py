"""Fetches pictures from other people's servers, within limits of size, time and place."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..errors import ForbiddenSource, InputFetchFailed, InputInvalid
from ..private import write_private_file
from ..threads import off_loop
from .guard import AddressRefused, Guard
from .sessions import Sessions

T = TypeVar("T")

CHUNK_BYTES = 1 << 16
REDIRECTS = 3
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
TRIES = 3
#: So that a dead or slow host keeps only its own pictures waiting.
CONNECTIONS_PER_HOST = 8
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "ComfyUI-Unified-API"}

#: What says that this machine has no descriptor left.
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
#: What the next try may be spared.
PASSING = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, asyncio.TimeoutError)


@dataclass(frozen=True)
class FetchLimits:
    """Bounds of one fetch. The total is over all tries and redirects."""

    max_bytes: int
    total_seconds: float = 60.0
    idle_seconds: float = 15.0
    pause_seconds: float = 0.5


class Fetcher:
    """Fetches what the guard lets through."""

    def __init__(
        self, guard: Guard, limits: FetchLimits, *, resolver: AbstractResolver | None = None
    ) -> None:
        self._guard = guard
        self._limits = limits
        idle = limits.idle_seconds
        self._sessions = Sessions(
            guard,
            resolver,
            headers=HEADERS,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=idle, sock_read=idle),
            limit_per_host=CONNECTIONS_PER_HOST,
        )

    async def open(self) -> None:
        await self._sessions.open()

    async def close(self) -> None:
        await self._sessions.close()

    async def fetch(self, url: str, keep: Callable[[AsyncIterator[bytes]], Awaitable[T]]) -> T:
        """What `keep` makes of the body. It is called anew for each try.

        Raises ForbiddenSource, InputFetchFailed, or InputInvalid for a body that is too large.
        """
        checked = self._guard.check_url(url)
        try:
            return await asyncio.wait_for(self._fetch(checked, keep), self._limits.total_seconds)
        except asyncio.TimeoutError:
            seconds = self._limits.total_seconds
            raise InputFetchFailed(f"The server took longer than {seconds:g} s.") from None

    async def _fetch(self, url: URL, keep: Callable[[AsyncIterator[bytes]], Awaitable[T]]) -> T:
        for tried in range(1, TRIES):
            try:
                return await self._try(url, keep)
            except _Passing:
                pause = self._limits.pause_seconds * tried
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        return await self._try(url, keep)

    async def _try(self, url: URL, keep: Callable[[AsyncIterator[bytes]], Awaitable[T]]) -> T:
        try:
            return await self._follow(url, keep)
        except PASSING as error:
            if isinstance(getattr(error, "os_error", None), AddressRefused):
                raise ForbiddenSource() from None
            if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
                # That is no fault of the server.
                raise OSError(error.errno, os.strerror(error.errno)) from error
            raise _Passing("The server could not be reached, or broke off.") from error
        except aiohttp.ClientError as error:
            raise InputFetchFailed("The server's answer was not understood.") from error

    async def _follow(self, url: URL, keep: Callable[[AsyncIterator[bytes]], Awaitable[T]]) -> T:
        for _ in range(REDIRECTS + 1):
            async with self._sessions.towards(url).get(url, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in REDIRECT_STATUSES or location is None:
                    self._check(response)
                    chunks = response.content.iter_chunked(CHUNK_BYTES)
                    return await keep(limited(chunks, self._limits.max_bytes))
                url = self._guard.check_redirect(url, location)
        raise InputFetchFailed(f"The picture is behind more than {REDIRECTS} redirects.")

    def _check(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status == 429 or status >= 500:
            raise _Passing(f"The server answered {status}.")
        if status != 200:
            raise InputFetchFailed(f"The server answered {status}.")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise InputFetchFailed("The server sent an encoded body, which nobody asked for.")
        _check_size(response.content_length or 0, self._limits.max_bytes)


class _Passing(InputFetchFailed):
    """An input picture could not be fetched, but the next try may do it."""


async def limited(chunks: AsyncIterable[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The same chunks. Raises InputInvalid as soon as they are too many bytes."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        _check_size(size, max_bytes)
        yield chunk


async def kept(path: Path, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, each once it is in the file, which begins anew."""
    await off_loop(write_private_file, path, b"")
    async for chunk in chunks:
        await off_loop(_append, path, chunk)
        yield chunk


def _append(path: Path, chunk: bytes) -> None:
    # Opened each time, so that whoever is cancelled leaves no file open; and it is not made
    # again, since it may be gone by now with whoever wanted it.
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(chunk)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise InputInvalid(f"The picture is larger than {max_bytes} bytes.")
