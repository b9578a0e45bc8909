"""Reads JSON as its standard has it: no NaN, no key twice, no depth that breaks the reader."""

from __future__ import annotations

import json
from typing import Any

MOST_LEVELS = 16
#: Of a whole number: more than any double has, and few enough to be read and written quickly.
MOST_DIGITS = 400
TOO_DEEP = f"it is nested too deeply, beyond {MOST_LEVELS} levels"


def parse(text: str | bytes) -> Any:
    """Raises ValueError, whose message says why in words of our own and can be shown."""
    try:
        value = json.loads(
            text, parse_constant=_refuse, parse_int=_whole, object_pairs_hook=_unique
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"syntax error in line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not encoded as UTF-8") from None
    if _is_deeper(value, MOST_LEVELS):
        raise ValueError(TOO_DEEP)
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands in it twice")
    return value


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number in it has more than {MOST_DIGITS} digits")
    return int(digits)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
