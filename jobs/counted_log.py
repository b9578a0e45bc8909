"""CountedLog: what happens again and again is logged once, and counted from then on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

COUNT_SECONDS = 60.0
#: Of a log. The one that began first is forgotten for a further one, and is logged anew.
MOST_KINDS = 1000


class CountedLog:
    """Logs the first line of a kind at once, and then one in so many seconds, with their number.

    For any thread.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        seconds: float = COUNT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        #: Kind -> when it was logged, and how many came since.
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def log(
        self,
        level: int,
        message: str,
        *args: object,
        error: BaseException | None = None,
        kind: Hashable = None,
    ) -> None:
        """Log a line, with the traceback of `error`, unless one of its kind was logged lately.

        Without a `kind`, only the same line with the same error is of its kind.
        """
        with self._lock:
            more = self._count(kind or (message, args, repr(error)))
        if more is None:
            return
        counted = f"{message} ({more} more since this was logged)" if more else message
        self._logger.log(level, counted, *args, exc_info=error)

    def passed(self) -> None:
        """All is well again: whatever comes next is logged at once."""
        with self._lock:
            self._kinds.clear()

    def _count(self, kind: Hashable) -> int | None:
        """How many came since a line was logged, if another is to be logged now."""
        now = self._clock()
        since, more = self._kinds.get(kind, (float("-inf"), 0))
        if now - since < self._seconds:
            self._kinds[kind] = (since, more + 1)
            return None
        self._kinds[kind] = (now, 0)
        if len(self._kinds) > MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        return more
