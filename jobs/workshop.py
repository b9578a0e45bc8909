"""What every run works with: the machine, the stores, and the places in ComfyUI's queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .disk import Disk
from .inputs import Inputs
from .job import Job, Output
from .offer import Offer
from .prompt import Ending, Lack, Prompt
from .settings import Settings
from .store import Store


class Host(Protocol):
    """What is needed of ComfyUI. `comfyui.ComfyUI` is it; tests bring their own."""

    @property
    def problem(self) -> str | None: ...
    @property
    def is_idle(self) -> bool: ...
    @property
    def output_folder(self) -> Path: ...
    def start(self) -> None: ...
    async def run(self, prompt: Prompt, hear: Callable[[str, dict[str, Any]], None]) -> Ending: ...
    def lacks(self, graph: dict[str, Any]) -> list[Lack]: ...


class Results(Protocol):
    """Where results are published."""

    async def open(self) -> None: ...
    async def find(self, job: Job) -> tuple[Output, ...] | None: ...
    async def publish(self, job: Job) -> tuple[Output, ...]: ...
    def path(self, job: Job, number: int) -> Path: ...


class Places:
    """The places for our prompts in ComfyUI's queue, given out first come, first served."""

    def __init__(self, number: int = 2) -> None:
        self.number = number
        self._free = number
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def take(self, count: int) -> AsyncIterator[None]:
        """Hold `count` places; all of them means to run alone."""
        async with self._turn:
            while self._free < count:
                self._freed.clear()
                await self._freed.wait()
            self._free -= count
        try:
            yield
        finally:
            self._free += count
            self._freed.set()


@dataclass(frozen=True)
class Workshop:
    """All of it, handed to each run."""

    host: Host
    offer: Offer
    store: Store
    inputs: Inputs
    results: Results
    disk: Disk
    settings: Settings
    places: Places = field(default_factory=Places)
