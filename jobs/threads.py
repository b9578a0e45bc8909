"""The only file that crosses a thread.

event loop                     beside the loop                 prompt worker (ComfyUI's)
routes, engine, seam
     │ ── off_loop(work) ───────> pool: files, pictures, S3
     │ ── Lane.run(work) ───────> one thread each: SQLite reads, SQLite writes
     │                            some threads each: SQS, DynamoDB
     │ <─────────────────────── (await brings the answer back)
     │ ── put into ComfyUI's own queue ─────────────────────────> runs the prompt
     │ <──────────────────────────────── post(loop, function) ─── tells that it ended
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

POOL_THREADS = 8
_pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="unified-api")


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in the pool beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_pool, partial(work, *args, **kwargs))


def post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    """From any thread: have the loop call `function` soon. Never blocks."""
    loop.call_soon_threadsafe(function, *args)


def is_thread_alive(name_part: str) -> bool:
    """Whether a thread whose name contains `name_part` is running."""
    return any(name_part in thread.name for thread in threading.enumerate())


class Lane:
    """Threads of its own, one unless told: work given to that one runs strictly in order."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in this lane."""
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def close(self) -> None:
        """Let queued work finish, then end the threads."""
        await off_loop(self._threads.shutdown)
