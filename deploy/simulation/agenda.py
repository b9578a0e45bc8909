"""Agenda: what happens, in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

Happening = Callable[[Any], None]


class Agenda:
    def __init__(self) -> None:
        #: In seconds from midnight.
        self.now = 0.0
        self._events: list[tuple[float, int, Happening, Any]] = []
        # Of two at the same time, the one that was entered first comes first.
        self._order = count()

    @property
    def next(self) -> float:
        return self._events[0][0]

    def at(self, time: float, happen: Happening, subject: Any = None) -> None:
        heapq.heappush(self._events, (time, next(self._order), happen, subject))

    def after(self, seconds: float, happen: Happening, subject: Any = None) -> None:
        self.at(self.now + seconds, happen, subject)

    def step(self) -> None:
        """The next thing happens."""
        self.now, _, happen, subject = heapq.heappop(self._events)
        happen(subject)
