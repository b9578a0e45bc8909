"""Reads what is asked for in a query."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web

from ..jobs.errors import InvalidQuery

T = TypeVar("T")


def flag_of(request: web.Request, name: str) -> bool:
    """False if it is not there. Raises InvalidQuery."""
    given = request.query.get(name, "false")
    if given not in ("true", "false"):
        raise InvalidQuery(f"`{name}` must be true or false.")
    return given == "true"


def number_of(request: web.Request, name: str, default: T) -> int | T:
    """Raises InvalidQuery."""
    given = request.query.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise InvalidQuery(f"`{name}` must be a number from an earlier reply, or a small one.")
    return int(given)
