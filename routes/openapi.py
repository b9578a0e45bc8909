"""The API as OpenAPI 3.1, made from the catalog: it always fits what this server offers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from ..jobs.job import Status
from ..workflows import Workflow
from .batch import KEY, MOST_ITEMS
from .body import common_fields
from .deadline import SYNTAX
from .door import LONGEST_IDEMPOTENCY_KEY
from .service import service_of, surface_of
from .view import PREFIX, JobView

Part = dict[str, Any]

NAME = "ComfyUI Unified API Service"
JSON, PROBLEM, FORM = "application/json", "application/problem+json", "multipart/form-data"
TEXT: Part = {"type": "string"}
ANY_OBJECT: Part = {"type": "object"}
JOB: Part = {"$ref": "#/components/schemas/JobView"}
PROBLEM_SCHEMA: Part = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        **dict.fromkeys(("type", "title", "detail", "instance", "code", "request_id"), TEXT),
        "status": {"type": "integer"},
        "errors": {"type": "array", "items": ANY_OBJECT},
    },
}
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
REHEARSAL: Part = {
    "type": "object",
    "required": ["workflow", "parameters", "graph"],
    "properties": {"workflow": TEXT, "parameters": ANY_OBJECT, "graph": ANY_OBJECT},
}
RESULTS: Part = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"type": "integer"},
            "job": JOB,
            "error": {"$ref": "#/components/schemas/Problem"},
        },
    },
}


async def document(request: web.Request) -> web.Response:
    surface = surface_of(request)
    offered = service_of(request).offer.all()
    described = describe(
        [one.workflow for one in offered if one.workflow],
        version=surface.version,
        security=[{"key": []}] if surface.keyring.is_required else [],
    )
    text = json.dumps(described, ensure_ascii=False)
    return web.Response(text=text, content_type=JSON, headers={"Cache-Control": "no-store"})


def describe(workflows: Iterable[Workflow], *, version: str, security: list[Part]) -> Part:
    """The document; `security` is what routes ask for that are not public."""
    job_schema = JobView.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = {**job_schema.pop("$defs"), "JobView": job_schema, "Problem": PROBLEM_SCHEMA}
    paths = _fixed_paths()
    for workflow in workflows:
        paths |= _paths_of(workflow)
    return {
        "openapi": "3.1.0",
        "info": {"title": NAME, "version": version},
        "paths": paths,
        "security": security,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _fixed_paths() -> dict[str, Part]:
    health = _public("How each part of the service is", unavailable="ComfyUI or the store is dead")
    ready = _public("Whether a job accepted now would run", unavailable="It would not")
    job_id, number = _in_path("job_id"), _in_path("number", {"type": "integer", "minimum": 0})
    return {
        PREFIX: {"get": _public("What the service is")},
        "/health": {"get": health},
        f"{PREFIX}/health": {"get": health},
        "/ready": {"get": ready},
        "/metrics": {"get": _text("What Prometheus is told")},
        f"{PREFIX}/openapi.json": {"get": _public("This document")},
        f"{PREFIX}/workflows": {"get": _get("The catalog")},
        f"{PREFIX}/workflows/{{slug}}": {"get": _get("A workflow", _in_path("slug"))},
        f"{PREFIX}/jobs": {"get": _get("Jobs, newest first", *_list_parameters())},
        f"{PREFIX}/jobs/{{job_id}}": {
            "get": _get("A job", job_id, WAIT, schema=JOB),
            "delete": _delete(job_id),
        },
        f"{PREFIX}/jobs/{{job_id}}/events": {"get": _stream(job_id)},
        f"{PREFIX}/jobs/{{job_id}}/deliveries": {"get": _get("Tries to tell webhooks", job_id)},
        f"{PREFIX}/jobs/{{job_id}}/cancel": {"post": _get("Cancel a job", job_id, schema=JOB)},
        f"{PREFIX}/jobs/{{job_id}}/outputs/{{number}}": {"get": _file(job_id, number)},
    }


def _paths_of(workflow: Workflow) -> dict[str, Part]:
    submit = {
        "summary": workflow.title,
        "description": workflow.description,
        "parameters": [IDEMPOTENCY_KEY, PREFER, CANCEL_AFTER, DRY_RUN],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": request_schema(workflow)},
                FORM: {"schema": _form_schema(workflow)},
            },
        },
        "responses": {
            "202": _answer("Accepted: the job is on disk", JOB),
            "200": _answer(
                "Ended already, or accepted earlier by an equal request; or a dry run",
                {"anyOf": [JOB, REHEARSAL]},
            ),
            "default": _problem(),
        },
    }
    path = f"{PREFIX}/{workflow.slug}/jobs"
    one = _get("A job of this workflow", _in_path("job_id"), WAIT, schema=JOB)
    return {
        path: {"post": submit},
        f"{path}:batch": {"post": _batch(workflow)},
        f"{path}/{{job_id}}": {"get": one},
    }


def _batch(workflow: Workflow) -> Part:
    item = request_schema(workflow)
    item["properties"] |= {KEY: {**IDEMPOTENCY_KEY["schema"], "type": ["string", "null"]}}
    items = {"type": "array", "minItems": 1, "maxItems": MOST_ITEMS, "items": item}
    return {
        "summary": f"{workflow.title}, many at once",
        "description": "Each item is accepted or refused by itself; results are in their order.",
        "parameters": [IDEMPOTENCY_KEY, CANCEL_AFTER],
        "requestBody": {"required": True, "content": {JSON: {"schema": _only(items=items)}}},
        "responses": {
            "200": _answer("What became of each", _only(results=RESULTS)),
            "default": _problem(),
        },
    }


def _only(**properties: Part) -> Part:
    """An object of exactly these."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def request_schema(workflow: Workflow) -> Part:
    """The schema of a request body, in which null stands for what is left out."""
    required = workflow.schema.get("required", ())
    properties = {
        name: schema if name in required else _nullable(schema)
        for name, schema in workflow.schema["properties"].items()
    }
    common = {name: {"anyOf": [kind, {"type": "null"}]} for name, kind in common_fields().items()}
    return {**workflow.schema, "properties": {**common, **properties}}


