"""Text that callers choose and that is no free text: names of files, and words out of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .narrow import inputs_of
from .render import links
from .workflow import Binding, Workflow

CURE = "make the parameter one of `images`, or give it an `enum`"
FED = "gets the name of a file that a caller may choose; give the parameter an `enum`"


@dataclass(frozen=True)
class TextInputs:
    """Of the inputs of a node class those whose text is a file's name, and all that are names."""

    files: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


TextInputsOf = Callable[[str], TextInputs]


def file_faults(workflow: Workflow, text_inputs_of: TextInputsOf) -> Iterator[str]:
    """Where a caller could name any file of the machine, other callers' files too."""
    for name, place in inputs_of(workflow):
        if _is_free(workflow, name) and place.input in text_inputs_of(place.class_type).files:
            yield f"parameter {name}: {_named(place)} names a file; {CURE}"
    yield from _fed_faults(workflow, text_inputs_of)


def names_in(workflow: Workflow, text_inputs_of: TextInputsOf) -> frozenset[str]:
    """The text parameters that are names, and so have one line."""
    return workflow.names.union(
        name
        for name, place in inputs_of(workflow)
        if place.input in text_inputs_of(place.class_type).names
    )


def _fed_faults(workflow: Workflow, text_inputs_of: TextInputsOf) -> Iterator[str]:
    """Text reaches inputs through other nodes too."""
    reached = _reached(workflow)
    for node_id, node in workflow.graph.items():
        for name, source in links(node):
            if source in reached and name in text_inputs_of(node["class_type"]).files:
                place = Binding(node_id, node["class_type"], name)
                yield f"parameter {reached[source]}: through node {source}, {_named(place)} {FED}"


def _reached(workflow: Workflow) -> Mapping[str, str]:
    """The nodes that free text goes to or through, each with a parameter that it comes from."""
    reached = {place.node: name for name, place in inputs_of(workflow) if _is_free(workflow, name)}
    waiting = list(reached)
    fed = _fed(workflow.graph)
    while waiting:
        source = waiting.pop()
        for node_id in fed.get(source, ()):
            if node_id not in reached:
                reached[node_id] = reached[source]
                waiting.append(node_id)
    return reached


def _fed(graph: Mapping[str, Any]) -> dict[str, list[str]]:
    """Node -> the nodes that are linked to it."""
    fed: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        for _, source in links(node):
            fed.setdefault(source, []).append(node_id)
    return fed


def _is_free(workflow: Workflow, name: str) -> bool:
    """Whether callers choose the text. That of an image is the name of a file that we fetched."""
    schema = workflow.schema["properties"][name]
    return schema["type"] == "string" and "enum" not in schema


def _named(place: Binding) -> str:
    return f"input {place.input} of node {place.node} ({place.class_type})"
