"""Estimates: how long workflows and their nodes take here, by what the last runs took."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median, median_low

#: Old enough to even out, young enough to notice another GPU load or other models.
RUNS = 20


@dataclass(frozen=True)
class _Past:
    """Of one workflow."""

    runs: deque[float] = field(default_factory=lambda: deque(maxlen=RUNS))
    nodes: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=RUNS))


class Estimates:
    """Rolling medians in seconds, in memory. As many as there are workflows."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}

    def learn(
        self, workflow: str, seconds: float, nodes: Mapping[str, float] | None = None
    ) -> None:
        """A run took so long, and each of its nodes if that is known."""
        past = self._past.setdefault(workflow, _Past())
        past.runs.append(seconds)
        if nodes:
            past.nodes.append(nodes)

    def run_seconds(self, workflow: str) -> float | None:
        """What a run takes; None while none is known."""
        past = self._past.get(workflow)
        return median(past.runs) if past else None

    def node_seconds(self, workflow: str) -> dict[str, float]:
        """What each node takes that has run before. One that is mostly cached takes nothing."""
        past = self._past.get(workflow)
        runs = past.nodes if past else ()
        names = {node_id for run in runs for node_id in run}
        return {name: median_low([run[name] for run in runs if name in run]) for name in names}