def _form_schema(workflow: Workflow) -> Part:
    picture = {**TEXT, "description": "A file, or a reference as text."}
    properties = workflow.schema["properties"]
    fields = {name: picture if name in workflow.images else p for name, p in properties.items()}
    return {**workflow.schema, "properties": {**common_fields(), **fields}}


def _nullable(schema: Mapping[str, Any]) -> Part:
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}


def _get(summary: str, *parameters: Part, schema: Part = ANY_OBJECT) -> Part:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": _answer(summary, schema), "default": _problem()},
    }


def _public(summary: str, *, unavailable: str | None = None) -> Part:
    shown: Part = {**_get(summary), "security": []}
    if unavailable:
        shown["responses"]["503"] = _answer(unavailable, ANY_OBJECT)
    return shown


def _delete(*parameters: Part) -> Part:
    return {
        "summary": "Delete a job that has ended, and its results",
        "parameters": list(parameters),
        "responses": {"204": {"description": "It is gone"}, "default": _problem()},
    }


def _file(*parameters: Part) -> Part:
    answer = {"description": "The file", "content": {"*/*": {}}}
    file = _get("A result that is kept on this machine", *parameters)
    file["responses"] |= {"200": answer, "206": answer}
    return file


def _text(summary: str) -> Part:
    text = _get(summary)
    text["responses"]["200"] = {"description": summary, "content": {"text/plain": {}}}
    return text


def _stream(*parameters: Part) -> Part:
    answer = {"description": "Its changes, to its end", "content": {"text/event-stream": {}}}
    stream = _get("A job as a stream of server-sent events", *parameters)
    stream["responses"] |= {"200": answer, "204": {"description": "There is no more to tell"}}
    return stream


def _list_parameters() -> list[Part]:
    kinds: dict[str, Part] = {
        "status": {**TEXT, "enum": [status.value for status in Status]},
        "workflow": TEXT,
        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        "after": {**TEXT, "pattern": "^[0-9]{1,18}$"},
        "created_after": {**TEXT, "format": "date-time"},
        "created_before": {**TEXT, "format": "date-time"},
    }
    return [{"name": name, "in": "query", "schema": kind} for name, kind in kinds.items()]


def _in_path(name: str, schema: Part = TEXT) -> Part:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _answer(description: str, schema: Part) -> Part:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _problem() -> Part:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": "Refused", "content": {PROBLEM: {"schema": schema}}}
