"""Writer: the connection that writes. What comes while the disk is busy is committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from .threads import Lane

P = ParamSpec("P")
T = TypeVar("T")

ROLLED_BACK = "the transaction was rolled back"


@dataclass(frozen=True)
class _Order:
    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any] = field(default_factory=Future)


class Writer:
    """`connection` is asked for each time, in the lane."""

    def __init__(self, lane: Lane, connection: Callable[[], sqlite3.Connection]) -> None:
        self._lane = lane
        self._connection = connection
        self._orders: deque[_Order] = deque()

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do it in a transaction; what it answers, once that has reached the disk.

        What it raises undoes its own changes only. Raises sqlite3.Error too if nothing could be
        committed.
        """
        order = _Order(lambda db: work(db, *args, **kwargs))
        self._orders.append(order)
        self._lane.begin(self._carry_out)
        answer: T = await asyncio.wrap_future(order.done)
        return answer

    def _carry_out(self) -> None:
        """All orders that have come by now; for most of them somebody else did it."""
        orders = [self._orders.popleft() for _ in range(len(self._orders))]
        orders = [order for order in orders if order.done.set_running_or_notify_cancel()]
        if not orders:
            return
        try:
            told = _carried_out(self._connection(), orders)
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are awaited
            told = [partial(order.done.set_exception, error) for order in orders]
        for tell in told:
            tell()


def _carried_out(db: sqlite3.Connection, orders: list[_Order]) -> list[Callable[[], None]]:
    """What is to be told of each, now that it is committed."""
    told = []
    with _transaction(db):
        for order in orders:
            told.append(_attempted(db, order))
            # SQLite takes everything back when the disk is full, not just the last of it.
            if not db.in_transaction:
                raise sqlite3.OperationalError(ROLLED_BACK)
    return told


def _attempted(db: sqlite3.Connection, order: _Order) -> Callable[[], None]:
    try:
        with _transaction(db):
            return partial(order.done.set_result, order.work(db))
    except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
        return partial(order.done.set_exception, error)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; inside of another, a part of that."""
    if not db.in_transaction:
        with db:
            db.execute("BEGIN IMMEDIATE")
            yield
        return
    db.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK TO part")
        raise
    finally:
        if db.in_transaction:
            db.execute("RELEASE part")
