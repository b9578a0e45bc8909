"""Says in sentences where a definition, its graph and its own values do not agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from .render import is_link, links
from .workflow import LARGEST_SEED, Graph, Phrases, Workflow

Content = Mapping[str, Any]


def graph_faults(graph: Any) -> Iterator[str]:
    """Why something is not a graph as ComfyUI's "Export (API)" writes it."""
    if not isinstance(graph, dict) or not graph:
        yield "graph.json: this is not a graph; use Export (API) in ComfyUI."
    elif isinstance(graph.get("nodes"), list):
        yield "graph.json: this is the editor's own format; use Export (API) in ComfyUI."
    else:
        for node_id, node in graph.items():
            yield from _node_faults(node_id, node, graph)


def _node_faults(node_id: str, node: Any, graph: Graph) -> Iterator[str]:
    if not _is_node(node):
        yield f"graph.json: node {node_id} has no class_type and inputs; use Export (API)."
        return
    for name, source in links(node):
        if source not in graph:
            yield f"graph.json: input {name} of node {node_id} links to node {source}, not there."


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
    )


def definition_faults(content: Content, graph: Graph) -> Iterator[str]:
    """Where a well-formed definition does not fit a well-formed graph."""
    for fault in _faults(content, graph):
        yield f"workflow.json: {fault}."


def _faults(content: Content, graph: Graph) -> Iterator[str]:
    yield from _parameter_faults(content)
    yield from _binding_faults(content["bindings"], graph)
    yield from _image_faults(content, graph)
    yield from _phrase_faults(content)
    for name, place in content["outputs"].items():
        yield from _place_faults(f"output {name}", place, graph)
    for name, slot in content.get("models", {}).items():
        yield from _model_faults(f"model {name}", slot, graph)


def _parameter_faults(content: Content) -> Iterator[str]:
    properties, bindings = content["parameters"]["properties"], content["bindings"]
    speaking = {part["parameter"] for part in content.get("phrases", {}).get("parts", ())}
    for name in content["parameters"].get("required", ()):
        if name not in properties:
            yield f"parameter {name} is required but not described"
    for name, schema in properties.items():
        if name not in bindings and name not in speaking:
            yield f"parameter {name} has no binding"
        if schema.get("minimum", -inf) > schema.get("maximum", inf):
            yield f"parameter {name} has a minimum above its maximum"
    for name in bindings.keys() - properties.keys():
        yield f"bindings: there is no parameter {name}"


def _binding_faults(bindings: Content, graph: Graph) -> Iterator[str]:
    taken: Counter[tuple[str, str]] = Counter()
    for name, places in bindings.items():
        for place in places:
            yield from _input_faults(f"parameter {name}", place, graph)
            taken[place["node"], place["input"]] += 1
    for (node, name), times in taken.items():
        if times > 1:
            yield f"bindings: input {name} of node {node} is bound {times} times"


def _place_faults(who: str, place: Content, graph: Graph) -> Iterator[str]:
    node = graph.get(place["node"])
    if node is None:
        yield f"{who}: graph.json has no node {place['node']}"
    elif node["class_type"] != place["class_type"]:
        yield (
            f"{who}: node {place['node']} is a {node['class_type']} in graph.json,"
            f" not a {place['class_type']}"
        )


def _input_faults(who: str, place: Content, graph: Graph) -> Iterator[str]:
    misplaced = list(_place_faults(who, place, graph))
    if misplaced:
        yield from misplaced
        return
    inputs, name = graph[place["node"]]["inputs"], place["input"]
    where = f"input {name} of node {place['node']} ({place['class_type']})"
    if name not in inputs:
        yield f"{who}: there is no {where} in graph.json"
    elif is_link(inputs[name]):
        yield f"{who}: {where} is fed by node {inputs[name][0]}, so it takes no value"
    elif name == "filename_prefix":
        yield f"{who}: {where} is set by the service itself"


def _model_faults(who: str, slot: Content, graph: Graph) -> Iterator[str]:
    misplaced = list(_input_faults(who, slot, graph))
    if misplaced:
        yield from misplaced
    elif not isinstance(graph[slot["node"]]["inputs"][slot["input"]], str):
        yield f"{who}: input {slot['input']} of node {slot['node']} holds no file name"


def _image_faults(content: Content, graph: Graph) -> Iterator[str]:
    properties = content["parameters"]["properties"]
    required = content["parameters"].get("required", ())
    outputs = {place["node"] for place in content["outputs"].values()}
    for name, image in content.get("images", {}).items():
        gone = set(image.get("disconnect", ()))
        loaders = {place["node"] for place in content["bindings"].get(name, ())}
        if properties.get(name, {}).get("type") != "string" or not loaders:
            yield f"images: {name} is not a bound text parameter"
        elif name not in required and not loaders <= gone:
            yield f"images: {name} is optional, so disconnect must name node {min(loaders - gone)}"
        for node in sorted(gone - graph.keys()):
            yield f"images: {name}: graph.json has no node {node}"
        for node in sorted(gone & outputs):
            yield f"images: {name}: node {node} is an output and cannot be disconnected"


def _phrase_faults(content: Content) -> Iterator[str]:
    if "phrases" not in content:
        return
    phrases, properties = content["phrases"], content["parameters"]["properties"]
    into = phrases["into"]
    if properties.get(into, {}).get("type") != "string":
        yield f"phrases: {into} is not a text parameter"
    for part in phrases["parts"]:
        if part["parameter"] not in properties:
            yield f"phrases: there is no parameter {part['parameter']}"


def value_faults(workflow: Workflow) -> Iterator[str]:
    """Which values in a definition are not acceptable to the definition itself."""
    for where, name, value in _values(workflow):
        for violation in workflow.violations({name: value}):
            if violation.parameter == name:
                yield f"workflow.json: {where} of parameter {name}: {violation.message}"


def _values(workflow: Workflow) -> Iterator[tuple[str, str, Any]]:
    for name, schema in workflow.schema["properties"].items():
        if "default" in schema:
            yield "the default", name, schema["default"]
        for example in schema.get("examples", ()):
            yield "an example", name, example
    if workflow.phrases:
        yield from _phrase_values(workflow.phrases, workflow.schema["properties"])
    for name, value in (workflow.warmup or {}).items():
        yield "the warm-up", name, value
    # A drawn seed is fitted into minimum and maximum only.
    for seed in (0, LARGEST_SEED):
        if "seed" in (drawn := workflow.complete({}, seed=seed)):
            yield "a drawn value", "seed", drawn["seed"]


def _phrase_values(phrases: Phrases, properties: Content) -> Iterator[tuple[str, str, Any]]:
    for name, says in phrases.parts:
        for key in says:
            yield "a phrase", name, _spelt(key, properties[name]["type"])
    longest = [max(says.values(), key=len) for _, says in phrases.parts]
    yield "the longest text", phrases.into, phrases.separator.join(longest)
    yield "the text for no phrase", phrases.into, phrases.otherwise


def _spelt(key: str, type_name: str) -> Any:
    if type_name == "string":
        return key
    try:
        return json.loads(key)
    except ValueError:
        return key
