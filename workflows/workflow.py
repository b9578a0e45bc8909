"""Workflow: what a caller may ask of one graph, and where each answer goes in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator

from .parameters import Violation, violations

Graph = dict[str, Any]

LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class Binding:
    """The place in a graph where a value goes."""

    node: str
    class_type: str
    input: str


@dataclass(frozen=True)
class ModelSlot:
    """A model file that a graph loads; its name stands in the graph at the binding."""

    binding: Binding
    folder: str
    source: str | None


@dataclass(frozen=True)
class Phrases:
    """Words for the values of some parameters, joined into another one."""

    into: str
    separator: str
    parts: tuple[tuple[str, Mapping[str, str]], ...]
    otherwise: str

    def say(self, values: Mapping[str, Any]) -> str:
        said = [
            says[key]
            for parameter, says in self.parts
            if (key := _key(values.get(parameter))) in says
        ]
        return self.separator.join(said) or self.otherwise


@dataclass(frozen=True)
class Workflow:
    """A checked definition. Its graph is never changed in place: `render` makes new ones."""

    slug: str
    title: str
    description: str
    schema: Mapping[str, Any]
    graph: Graph
    bindings: Mapping[str, tuple[Binding, ...]]
    images: Mapping[str, tuple[str, ...]]
    phrases: Phrases | None
    outputs: Mapping[str, str]
    extension: str
    models: Mapping[str, ModelSlot]
    warmup: Mapping[str, Any] | None
    revision: str
    #: How long a job may wait for its beginning, and one run may take.
    max_wait_seconds: float | None = None
    max_run_seconds: float | None = None
    #: The text parameters that are names, and so have one line; pictures are besides.
    names: frozenset[str] = frozenset()

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self.schema)

    def violations(self, parameters: Mapping[str, Any]) -> list[Violation]:
        """What is wrong with parameters as a caller sent them; null means omitted."""
        names = self.names.union(self.images)
        return violations(self._validator, self.schema["properties"], parameters, names=names)

    def complete(self, parameters: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
        """The effective parameters, given some without violations.

        Completing what is complete changes nothing, whatever the seed.
        """
        properties = self.schema["properties"]
        values = {n: p["default"] for n, p in properties.items() if "default" in p}
        if properties.get("seed", {}).get("type") == "integer":
            values.setdefault("seed", _within(properties["seed"], seed))
        values |= {name: value for name, value in parameters.items() if value is not None}
        if self.phrases and _is_blank(parameters.get(self.phrases.into)):
            values[self.phrases.into] = self.phrases.say(values)
        return {n: _cast(values[n], p["type"]) for n, p in properties.items() if n in values}

    def pictures(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Of the effective parameters those that name pictures."""
        return {name: str(parameters[name]) for name in self.images if name in parameters}


def _within(schema: Mapping[str, Any], seed: int) -> int:
    low, high = int(schema.get("minimum", 0)), int(schema.get("maximum", LARGEST_SEED))
    # Nodes that take negative seeds often mean something special by them.
    low = max(low, 0) if high >= 0 else low
    return low + seed % max(1, high - low + 1)


def _is_blank(text: str | None) -> bool:
    return text is None or not text.strip()


def _cast(value: Any, type_name: str) -> Any:
    # JSON Schema counts 1.0 as an integer; a node that expects one may not.
    return int(value) if type_name == "integer" else value


def _key(value: Any) -> str:
    """A value as it is spelt as a key of `says`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)
