"""Open files: how many this process may have. Each connection is one of them."""

from __future__ import annotations

import logging
import sys

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

#: Windows tells no limit; C programs have this one there.
LIMIT_OF_WINDOWS = 8192


def raise_limit(most: int) -> None:
    """Raise the soft limit to the hard one, but not above `most`. It is never lowered."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of open files stays at %d: %s", soft, error)


def limit(*, at_most: int) -> int:
    """How many files this process may have open."""
    if sys.platform == "win32":
        return min(LIMIT_OF_WINDOWS, at_most)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return at_most if soft == resource.RLIM_INFINITY else min(soft, at_most)
