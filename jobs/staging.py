"""Staging: files that came with a request wait here until the request is accepted.

What is refused, for whatever reason and however late, leaves no file behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from .threads import off_loop

T = TypeVar("T")


@dataclass(frozen=True)
class StagedFile:
    """A staged file, and the reference by which a job may have it."""

    reference: str
    path: Path


#: Stages a file.
Stage = Callable[[AsyncIterator[bytes]], Awaitable[StagedFile]]
#: Stages a file; the reference to it.
Keep = Callable[[AsyncIterator[bytes]], Awaitable[str]]
#: Removes those that were not committed meanwhile.
Drop = Callable[[Iterable[StagedFile]], Awaitable[None]]


class Staging(Generic[T]):
    """The staged files, with what is to become of each. Equal files have equal references."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Path, T]] = {}

    def add(self, reference: str, path: Path, purpose: T) -> StagedFile:
        self._waiting.setdefault(reference, {})[path] = purpose
        return StagedFile(reference, path)

    def take(self, reference: str) -> tuple[Path, T] | None:
        """Any of the files of this reference, which is staged no more; None if there is none."""
        if not (waiting := self._waiting.get(reference)):
            return None
        path = next(iter(waiting))
        return path, self._remove(reference, path)

    async def drop(self, files: Iterable[StagedFile]) -> None:
        for each in files:
            if each.path in self._waiting.get(each.reference, {}):
                self._remove(each.reference, each.path)
                await off_loop(each.path.unlink, missing_ok=True)

    def _remove(self, reference: str, path: Path) -> T:
        purpose = self._waiting[reference].pop(path)
        if not self._waiting[reference]:
            del self._waiting[reference]
        return purpose


@asynccontextmanager
async def staged_for_one(stage: Stage, drop: Drop) -> AsyncIterator[Keep]:
    """Stages the files of one request. Those that are not committed by its end are dropped."""
    staged: list[StagedFile] = []

    async def keep(content: AsyncIterator[bytes]) -> str:
        file = await stage(content)
        staged.append(file)
        return file.reference

    try:
        yield keep
    finally:
        # Also of a request that is being cancelled.
        await asyncio.shield(drop(staged))
