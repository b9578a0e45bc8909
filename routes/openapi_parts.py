"""What operations of the OpenAPI document are put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..jobs.job import Status
from .deadline import SYNTAX
from .door import LONGEST_IDEMPOTENCY_KEY

Part = dict[str, Any]

JSON, PROBLEM, FORM = "application/json", "application/problem+json", "multipart/form-data"
TEXT: Part = {"type": "string"}
ANY_OBJECT: Part = {"type": "object"}
JOB: Part = {"$ref": "#/components/schemas/JobView"}

IDEMPOTENCY_KEY: Part = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and body give the same job again.",
    "schema": {**TEXT, "minLength": 1, "maxLength": LONGEST_IDEMPOTENCY_KEY},
}
WAIT: Part = {
    "name": "wait",
    "in": "query",
    "description": "Answer when the job has ended, or after so many seconds (60 at most).",
    "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
}
PREFER: Part = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=n`: answer when the job has ended, or after n seconds (60 at most).",
    "schema": TEXT,
}
CANCEL_AFTER: Part = {
    "name": "Cancel-After",
    "in": "header",
    "description": "The job is given up if it is not done in this time: 90, 1m, 1h30m.",
    "schema": {**TEXT, "pattern": f"^{SYNTAX}$"},
}
DRY_RUN: Part = {
    "name": "dry_run",
    "in": "query",
    "description": "Only judge the request, and show the graph that it makes.",
    "schema": {"type": "boolean", "default": False},
}

PREVIEWS: Part = {
    "name": "previews",
    "in": "query",
    "description": "Show small pictures of what is not yet done, where ComfyUI makes them.",
    "schema": {"type": "boolean", "default": False},
}


def selection() -> list[Part]:
    """By what a list of jobs is narrowed."""
    kinds: dict[str, Part] = {
        "status": {**TEXT, "enum": [status.value for status in Status]},
        "workflow": TEXT,
        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        "after": {**TEXT, "pattern": r"^[0-9]{1,18}(\.[a-z]+\.[A-Za-z0-9_-]*)?$"},
        "created_after": {**TEXT, "format": "date-time"},
        "created_before": {**TEXT, "format": "date-time"},
    }
    return [{"name": name, "in": "query", "schema": kind} for name, kind in kinds.items()]


def in_path(name: str, schema: Part = TEXT) -> Part:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def operation(name: str, summary: str, *parameters: Part, answer: Part) -> Part:
    """One that answers 200, or with a problem. Names are for the makers of clients."""
    return {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": answer, "default": problem()},
    }


def get(name: str, summary: str, *parameters: Part, schema: Part = ANY_OBJECT) -> Part:
    return operation(name, summary, *parameters, answer=answer("OK", schema))


def public(name: str, summary: str, *, unavailable: str | None = None) -> Part:
    shown: Part = {**get(name, summary), "security": []}
    if unavailable:
        shown["responses"]["503"] = answer(unavailable, ANY_OBJECT)
    return shown


def page(name: str, summary: str, *parameters: Part) -> Part:
    kind = "*/*" if parameters else "text/html"
    return {**operation(name, summary, *parameters, answer=raw("OK", kind)), "security": []}


def delete(name: str, summary: str, *parameters: Part) -> Part:
    deleted = operation(name, summary, *parameters, answer={})
    deleted["responses"] = {"204": {"description": "It is gone"}, "default": problem()}
    return deleted


def file(name: str, summary: str, *parameters: Part) -> Part:
    told = operation(
        name, summary, *parameters, answer=raw("The file, if it is kept on this machine", "*/*")
    )
    told["responses"]["206"] = raw("A part of the file", "*/*")
    return told


def thumbnail(name: str, summary: str, *parameters: Part) -> Part:
    told = operation(name, summary, *parameters, answer=raw("256 pixels at most", "image/webp"))
    told["responses"]["307"] = {"description": "The whole one, where none is made small"}
    return told


def stream(name: str, summary: str, *parameters: Part) -> Part:
    told = raw("Its changes, to its end or to a `problem`", "text/event-stream")
    streamed = operation(name, summary, *parameters, answer=told)
    streamed["responses"]["204"] = {"description": "There is no more to tell"}
    return streamed


def answer(description: str, schema: Part, examples: Mapping[str, Any] | None = None) -> Part:
    return {"description": description, "content": {JSON: media(schema, examples)}}


def problem(examples: Mapping[str, Any] | None = None) -> Part:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": "Refused", "content": {PROBLEM: media(schema, examples)}}


def raw(description: str, kind: str) -> Part:
    """Something that has no schema."""
    return {"description": description, "content": {kind: {}}}


def media(schema: Part, examples: Mapping[str, Any] | None = None) -> Part:
    """`examples` by their names."""
    shown: Part = {name: {"value": value} for name, value in (examples or {}).items()}
    return {"schema": schema, "examples": shown} if shown else {"schema": schema}
