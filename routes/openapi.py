"""The API as OpenAPI 3.1, made from the catalog: it always fits what this server offers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ..workflows import Workflow
from . import openapi_examples as examples
from . import openapi_parts as parts
from . import openapi_schemas as schemas
from .body import common_fields
from .openapi_parts import JOB, JSON, Part, in_path
from .view import PREFIX

NAME = "ComfyUI Unified API Service"
SCOPES = """A key has scopes, and owns the jobs that are submitted with it.

- `submit`: new jobs; one's own jobs by their id: state, events, results
- `read`: one's own jobs, also as a list; the catalog, this document, metrics, reasons of health
- `cancel`: cancelling and deleting one's own jobs
- `read-all`: as `read`, of everybody's jobs
- `admin`: all of it, of everybody's jobs
"""


def describe(workflows: Iterable[Workflow], *, version: str, security: list[Part]) -> Part:
    """The document; `security` is what routes ask for that are not public."""
    offered = list(workflows)
    paths = _fixed_paths()
    for workflow in offered:
        paths |= _tagged(workflow.slug, _paths_of(workflow))
    return {
        "openapi": "3.1.0",
        "info": {"title": NAME, "version": version},
        "tags": [{"name": each.slug, "description": each.title} for each in offered],
        "paths": paths,
        "security": security,
        "x-common-fields": list(common_fields()),
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": SCOPES},
            },
        },
    }


def _fixed_paths() -> dict[str, Part]:
    return {
        **_tagged("Jobs", _job_paths()),
        **_tagged("Workflows", _catalog_paths()),
        **_tagged("Service", _service_paths()),
        **_tagged("Pages", _page_paths()),
    }


def _service_paths() -> dict[str, Part]:
    healthy = "Get the health of each component"
    health = partial(parts.public, unavailable="ComfyUI or the store is dead")
    ready = "Check whether a job accepted now would run"
    metrics = parts.raw("Prometheus text", "text/plain")
    return {
        PREFIX: {
            "get": parts.public("get_service", "Get the name, version and links of the service")
        },
        "/health": {"get": health("get_health", healthy)},
        f"{PREFIX}/health": {"get": health("get_api_health", f"{healthy}, the same as /health")},
        "/ready": {"get": parts.public("get_readiness", ready, unavailable="It would not")},
        "/metrics": {
            "get": parts.operation("get_metrics", "Get metrics for Prometheus", answer=metrics)
        },
        f"{PREFIX}/openapi.json": {"get": parts.get("get_openapi", "Get the OpenAPI document")},
    }


def _page_paths() -> dict[str, Part]:
    dashboard = "Open the dashboard: queue, jobs and health"
    part = parts.page("get_page_part", "Get a file of these pages", in_path("name"))
    return {
        f"{PREFIX}/docs": {"get": parts.page("get_docs", "Open the API documentation")},
        f"{PREFIX}/dashboard": {"get": parts.page("get_dashboard", dashboard)},
        f"{PREFIX}/web/{{name}}": {"get": part},
    }


def _catalog_paths() -> dict[str, Part]:
    return {
        f"{PREFIX}/workflows": {"get": parts.get("list_workflows", "List workflows")},
        f"{PREFIX}/workflows/{{slug}}": {
            "get": parts.get("get_workflow", "Get a workflow", in_path("slug"))
        },
    }


def _job_paths() -> dict[str, Part]:
    job_id, number = in_path("job_id"), in_path("number", {"type": "integer", "minimum": 0})
    every = parts.get(
        "list_jobs", "List jobs, newest first", *parts.selection(), schema=schemas.page()
    )
    deleted = parts.delete("delete_job", "Delete a job that has ended, and its results", job_id)
    summary = "Watch a job (server-sent events)"
    watched = parts.stream("watch_job", summary, job_id, parts.PREVIEWS)
    tries = parts.get("list_deliveries", "List the webhook deliveries of a job", job_id)
    result = parts.file("get_output", "Download an output", job_id, number)
    small = parts.thumbnail("get_thumbnail", "Get a thumbnail of an output", job_id, number)
    one = f"{PREFIX}/jobs/{{job_id}}"
    return {
        f"{PREFIX}/jobs": {"get": every},
        one: {
            "get": parts.get("get_job", "Get a job", job_id, parts.WAIT, schema=JOB),
            "delete": deleted,
        },
        f"{one}/events": {"get": watched},
        f"{one}/deliveries": {"get": tries},
        f"{one}/cancel": {"post": parts.get("cancel_job", "Cancel a job", job_id, schema=JOB)},
        f"{one}/outputs/{{number}}": {"get": result},
        f"{one}/outputs/{{number}}/thumbnail": {"get": small},
    }


def _paths_of(workflow: Workflow) -> dict[str, Part]:
    path, name = f"{PREFIX}/{workflow.slug}/jobs", workflow.slug.replace("-", "_")
    summary = "Get a job of this workflow"
    one = parts.get(f"get_{name}_job", summary, in_path("job_id"), parts.WAIT, schema=JOB)
    return {
        path: {"post": _submit(workflow, f"create_{name}_job")},
        f"{path}:batch": {"post": _batch(workflow, f"create_{name}_jobs")},
        f"{path}/{{job_id}}": {"get": one},
    }


def _submit(workflow: Workflow, name: str) -> Part:
    bodies = examples.bodies(workflow)
    accepted = {each: examples.accepted(workflow, body) for each, body in bodies.items()}
    completed = {each: examples.completed(workflow, body) for each, body in bodies.items()}
    ended = "Ended already, or accepted earlier by an equal request; or a dry run"
    return {
        "operationId": name,
        "summary": workflow.title,
        "description": workflow.description,
        "parameters": [parts.IDEMPOTENCY_KEY, parts.PREFER, parts.CANCEL_AFTER, parts.DRY_RUN],
        "requestBody": {
            "required": True,
            "content": {
                JSON: parts.media(schemas.request(workflow), bodies),
                parts.FORM: parts.media(schemas.form(workflow), bodies),
            },
        },
        "responses": {
            "202": parts.answer("Accepted: the job is on disk", JOB, accepted),
            "200": parts.answer(ended, {"anyOf": [JOB, schemas.REHEARSAL]}, completed),
            "default": parts.problem({"refused": examples.refused(workflow)}),
        },
    }


def _batch(workflow: Workflow, name: str) -> Part:
    items = list(examples.bodies(workflow).values())
    asked = {"many": {"items": items}} if items else {}
    told = {name: examples.results(workflow, items) for name in asked}
    return {
        "operationId": name,
        "summary": f"{workflow.title}, many at once",
        "description": "Each item is accepted or refused by itself; results are in their order.",
        "parameters": [parts.IDEMPOTENCY_KEY, parts.CANCEL_AFTER],
        "requestBody": {
            "required": True,
            "content": {JSON: parts.media(schemas.batch(workflow), asked)},
        },
        "responses": {
            "200": parts.answer("What became of each", schemas.results(), told),
            "default": parts.problem(),
        },
    }


def _tagged(tag: str, paths: dict[str, Part]) -> dict[str, Part]:
    """The same, each operation in a group of this name."""
    return {
        path: {method: {"tags": [tag], **each} for method, each in operations.items()}
        for path, operations in paths.items()
    }
