"""The schemas of the OpenAPI document: what a workflow takes, and what is answered."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from ..jobs import errors
from ..workflows import Workflow
from .batch import KEY, MOST_ITEMS
from .body import common_fields
from .openapi_parts import ANY_OBJECT, IDEMPOTENCY_KEY, JOB, TEXT, Part
from .problems import STATUS
from .view import JobView

REHEARSAL: Part = {
    "type": "object",
    "required": ["workflow", "parameters", "graph"],
    "properties": {"workflow": TEXT, "parameters": ANY_OBJECT, "graph": ANY_OBJECT},
}


def components() -> dict[str, Part]:
    """The schemas that operations refer to."""
    job: Part = JobView.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Part] = job.pop("$defs")
    parts["ErrorDetail"]["properties"]["code"] = _codes(_below(errors.JobFailed))
    return {**parts, "JobView": job, "Problem": _problem()}


def request(workflow: Workflow) -> Part:
    """Of a request body, in which null stands for what is left out."""
    required = workflow.schema.get("required", ())
    properties = {
        name: schema if name in required else _nullable(schema)
        for name, schema in workflow.schema["properties"].items()
    }
    common = {name: {"anyOf": [kind, {"type": "null"}]} for name, kind in common_fields().items()}
    return {**workflow.schema, "properties": {**common, **properties}}


def form(workflow: Workflow) -> Part:
    picture = {
        **TEXT,
        "description": "A file, or a reference as text.",
        "contentMediaType": "image/*",
    }
    properties = workflow.schema["properties"]
    fields = {name: picture if name in workflow.images else p for name, p in properties.items()}
    return {**workflow.schema, "properties": {**common_fields(), **fields}}


def batch(workflow: Workflow) -> Part:
    item = request(workflow)
    item["properties"] |= {KEY: {**IDEMPOTENCY_KEY["schema"], "type": ["string", "null"]}}
    return only(items={"type": "array", "minItems": 1, "maxItems": MOST_ITEMS, "items": item})


def results() -> Part:
    """Of the answer to a batch."""
    result = {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"type": "integer"},
            "job": JOB,
            "error": {"$ref": "#/components/schemas/Problem"},
        },
    }
    return only(results={"type": "array", "items": result})


def page() -> Part:
    """Of a list of jobs."""
    end = (
        "What `after` is to be for the next page. A page may be short, or empty; the last has null."
    )
    return only(
        data={"type": "array", "items": JOB},
        next_cursor={"type": ["string", "null"], "description": end},
        has_more={"type": "boolean"},
    )


def only(**properties: Part) -> Part:
    """An object of exactly these."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _problem() -> Part:
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            **dict.fromkeys(("type", "title", "detail", "instance", "request_id"), TEXT),
            "status": {"type": "integer"},
            "code": _codes([*STATUS, errors.InternalError]),
            "errors": {"type": "array", "items": ANY_OBJECT},
        },
    }


def _codes(kinds: Iterable[type[errors.UnifiedApiError]]) -> Part:
    """What a code can be today. Clients must bear new ones."""
    known = {kind.code: {"const": kind.code, "description": inspect.getdoc(kind)} for kind in kinds}
    return {"anyOf": [*known.values(), TEXT]}


def _below(kind: type[errors.UnifiedApiError]) -> list[type[errors.UnifiedApiError]]:
    return [each for child in kind.__subclasses__() for each in (child, *_below(child))]


def _nullable(schema: Mapping[str, Any]) -> Part:
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}
