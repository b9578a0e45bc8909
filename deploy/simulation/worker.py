"""Worker: a machine, from its launch to its end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False)
class Worker:
    """It runs the first of the jobs that it holds."""

    is_spot: bool
    launched: float
    held: deque[int] = field(default_factory=deque)
    is_gone: bool = False
    #: When it was launched, became idle or began what it runs.
    since: float = 0.0
