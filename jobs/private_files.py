"""Private files: those that the service keeps in ComfyUI's folders for single jobs.

They have names of hashes and ids, below a folder of ours. Nothing but the service puts such a name
into a graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..workflows import Violation, Workflow
from .prompt import FOLDER

FOLDER_IN_PATH = re.compile(rf"{FOLDER}[/\\]", re.IGNORECASE)
#: The hash of an input, or the id of a job.
PRIVATE_NAME = re.compile(
    r"[/\\](?:[0-9a-f]{64}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})", re.IGNORECASE
)
SENTENCE = "names a file that belongs to a job"


def names_private_file(value: object) -> bool:
    """Whether a value has the path of such a file in it."""
    if not isinstance(value, str):
        return False
    return bool(FOLDER_IN_PATH.search(value) and PRIVATE_NAME.search(value))


def private_file_violations(workflow: Workflow, parameters: dict[str, object]) -> list[Violation]:
    """Of parameters that a caller gave."""
    return [
        Violation(name, f"/{name}", f"{name} {SENTENCE}; upload the picture instead.")
        for name, value in parameters.items()
        if name not in workflow.images and names_private_file(value)
    ]


def private_file_faults(workflow: Workflow) -> Iterator[str]:
    """Of a definition and its graph, as an export from the editor after a job may have it."""
    images = {(p.node, p.input) for name in workflow.images for p in workflow.bindings[name]}
    for node_id, node in workflow.graph.items():
        for name, value in node["inputs"].items():
            if (node_id, name) not in images and _is_private(value):
                yield f"node {node_id}: input {name} {SENTENCE}; choose another file"
    for name, schema in workflow.schema["properties"].items():
        if any(map(_is_private, (schema.get("default"), *schema.get("enum", ())))):
            yield f"parameter {name}: its default or a choice {SENTENCE}"


def _is_private(value: object) -> bool:
    """A definition must not name the whole folder either."""
    is_folder = isinstance(value, str) and value.strip("./\\ ").lower() == FOLDER
    return is_folder or names_private_file(value)
