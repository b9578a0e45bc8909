"""Reads a moment from a query: RFC 3339, as replies tell moments."""

from __future__ import annotations

import re
from datetime import datetime

from aiohttp import web

from ..jobs.errors import InvalidQuery

RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def moment_of(request: web.Request, name: str) -> float | None:
    """Seconds since the epoch. Raises InvalidQuery."""
    given = request.query.get(name)
    if given is None:
        return None
    try:
        return _seconds(given)
    except (ValueError, OverflowError):
        sentence = f"`{name}` must be a time like 2026-01-31T12:00:00Z (send a + as %2B)."
        raise InvalidQuery(sentence) from None


def _seconds(text: str) -> float:
    found = RFC3339.fullmatch(text)
    if found is None:
        raise ValueError
    date, time, fraction, offset = found.groups("0")
    zone = "+00:00" if offset in "Zz" else offset
    return datetime.fromisoformat(f"{date}T{time}{zone}").timestamp() + float(fraction)
