"""Reads JSON as its standard has it: no NaN, no key twice, no depth that breaks the reader."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """Raises ValueError, whose message says why and can be shown."""
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands in it twice")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
