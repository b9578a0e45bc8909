"""Inputs: picture references in, verified files in ComfyUI's input folder out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from yarl import URL

from .egress.fetch import Fetcher, FetchLimits, kept, limited
from .egress.guard import Guard, Place
from .errors import NOT_READABLE, DiskFull, ForbiddenSource, InputFetchFailed, InputInvalid
from .object_owners import Admit, FindJob, ObjectOwners
from .owners import owned_name
from .pictures.normalise import normalise
from .private import close_file, make_private_folder
from .prompt import FOLDER
from .settings import Settings
from .single_flight import SingleFlight
from .sources import Embedded, S3Object, Upload, Web, source_of
from .staging import StagedFile, Staging
from .threads import off_loop

#: A decoded picture is large: not more of them at once, and threads are left for other work.
DECODED_AT_ONCE = 2
#: Jobs may come between looking for the references to files and deleting the files.
FILES_AT_ONCE = 100


class Objects(Protocol):
    """Where S3 objects are read; `s3.S3` is one."""

    def download(
        self, bucket: str, key: str, admit: Admit | None = None
    ) -> AsyncIterator[bytes]: ...


class Inputs:
    """Fetches pictures once and keeps them under the hash of their content and their owner's mark.

    Equal pictures of one owner get equal names, so ComfyUI decodes them once and a retry changes
    nothing; a name is of no use to another owner. Pictures asked for by several jobs of an owner
    at the same time are fetched once.
    """

    def __init__(
        self,
        input_folder: Path,
        settings: Settings,
        *,
        own_urls: Iterable[str] = (),
        objects: Objects | None = None,
        find_jobs: Sequence[FindJob] = (),
    ) -> None:
        """`own_urls` are those of this service, which it does not fetch from.

        `find_jobs` know the jobs that objects of earlier versions were made for.
        """
        self._folder = input_folder / FOLDER
        self._settings = settings
        guard = Guard(
            allow=settings.allow_hosts,
            deny=settings.deny_hosts,
            own=[Place.of(URL(url)) for url in own_urls],
        )
        limits = FetchLimits(settings.max_image_bytes, total_seconds=settings.fetch_timeout)
        self._fetcher = Fetcher(guard, limits)
        self._objects = objects
        self._owners = ObjectOwners(find_jobs)
        self._staging = Staging[str]()
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)
        self._under_way = SingleFlight[str]()

    async def open(self) -> None:
        await off_loop(make_private_folder, self._folder)
        await off_loop(self._remove_partial)
        await self._fetcher.open()

    async def close(self) -> None:
        await self._fetcher.close()

    async def fetch(
        self, references: Mapping[str, str], owner: str | None = None
    ) -> dict[str, str]:
        """Parameter -> reference in; parameter -> name for ComfyUI's LoadImage out.

        Only what belongs to `owner`, or to nobody in particular, is read with our credentials.

        Raises InputFetchFailed, InputInvalid, ForbiddenSource or DiskFull. The first failure ends
        the others.
        """
        tasks = [
            asyncio.ensure_future(self._fetch(parameter, reference, owner))
            for parameter, reference in references.items()
        ]
        try:
            names = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(references, names, strict=True))

    async def keep(self, content: AsyncIterator[bytes], owner: str | None = None) -> str:
        """Store a picture for an owner; the reference to it. Raises InputInvalid."""
        file = await self.stage(content, owner)
        await self.commit([file.reference])
        return file.reference

    async def stage(self, content: AsyncIterator[bytes], owner: str | None) -> StagedFile:
        """Take a picture in that comes with a request of an owner. Raises InputInvalid."""
        chunks = limited(content, self._settings.max_image_bytes)
        part, name = await self._taken_in(lambda part: _write(part, chunks), owner)
        return self._staging.add(f"upload:{name}", part, name)

    async def commit(self, references: Iterable[str]) -> None:
        """Keep what was staged under these references: an accepted job has them."""
        for reference in references:
            if staged := self._staging.take(reference):
                part, name = staged
                await off_loop(os.replace, part, self._folder / name)

    async def drop(self, files: Iterable[StagedFile]) -> None:
        """Delete what was staged and not committed."""
        await self._staging.drop(files)

    async def sweep(self, uploads_in_use: Callable[[], Awaitable[Collection[str]]]) -> None:
        """Delete files that no waiting job needs: old ones, and the oldest while all are too many.

        `uploads_in_use` returns the references that jobs name which have not ended.
        """
        oldest_first = sorted(await off_loop(self._files))
        total = sum(size for _, size, _ in oldest_first)
        too_old = time.time() - self._settings.input_hours * 3600
        in_use: Collection[str] = ()
        for number, (used, size, path) in enumerate(oldest_first):
            if used > too_old and total <= self._settings.input_bytes:
                return
            if number % FILES_AT_ONCE == 0:
                in_use = await uploads_in_use()
            if f"upload:{path.name}" not in in_use and await off_loop(_delete, path, used):
                total -= size

    async def _fetch(self, parameter: str, reference: str, owner: str | None) -> str:
        try:
            return f"{FOLDER}/{await self._resolve(reference, owner)}"
        except (InputFetchFailed, InputInvalid, ForbiddenSource) as error:
            raise type(error)(f"{parameter}: {error}") from error
        except OSError as error:
            raise DiskFull.of(error) from error

    async def _resolve(self, reference: str, owner: str | None) -> str:
        source = source_of(
            reference, readable=self._settings.readable, published=self._settings.published
        )
        if isinstance(source, Upload):
            return await self._uploaded(source.name)
        if isinstance(source, Embedded):
            kept = await self.keep(_chunks(source.content), owner)
            return kept.removeprefix("upload:")
        # Not shared with others: it may be read for this owner alone, and has a name for him.
        key = json.dumps([owner, reference])
        return await self._under_way.run(key, partial(self._download, source, owner))

    async def _uploaded(self, name: str) -> str:
        path = self._folder / name
        try:
            # A file in use is not old.
            await off_loop(os.utime, path)
        except FileNotFoundError:
            raise InputFetchFailed(
                "The uploaded picture is no longer here; upload it again."
            ) from None
        return name

    async def _download(self, source: S3Object | Web, owner: str | None) -> str:
        if isinstance(source, Web):
            return await self._fetched(source, owner)
        try:
            return await self._read_from_s3(source, owner)
        except ForbiddenSource:
            if source.url is None:
                raise
            return await self._fetched(Web(source.url, is_closed=True), owner)

    async def _fetched(self, source: Web, owner: str | None) -> str:
        try:
            return await self._store(
                lambda part: self._fetcher.fetch(source.url, partial(_write, part)), owner
            )
        except (InputFetchFailed, ForbiddenSource) as error:
            if source.is_closed:
                raise ForbiddenSource(NOT_READABLE) from error
            raise

    async def _read_from_s3(self, source: S3Object, owner: str | None) -> str:
        reading = self._store(partial(self._read_object, source, owner), owner)
        try:
            return await asyncio.wait_for(reading, self._settings.fetch_timeout)
        except asyncio.TimeoutError:
            raise InputFetchFailed("S3 took too long.") from None

    async def _read_object(self, source: S3Object, owner: str | None, part: Path) -> str:
        if self._objects is None:
            raise ForbiddenSource()
        admit = partial(self._owners.check, source.key, owner) if source.is_owned else None
        chunks = self._objects.download(source.bucket, source.key, admit)
        return await _write(part, limited(chunks, self._settings.max_image_bytes))

    async def _store(self, write: Callable[[Path], Awaitable[str]], owner: str | None) -> str:
        part, name = await self._taken_in(write, owner)
        await off_loop(os.replace, part, self._folder / name)
        return name

    async def _taken_in(
        self, write: Callable[[Path], Awaitable[str]], owner: str | None
    ) -> tuple[Path, str]:
        """A picture that is plain, where it waits, and the name that it is to have."""
        part = self._folder / f"{uuid4().hex}.part"
        try:
            digest = await write(part)
            async with self._decoding:
                extension = await off_loop(normalise, part, max_pixels=self._settings.max_pixels)
            await off_loop(close_file, part)
        except BaseException:
            await asyncio.shield(off_loop(part.unlink, missing_ok=True))
            raise
        return part, f"{owned_name(digest, owner)}.{extension}"

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each was last used, its size, and where it is."""
        stats = [(path, path.stat()) for path in self._folder.iterdir() if path.suffix != ".part"]
        return [(stat.st_mtime, stat.st_size, path) for path, stat in stats]

    def _remove_partial(self) -> None:
        for part in self._folder.glob("*.part"):
            part.unlink(missing_ok=True)


def _delete(path: Path, used: float) -> bool:
    """Delete a file that has not been used since; whether it is gone."""
    try:
        if path.stat().st_mtime != used:
            return False
        path.unlink()
    except FileNotFoundError:
        pass
    return True


async def _write(part: Path, content: AsyncIterator[bytes]) -> str:
    """The hash of what was written."""
    digest = hashlib.sha256()
    async for chunk in kept(part, content):
        digest.update(chunk)
    return digest.hexdigest()


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
