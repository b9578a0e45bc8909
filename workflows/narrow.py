"""Narrows what a workflow accepts to what one machine takes, or says why they cannot agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from jsonschema import Draft202012Validator

from .parameters import TYPES, unfit
from .workflow import Binding, Workflow

Schema = Mapping[str, Any]

NUMBERS = ("integer", "number")


@dataclass(frozen=True)
class Takes:
    """What an input of a node takes on a machine. `type` is a word of JSON Schema, if any."""

    type: str | None = None
    choices: tuple[Any, ...] | None = None
    minimum: float = -inf
    maximum: float = inf


def inputs_of(workflow: Workflow) -> Iterator[tuple[str, Binding]]:
    """Where the values of callers go, by parameter. Pictures are files that the service names."""
    for name, places in workflow.bindings.items():
        if name not in workflow.images:
            yield from ((name, place) for place in places)


def narrow(workflow: Workflow, takes: Mapping[Binding, Takes]) -> tuple[Workflow, tuple[str, ...]]:
    """The workflow that accepts what its inputs take; or as it was, with each disagreement."""
    properties, faults = dict(workflow.schema["properties"]), []
    for name, place in inputs_of(workflow):
        if place not in takes:
            continue
        narrowed = _narrowed(properties[name], takes[place])
        fault = _fault(narrowed, takes[place]) or _graph_fault(workflow, name, place, takes[place])
        if fault:
            faults.append(f"parameter {name}: on this machine {_named(place)} {fault}")
        else:
            properties[name] = narrowed
    if faults or properties == workflow.schema["properties"]:
        return workflow, tuple(faults)
    return replace(workflow, schema={**workflow.schema, "properties": properties}), ()


def _named(place: Binding) -> str:
    return f"input {place.input} of node {place.node} ({place.class_type})"


def _narrowed(schema: Schema, takes: Takes) -> Schema:
    limited = {**schema, **_type(schema, takes), **_bounds(schema, takes)}
    return _illustrated({**limited, **_choices(limited, takes)})


def _illustrated(schema: Schema) -> Schema:
    """With those of its examples that it accepts."""
    examples = list(filter(_judge(schema), schema.get("examples", ())))
    without = {key: value for key, value in schema.items() if key != "examples"}
    return {**without, "examples": examples} if examples else without


def _type(schema: Schema, takes: Takes) -> Schema:
    # ComfyUI would cut the fraction off without a word.
    is_cut = schema["type"] == "number" and takes.type == "integer"
    return {"type": "integer"} if is_cut else {}


def _bounds(schema: Schema, takes: Takes) -> Schema:
    if schema["type"] not in NUMBERS:
        return {}
    low = max(schema.get("minimum", -inf), takes.minimum)
    high = min(schema.get("maximum", inf), takes.maximum)
    # JSON has no infinity.
    return {**({"minimum": low} if low > -inf else {}), **({"maximum": high} if high < inf else {})}


def _choices(schema: Schema, takes: Takes) -> Schema:
    choices = _common(schema.get("enum"), takes.choices)
    if choices is None:
        return {}
    rules = {key: value for key, value in schema.items() if key != "enum"}
    return {"enum": list(dict.fromkeys(filter(_judge(rules), choices)))}


def _common(known: Sequence[Any] | None, offered: Sequence[Any] | None) -> Sequence[Any] | None:
    """What is not offered on this machine cannot be asked for there."""
    if known is None or offered is None:
        return offered if known is None else known
    return [each for each in known if each in offered]


def _judge(schema: Schema) -> Callable[[Any], bool]:
    validator = Draft202012Validator(schema)
    return lambda value: not unfit(value, schema["type"]) and validator.is_valid(value)


def _fault(narrowed: Schema, takes: Takes) -> str | None:
    if narrowed["type"] == "string" and takes.type not in (None, "string"):
        return f"takes {TYPES[takes.type]}, not text"
    if _is_empty(narrowed):
        return "takes no value that the definition allows"
    if "default" in narrowed and not _judge(narrowed)(narrowed["default"]):
        return f"does not take the default {narrowed['default']}"
    return None


def _is_empty(schema: Schema) -> bool:
    low, high = schema.get("minimum", -inf), schema.get("maximum", inf)
    return (
        low > high
        or low >= schema.get("exclusiveMaximum", inf)
        or high <= schema.get("exclusiveMinimum", -inf)
        or not schema.get("enum", True)
    )


def _graph_fault(workflow: Workflow, name: str, place: Binding, takes: Takes) -> str | None:
    """Without a default, the graph's own value counts when the parameter is left out."""
    if name in workflow.schema.get("required", ()) or name in workflow.complete({}, seed=0):
        return None
    value = workflow.graph[place.node]["inputs"][place.input]
    return None if _is_taken(value, takes) else f"does not take {value}, as graph.json has it"


def _is_taken(value: Any, takes: Takes) -> bool:
    if not isinstance(value, str | int | float):
        return True
    if takes.choices is not None:
        return value in takes.choices
    return isinstance(value, str) or takes.minimum <= value <= takes.maximum
