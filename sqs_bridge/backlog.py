"""Backlog: about how many tasks wait, without asking for each submit."""

from __future__ import annotations

from .task_index import TaskIndex

COUNT_SECONDS = 10.0


class Backlog:
    """What the table had waiting lately, and what was accepted here since.

    What other replicas accepted since, and what workers took, is seen with the next count.
    """

    def __init__(self, index: TaskIndex, *, most: int) -> None:
        self._index = index
        self._most = most
        self._accepted = 0
        self._waiting_before = 0

    @property
    def waiting(self) -> int:
        return self._waiting_before + self._accepted

    @property
    def is_full(self) -> bool:
        return self.waiting >= self._most

    def add(self) -> None:
        """One more was accepted here."""
        self._accepted += 1

    async def count(self) -> None:
        """Ask the table. Raises AwsFailed."""
        accepted = self._accepted
        self._waiting_before = await self._index.count_pending(most=self._most) - accepted
