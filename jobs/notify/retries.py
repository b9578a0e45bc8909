"""Retries: when a webhook that was not taken is tried again."""

from __future__ import annotations

import random
from datetime import timezone
from email.utils import parsedate_to_datetime

from ..egress.sender import GONE, Answer

#: Between the tries: 5 s, 30 s, 2 min, 10 min, 1 h, 3 h, 6 h, 12 h.
PAUSES_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0, 10_800.0, 21_600.0, 43_200.0)
#: How much longer or shorter a pause is by chance, so that not all come again at once.
JITTER = 0.2


def next_try(answer: Answer, *, tries: int, now: float) -> float | None:
    """When to try again, after so many tries before this answer; None for never."""
    if answer.error is None or answer.status == GONE or tries >= len(PAUSES_SECONDS):
        return None
    pause = PAUSES_SECONDS[tries] * random.uniform(1 - JITTER, 1 + JITTER)
    wished = min(seconds_until(answer.retry_after, now=now), PAUSES_SECONDS[-1])
    return now + max(pause, wished)


def seconds_until(wish: str | None, *, now: float) -> float:
    """A Retry-After of seconds or of a date; 0 for anything else."""
    if wish and wish.isascii() and wish.isdigit():
        return float(wish)
    try:
        moment = parsedate_to_datetime(wish or "")
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
