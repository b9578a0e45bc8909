"""Turns a workflow and the parameters of one job into the graph that ComfyUI runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any

from .workflow import Graph, Workflow


def render(
    workflow: Workflow, parameters: Mapping[str, Any], *, images: Mapping[str, str], prefix: str
) -> Graph:
    """A new graph for complete parameters and the input files of the images that were given.

    Every node that saves gets a file name prefix of its own, below `prefix`.
    """
    graph = deepcopy(workflow.graph)
    # An image parameter is a reference to fetch; only the fetched file may reach the graph.
    plain = {n: value for n, value in parameters.items() if n not in workflow.images}
    _bind(graph, workflow, {**plain, **images})
    _prefix(graph, prefix)
    absent = [name for name in workflow.images if name not in images]
    _drop(graph, {node for name in absent for node in workflow.images[name]})
    _prune(graph, workflow)
    return graph


def links(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The inputs of a node that are fed by other nodes: input name, node id."""
    for name, value in node["inputs"].items():
        if is_link(value):
            yield name, value[0]


def is_link(value: Any) -> bool:
    match value:
        case [str(), _]:
            return True
    return False


def _bind(graph: Graph, workflow: Workflow, values: Mapping[str, Any]) -> None:
    for name, bindings in workflow.bindings.items():
        if name in values:
            for binding in bindings:
                graph[binding.node]["inputs"][binding.input] = values[name]


def _prefix(graph: Graph, prefix: str) -> None:
    for node_id, node in graph.items():
        if "filename_prefix" in node["inputs"]:
            # Nodes of a subgraph are called "5:12", which not every file system can spell.
            node["inputs"]["filename_prefix"] = f"{prefix}/{node_id.replace(':', '_')}"


def _drop(graph: Graph, nodes: Collection[str]) -> None:
    for node_id in nodes:
        graph.pop(node_id, None)
    for node in graph.values():
        for name in [name for name, source in links(node) if source in nodes]:
            del node["inputs"][name]


def _prune(graph: Graph, workflow: Workflow) -> None:
    """Removes what served only nodes that are gone; what nobody used from the start stays."""
    served = _sources(workflow.graph) - set(workflow.outputs.values())
    while useless := (graph.keys() & served) - _sources(graph):
        for node_id in useless:
            del graph[node_id]


def _sources(graph: Graph) -> set[str]:
    return {source for node in graph.values() for _, source in links(node)}
