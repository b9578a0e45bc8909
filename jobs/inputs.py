"""Inputs: picture references in, verified files in ComfyUI's input folder out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterable, Mapping
from pathlib import Path
from uuid import uuid4

import aiohttp

from .errors import DiskFull, InputFetchFailed, InputInvalid
from .pictures import extension_of_input
from .settings import Settings
from .threads import off_loop

#: Below ComfyUI's input folder. A folder of our own keeps ComfyUI's listings of `input` short.
FOLDER = "unified_api"
UPLOAD = re.compile(r"upload:([0-9a-f]{64}\.(?:png|jpg|webp))")
CHUNK_BYTES = 1 << 16
IDLE_SECONDS = 15.0
REDIRECTS = 3


class Inputs:
    """Fetches pictures once and keeps them under the hash of their content.

    Equal pictures get equal names, so ComfyUI decodes them once and a retry changes nothing.
    """

    def __init__(self, input_folder: Path, settings: Settings) -> None:
        self._folder = input_folder / FOLDER
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        await off_loop(self._folder.mkdir, parents=True, exist_ok=True)
        await off_loop(self._remove_partial)
        timeout = aiohttp.ClientTimeout(
            total=self._settings.fetch_timeout, sock_connect=IDLE_SECONDS, sock_read=IDLE_SECONDS
        )
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, references: Mapping[str, str]) -> dict[str, str]:
        """Parameter -> reference in; parameter -> name for ComfyUI's LoadImage out.

        Raises InputFetchFailed or InputInvalid, which name the parameter.
        """
        names = await asyncio.gather(
            *(self._fetch(parameter, reference) for parameter, reference in references.items())
        )
        return dict(zip(references, names, strict=True))

    async def keep(self, content: AsyncIterable[bytes]) -> str:
        """Store an uploaded picture; the reference to put in its place. Raises InputInvalid."""
        return f"upload:{await self._store(content)}"

    async def _fetch(self, parameter: str, reference: str) -> str:
        try:
            name = await self._resolve(reference)
        except (InputFetchFailed, InputInvalid) as error:
            raise type(error)(f"{parameter}: {error}") from error
        except OSError as error:
            raise DiskFull("The picture could not be written to the disk.") from error
        return f"{FOLDER}/{name}"

    async def _resolve(self, reference: str) -> str:
        if upload := UPLOAD.fullmatch(reference):
            return await self._uploaded(upload[1])
        if reference.startswith(("http://", "https://")):
            return await self._download(reference)
        raise InputInvalid("Give a picture as an http:// or https:// URL, or upload it.")

    async def _uploaded(self, name: str) -> str:
        if not await off_loop((self._folder / name).is_file):
            raise InputFetchFailed("The uploaded picture is no longer here; upload it again.")
        return name

    async def _download(self, url: str) -> str:
        if self._session is None:
            raise InputFetchFailed()
        try:
            async with self._session.get(url, max_redirects=REDIRECTS) as response:
                if response.status != 200:
                    raise InputFetchFailed(f"The server answered {response.status}.")
                return await self._store(response.content.iter_chunked(CHUNK_BYTES))
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
            raise InputFetchFailed() from error

    async def _store(self, content: AsyncIterable[bytes]) -> str:
        part = self._folder / f"{uuid4().hex}.part"
        try:
            digest = await self._write(part, content)
            extension = await off_loop(
                extension_of_input, part, max_pixels=self._settings.max_pixels
            )
            name = f"{digest}.{extension}"
            await off_loop(os.replace, part, self._folder / name)
            return name
        finally:
            await off_loop(part.unlink, missing_ok=True)

    async def _write(self, part: Path, content: AsyncIterable[bytes]) -> str:
        digest, size = hashlib.sha256(), 0
        with await off_loop(part.open, "wb") as file:
            async for chunk in content:
                size += len(chunk)
                if size > self._settings.max_image_bytes:
                    limit = self._settings.max_image_bytes
                    raise InputInvalid(f"The picture is larger than {limit} bytes.")
                digest.update(chunk)
                await off_loop(file.write, chunk)
        return digest.hexdigest()

    def _remove_partial(self) -> None:
        for part in self._folder.glob("*.part"):
            part.unlink(missing_ok=True)
