"""What every run works with: the machine, the stores, and the places in ComfyUI's queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ..workflows import Takes, TextInputs
from .disk import Disk
from .errors import JobFailed
from .estimates import Estimates
from .finishing import Encode, Finishing
from .inputs import Inputs
from .job import RANKS, Job, Output, Priority, Rendered
from .line import Line
from .links import Link
from .metrics import WorkMetrics
from .offer import Offer
from .pictures.encode import encoded
from .previews import Previews
from .prompt import Ending, Lack, Prompt
from .settings import Settings
from .store import Store
from .threads import off_loop
from .thumbnails import Thumbnails
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
    async def run(
        self,
        prompt: Prompt,
        hear: Callable[[str, dict[str, Any]], None],
        *,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Ending: ...
    def lacks(self, graph: dict[str, Any]) -> list[Lack]: ...
    def takes(self, class_type: str) -> Mapping[str, Takes]: ...
    def text_inputs(self, class_type: str) -> TextInputs: ...


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
    async def read(self, job: Job, number: int) -> bytes: ...


class Keeper(Protocol):
    """Where the states of a job are kept."""

    async def save(self, job: Job) -> bool:
        """Keep a state. False if the job has ended otherwise. May raise Disowned."""


class Disowned(Exception):
    """Somebody else has taken the job over: whatever is done here does not count."""


class Places:
    """The places for our prompts in ComfyUI's queue.

    High priority first, then first come, first served; but sources of jobs take turns, so that
    none waits for all of another.
    """

    def __init__(self, number: int = 2) -> None:
        self.number = number
        self._free = number
        self._lines = {priority: _Lines() for priority in RANKS}

    @asynccontextmanager
    async def take(
        self, count: int, source: str = "", priority: Priority = "normal"
    ) -> AsyncIterator[None]:
        """Hold `count` places; all of them means to run alone."""
        ticket = _Ticket(count, source, asyncio.get_running_loop().create_future())
        lines = self._lines[priority]
        lines.join(ticket)
        self._serve()
        try:
            # A ticket that is served at once must not overtake one that was served just before
            # and whose task has not run since.
            await (asyncio.sleep(0) if ticket.is_served else ticket.called)
            yield
        finally:
            if ticket.is_served:
                self._free += count
            else:
                lines.leave(ticket)
            self._serve()

    def _serve(self) -> None:
        while lines := next((each for each in self._lines.values() if each.first), None):
            ticket = lines.first
            # Nobody of his priority overtakes one who needs more room: he would wait for ever.
            if ticket is None or ticket.count > self._free:
                return
            self._free -= ticket.count
            lines.serve(ticket)


@dataclass(eq=False)
class _Ticket:
    count: int
    source: str
    called: asyncio.Future[None]
    is_served: bool = False


class _Lines:
    """Who waits, by source; the source that was served longest ago comes first."""

    def __init__(self) -> None:
        self._by_source: dict[str, deque[_Ticket]] = {}

    @property
    def first(self) -> _Ticket | None:
        return next((line[0] for line in self._by_source.values() if line), None)

    def join(self, ticket: _Ticket) -> None:
        if ticket.source not in self._by_source:
            self._by_source = {ticket.source: deque(), **self._by_source}
        self._by_source[ticket.source].append(ticket)

    def leave(self, ticket: _Ticket) -> None:
        self._by_source[ticket.source].remove(ticket)

    def serve(self, ticket: _Ticket) -> None:
        self.leave(ticket)
        self._by_source[ticket.source] = self._by_source.pop(ticket.source)
        ticket.is_served = True
        if not ticket.called.done():
            ticket.called.set_result(None)


class Spool:
    """What is rendered and waits to be published, on disk. When it is full, no more is begun."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    @asynccontextmanager
    async def holding(self, rendered: Iterable[Rendered]) -> AsyncIterator[None]:
        size = await off_loop(_size_of, rendered)
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


def _size_of(rendered: Iterable[Rendered]) -> int:
    """In bytes, of those that are there."""
    return sum(file.path.stat().st_size for file in rendered if file.path.exists())


@dataclass(frozen=True)
class Timing:
    """How long the engine and its runs wait, in seconds."""

    #: Between two searches for jobs that are due again or late. New jobs wake the engine at once.
    sweep_seconds: float = 1.0
    #: Before a failed step is tried again.
    retry_seconds: float = 2.0
    #: For the beginning of one run, by the next.
    begin_seconds: float = 1.0
    #: A run that goes on for so long after its expected end is one that cannot be foretold.
    late_seconds: float = 2.0


@dataclass(frozen=True)
class Workshop:
    """All of it, handed to each run."""

    host: Host
    offer: Offer
    store: Store
    inputs: Inputs
    results: Results
    thumbnails: Thumbnails
    disk: Disk
    spool: Spool
    settings: Settings
    timing: Timing = Timing()
    encode: Encode = encoded
    places: Places = field(default_factory=Places)
    #: Of the jobs whose prompt has begun or is to begin at once: when that is kept.
    begun: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    watchers: Watchers = field(default_factory=Watchers)
    line: Line = field(default_factory=Line)
    estimates: Estimates = field(default_factory=Estimates)
    previews: Previews = field(default_factory=Previews)

    @cached_property
    def finishing(self) -> Finishing:
        """Where results get their final form."""
        return Finishing(
            encode=self.encode,
            max_bytes=self.settings.picture_bytes,
            png_level=self.settings.png_level,
            keep_metadata=self.settings.keep_metadata,
        )

    @cached_property
    def metrics(self) -> WorkMetrics:
        """What is counted of it all."""
        return WorkMetrics(self.offer)
