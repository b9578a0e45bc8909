"""Reads from a request until when its job is to be done."""

from __future__ import annotations

import re

from aiohttp import web

from ..jobs.errors import InvalidCancelAfter

SYNTAX = r"(?=\d)(?:(\d{1,3})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s?)?"
#: '90', '1m', '1h30m'.
CANCEL_AFTER = re.compile(SYNTAX, re.ASCII)
UNIT_SECONDS = (86_400, 3600, 60, 1)
LONGEST_SECONDS = 30 * 86_400


def cancel_after_of(request: web.Request) -> float | None:
    """Seconds from now, by `Cancel-After`. Raises InvalidCancelAfter."""
    given = request.headers.getall("Cancel-After", [])
    if not given:
        return None
    found = CANCEL_AFTER.fullmatch(given[0]) if len(given) == 1 else None
    numbers = [int(number or 0) for number in found.groups()] if found else []
    seconds = sum(number * unit for number, unit in zip(numbers, UNIT_SECONDS, strict=False))
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise InvalidCancelAfter()
    return seconds
