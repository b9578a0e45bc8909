"""The only file that crosses a thread.

event loop                     beside the loop                 prompt worker (ComfyUI's)
routes, engine, seam
     │ ── off_loop(work) ───────> pool: files, pictures, S3
     │                              └─ on_cores(work) ─> a thread for each core: compression
     │ ── in_a_core(work) ──────────────────────────────────────┘  decoding
     │ ── Lane.run(work) ───────> one thread each: SQLite reads, SQLite writes
     │                            some threads each: SQS, DynamoDB
     │ <─────────────────────── (await brings the answer back)
     │ ── put into ComfyUI's own queue ─────────────────────────> runs the prompt
     │ <──────────────────────────────── post(loop, function) ─── tells that it ended
     │
     │                               sqs-listener: an event loop of its own, so that held
     │                               messages stay held whatever holds the first loop up
     │ <── on(loop, coroutine) ────> claims, heartbeats
                                          │ ── in_daemon(work) ──> a long poll
     │ ── in_daemon(work) ───────> a look at the key file, the catalog, the free space;
                                   a host's name becoming an address
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from .counted_log import CountedLog

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

log = logging.getLogger(__name__)

POOL_THREADS = 8
#: More cores hardly make a picture faster.
MOST_CORES = 4


class Pool(ThreadPoolExecutor):
    """Threads that know for how long they have had nothing to do."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._unfinished = 0
        self._finished_at = float("-inf")

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with self._lock:
            self._unfinished += 1
        future = super().submit(work, *args, **kwargs)
        future.add_done_callback(self._finished)
        return future

    @property
    def idle_since(self) -> float | None:
        """By the monotonic clock; None while there is work."""
        with self._lock:
            return None if self._unfinished else self._finished_at

    def _finished(self, _: Future[Any]) -> None:
        with self._lock:
            self._unfinished -= 1
            self._finished_at = time.monotonic()


_pool = Pool(POOL_THREADS, "unified-api")
_cores = Pool(min(MOST_CORES, os.cpu_count() or 1), "unified-api-core")


def idle_since() -> float | None:
    """Since when the pools have had nothing to do, by the monotonic clock; None while they have."""
    moments = [pool.idle_since for pool in (_pool, _cores)]
    return None if None in moments else max(moment for moment in moments if moment is not None)


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in the pool beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_pool, partial(work, *args, **kwargs))


def in_a_core(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """From any thread: begin such work, for a thread to wait for."""
    return _cores.submit(work, *args, **kwargs)


def on_cores(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """From any thread but its own: do work that leaves the interpreter for all items at a time."""
    return list(_cores.map(work, items))


def post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    """From any thread: have the loop call `function` soon, unless it is closed. Never blocks."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


async def on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Have another thread's loop do it, and bring the answer back. Cancelling cancels it there.

    Raises RuntimeError if that loop is closed.
    """
    try:
        answer = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise
    return await asyncio.wrap_future(answer)


async def in_daemon(name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread of its own, which the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        told: tuple[Callable[[Any], None], Any]
        try:
            told = answer.set_result, work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            told = answer.set_exception, error
        post(loop, _settle, answer, *told)

    threading.Thread(target=call, name=name, daemon=True).start()
    return await answer


async def repeat_in_daemon(name: str, work: Callable[[], None], *, seconds: float) -> None:
    """Run blocking work in a new thread every so many seconds, until cancelled.

    An exception is logged, once a minute while it is the same; the next run comes in its turn.
    """
    failures = CountedLog(log)
    while True:
        await asyncio.sleep(seconds)
        try:
            await in_daemon(name, work)
        except Exception as error:  # noqa: BLE001 - it is logged
            failures.log(logging.ERROR, "%s failed", name, error=error)
        else:
            failures.passed()


def _settle(answer: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if not answer.done():
        settle(value)


def is_thread_alive(name_part: str) -> bool:
    """Whether a thread whose name contains `name_part` is running."""
    return count_threads(name_part) > 0


def count_threads(name_part: str) -> int:
    """The number of running threads whose names contain `name_part`, of any copy of this plugin."""
    return sum(name_part in thread.name for thread in threading.enumerate())


class LoopThread:
    """A thread with an event loop of its own, which the end of the process does not wait for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin with this work."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=self._name, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        """End the thread, whatever it does, if there is one. Not from within a running loop."""
        if self._thread is None:
            return
        post(self.loop, self.loop.stop)
        self._thread.join()
        self._thread = None
        # Afterwards, so that what others have begun meanwhile is dropped too.
        self.loop.run_until_complete(_drop_all())
        self.loop.close()


async def _drop_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Lane:
    """Threads of its own, one unless told: work given to that one runs strictly in order."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in this lane."""
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def begin(self, work: Callable[[], None]) -> None:
        """Have work done in this lane that tells by itself how it ended."""
        self._threads.submit(work)

    async def close(self) -> None:
        """Let queued work finish, then end the threads."""
        await off_loop(self._threads.shutdown)
