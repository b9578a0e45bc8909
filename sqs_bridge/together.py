"""Together: what is asked for at the same time is done by few calls instead of many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")

#: A call that hangs holds up what comes after it for no longer.
PATIENCE_SECONDS = 0.1


class Together(Generic[A, R]):
    """Who comes first goes at once. Those who come meanwhile go together, when that has ended.

    `do` answers for each, in order; an exception in its answer is raised for that one, and one
    that it raises for all. `fit` tells whether some may go together; one alone always may.
    """

    def __init__(
        self,
        do: Callable[[Sequence[A]], Awaitable[Sequence[R | BaseException]]],
        *,
        fit: Callable[[Sequence[A]], bool],
    ) -> None:
        self._do = do
        self._fit = fit
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._departing: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: A) -> R:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((asked, answer))
        if self._departing is None or self._departing.done():
            self._departing = loop.create_task(self._depart())
        return await answer

    async def _depart(self) -> None:
        while self._waiting:
            group = asyncio.create_task(self._go(self._next_group()))
            self._under_way.add(group)
            group.add_done_callback(self._under_way.discard)
            await asyncio.wait([group], timeout=PATIENCE_SECONDS)

    def _next_group(self) -> list[tuple[A, asyncio.Future[R]]]:
        group = [self._waiting.popleft()]
        while self._waiting and self._fit([asked for asked, _ in (*group, self._waiting[0])]):
            group.append(self._waiting.popleft())
        return group

    async def _go(self, group: list[tuple[A, asyncio.Future[R]]]) -> None:
        work = self._do([asked for asked, _ in group])
        # Not tried and caught: whatever it raises is for those who wait.
        (told,) = await asyncio.gather(work, return_exceptions=True)
        answers = [told] * len(group) if isinstance(told, BaseException) else told
        for (_, waiting), answer in zip(group, answers, strict=True):
            _settle(waiting, answer)


def _settle(waiting: asyncio.Future[R], answer: R | BaseException) -> None:
    if waiting.done():
        # Whoever asked has gone.
        return
    if isinstance(answer, BaseException):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
