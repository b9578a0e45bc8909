"""Judges the parameters of a request and says in sentences what is wrong with them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

MOST_UNKNOWN = 20
MOST_CHOICES = 10
LONGEST_NAME = 64
LONGEST_MESSAGE = 300

#: What begins an order to a terminal, or wipes out what stands before it: nodes print prompts.
NOT_IN_TEXT = re.compile("[\x08\x1b\x7f-\x84\x86-\x9f]")
#: In a name all that is no mark of its own: line breaks, and what turns the writing around.
NOT_IN_NAMES = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
CONTROLS = "must not have control characters in it"

TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
SENTENCES = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have a length of at least {}",
    "maxLength": "must have a length of at most {}",
    "pattern": "must match the pattern {}",
}


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a request, fit to be shown to its sender."""

    parameter: str | None
    pointer: str
    message: str
    allowed: tuple[Any, ...] = ()


def violations(
    validator: Draft202012Validator,
    known: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    names: Collection[str] = (),
) -> list[Violation]:
    """What is wrong with the parameters, at most one violation for each of them.

    Those in `names` name something, so that they are one line of text.
    """
    given = {n: v for n, v in parameters.items() if v is not None or n not in known}
    # JSON Schema lets NaN pass every bound, and quotes what it refuses, however large that is.
    told: dict[str | None, Violation] = {
        name: _violation(name, sentence)
        for name in known
        if name in given and (sentence := unfit(given[name], known[name]["type"]))
    }
    for name in names:
        if name not in told and NOT_IN_NAMES.search(str(given.get(name, ""))):
            told[name] = _violation(name, CONTROLS)
    fit = {name: value for name, value in given.items() if name not in told}
    for violation in _judged(validator, known, fit):
        told.setdefault(violation.parameter, violation)
    return sorted(told.values(), key=_order(known))


def unfit(value: Any, type_name: str) -> str | None:
    """Why a value can be no parameter of any schema."""
    if not isinstance(value, (str, int, float)):
        return f"must be {TYPES[type_name]}"
    if isinstance(value, str):
        if NOT_IN_TEXT.search(value):
            return CONTROLS
        return None if _is_unicode(value) else "must be valid Unicode, without lone surrogates"
    return None if _is_finite(value) else "must be a finite number"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _judged(
    validator: Draft202012Validator, known: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Iterator[Violation]:
    for error in validator.iter_errors(parameters):
        if error.validator == "additionalProperties":
            unknown = [name for name in parameters if name not in known]
            yield from (_unknown(name, known) for name in unknown[:MOST_UNKNOWN])
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in parameters]
            yield from (_violation(name, "is required") for name in missing)
        else:
            yield _refused(error)


def _unknown(name: str, known: Mapping[str, Any]) -> Violation:
    shown = _shown(name)
    close = difflib.get_close_matches(shown, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return _violation(shown, "is not a parameter of this workflow" + hint)


def _refused(error: ValidationError) -> Violation:
    name = str(error.path[0])
    rule = str(error.validator)
    limit: Any = error.validator_value
    if rule == "type":
        return _violation(name, f"must be {TYPES[limit]}")
    if rule == "enum":
        return _not_among(name, limit)
    return _violation(name, SENTENCES[rule].format(limit))


def _not_among(name: str, choices: list[Any]) -> Violation:
    allowed = tuple(choices[:MOST_CHOICES])
    more = len(choices) - len(allowed)
    listed = ", ".join(map(str, allowed)) + (f" and {more} more" if more else "")
    return _violation(name, f"must be one of {listed}", allowed)


def _violation(name: str, sentence: str, allowed: tuple[Any, ...] = ()) -> Violation:
    message = f"{name} {sentence}"[:LONGEST_MESSAGE]
    end = "" if message.endswith("?") else "."
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return Violation(name, pointer, message + end, allowed)


def _shown(name: str) -> str:
    """A name that a stranger chose, short and printable."""
    return name[:LONGEST_NAME].encode("utf-8", "backslashreplace").decode()


def _order(known: Mapping[str, Any]) -> Callable[[Violation], int]:
    places = {name: place for place, name in enumerate(known)}
    return lambda violation: places.get(violation.parameter or "", len(places))
