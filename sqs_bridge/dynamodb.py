"""How values and expressions are written for DynamoDB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

Item = dict[str, Any]

#: About the largest number that a table holds; emulators refuse the very largest.
LARGEST = Decimal("9E+125")

NAME = re.compile(r"#(\w+)")
VALUE = re.compile(r":(\w+)")

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def to_wire(item: Mapping[str, Any]) -> Item:
    return {name: _serialize(_exact(value)) for name, value in item.items()}


def from_wire(item: Mapping[str, Any]) -> Item:
    return {name: _read(value) for name, value in item.items()}


def spoken(values: Mapping[str, Any], *expressions: str) -> dict[str, Any]:
    """The arguments that say what #name and :value mean in some expressions.

    Every attribute is written #name, since many plain words are reserved.
    """
    text = " ".join(expressions)
    used = {name: values[name] for name in VALUE.findall(text)}
    said: dict[str, Any] = {"ExpressionAttributeNames": {f"#{n}": n for n in NAME.findall(text)}}
    if used:
        said["ExpressionAttributeValues"] = {f":{n}": v for n, v in to_wire(used).items()}
    return said


def setting(names: Iterable[str]) -> str:
    """'#a = :a, #b = :b'"""
    return ", ".join(f"#{name} = :{name}" for name in names)


def setting_once(names: Iterable[str]) -> str:
    """The same, for attributes that keep the value they may have already."""
    return ", ".join(f"#{name} = if_not_exists(#{name}, :{name})" for name in names)


def _exact(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


def _read(value: Item) -> Any:
    """None in the place of what Python cannot hold: an emulator may take any number."""
    try:
        return _deserialize(value)
    except (ArithmeticError, RecursionError):
        return None
