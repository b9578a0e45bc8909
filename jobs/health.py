"""Health: how each part of the service is, in three words and a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Component:
    """One part. The reason says what to do; a healthy part needs none."""

    state: State = State.HEALTHY
    reason: str | None = None


@dataclass(frozen=True)
class Watched:
    """A part by its name, and how it is whenever it is asked."""

    name: str
    look: Callable[[], Component]

    @property
    def component(self) -> Component:
        return self.look()


def unless(problem: str | None, state: State) -> Component:
    """A healthy part, unless there is a problem: then it is in that state."""
    return Component(state, problem) if problem else Component()
