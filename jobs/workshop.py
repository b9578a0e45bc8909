"""What every run works with: the machine, the stores, and the places in ComfyUI's queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from .disk import Disk
from .errors import JobFailed
from .inputs import Inputs
from .job import Job, Output, Rendered
from .links import Link
from .metrics import WorkMetrics
from .offer import Offer
from .prompt import Ending, Lack, Prompt
from .settings import Settings
from .store import Store
from .watch import Watchers


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

    @property
    def trouble(self) -> JobFailed | None: ...
    async def probe(self) -> None: ...
    async def open(self) -> None: ...
    async def find(self, job: Job) -> tuple[Output, ...] | None: ...
    async def publish(self, job: Job) -> tuple[Output, ...]: ...
    async def remove(self, job: Job) -> None: ...
    async def link(self, output: Output) -> Link | None: ...
    def path(self, job: Job, number: int) -> Path: ...


class Keeper(Protocol):
    """Where the states of a job are kept."""

    async def save(self, job: Job) -> bool:
        """Keep a state. False if the job has ended otherwise. May raise Disowned."""


class Disowned(Exception):
    """Somebody else has taken the job over: whatever is done here does not count."""


class Places:
    """The places for our prompts in ComfyUI's queue.

    First come, first served; but sources of jobs take turns, so that none waits for all of another.
    """

    def __init__(self, number: int = 2) -> None:
        self.number = number
        self._free = number
        #: Who waits, by source; the source that was served longest ago comes first.
        self._lines: dict[str, deque[_Ticket]] = {}

    @asynccontextmanager
    async def take(self, count: int, source: str = "") -> AsyncIterator[None]:
        """Hold `count` places; all of them means to run alone."""
        ticket = _Ticket(count, asyncio.get_running_loop().create_future())
        if source not in self._lines:
            self._lines = {source: deque(), **self._lines}
        self._lines[source].append(ticket)
        self._serve()
        try:
            await ticket.called
            yield
        finally:
            if ticket.is_served:
                self._free += count
            else:
                self._lines[source].remove(ticket)
            self._serve()

    def _serve(self) -> None:
        while source := next((name for name, line in self._lines.items() if line), None):
            ticket = self._lines[source][0]
            # Nobody overtakes one who needs more room: he would wait for ever.
            if ticket.count > self._free:
                return
            self._free -= ticket.count
            line = self._lines.pop(source)
            line.popleft()
            ticket.is_served = True
            self._lines[source] = line
            if not ticket.called.done():
                ticket.called.set_result(None)


@dataclass(eq=False)
class _Ticket:
    count: int
    called: asyncio.Future[None]
    is_served: bool = False


class Spool:
    """What is rendered and waits to be published, on disk. When it is full, no more is begun."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    @contextmanager
    def holding(self, rendered: Iterable[Rendered]) -> Iterator[None]:
        size = sum(file.path.stat().st_size for file in rendered if file.path.exists())
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    @property
    def problem(self) -> str | None:
        if self._bytes < self._max_bytes:
            return None
        return (
            f"{self._bytes >> 20} MiB of results wait for storage"
            " (UNIFIED_API_SPOOL_BYTES). They are kept; see the state of the storage."
        )


@dataclass(frozen=True)
class Workshop:
    """All of it, handed to each run."""

    host: Host
    offer: Offer
    store: Store
    inputs: Inputs
    results: Results
    disk: Disk
    spool: Spool
    settings: Settings
    places: Places = field(default_factory=Places)
    watchers: Watchers = field(default_factory=Watchers)

    @cached_property
    def metrics(self) -> WorkMetrics:
        """What is counted of it all."""
        return WorkMetrics(self.offer)
