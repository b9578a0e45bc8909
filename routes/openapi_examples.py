"""Examples for the OpenAPI document: made by what judges and answers real requests."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ..jobs.errors import InvalidParameters
from ..jobs.job import Job, Output
from ..jobs.prompt import Progress
from ..workflows import Workflow
from .problems import problem
from .view import PREFIX, view

Values = dict[str, Any]

PICTURE = "https://example.com/photo.jpg"
ORIGIN = "http://127.0.0.1:8188"
SEED, CREATED_AT = 42, 1_767_225_600.0
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PLAIN: dict[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True}


def bodies(workflow: Workflow) -> dict[str, Values]:
    """Requests by what they show; none where it is not known what the workflow accepts."""
    short = {name: _sample(workflow, name) for name in workflow.schema.get("required", ())}
    if None in short.values():
        return {}
    told = {name: _told(workflow, name) for name in workflow.schema["properties"]}
    full = {name: value for name, value in told.items() if value is not None} | short
    return {"short": short, "full": full} if full != short else {"short": short}


def accepted(workflow: Workflow, body: Mapping[str, Any]) -> Values:
    """The job that a request becomes."""
    return _shown(_job(workflow, body))


def completed(workflow: Workflow, body: Mapping[str, Any]) -> Values:
    """The same once it is done."""
    job = _job(workflow, body).fetching(now=CREATED_AT).fetched(inputs_ms=120)
    running = job.running(now=CREATED_AT + 0.5)
    published = running.publishing((), run_ms=3_100)
    return _shown(published.completed((_output(workflow),), now=CREATED_AT + 4, publish_ms=80))


def refused(workflow: Workflow) -> Values:
    """The answer to a request that has what the workflow does not know, and nothing else."""
    error = InvalidParameters(workflow.violations({"unknown": 1}))
    return problem(error, path=f"{PREFIX}/{workflow.slug}/jobs", request_id="a-request")


def results(workflow: Workflow, items: Iterable[Mapping[str, Any]]) -> Values:
    """The answer to a batch."""
    return {"results": [{"status": 202, "job": accepted(workflow, item)} for item in items]}


def _told(workflow: Workflow, name: str) -> Any:
    """What the definition itself says of a value; nothing for what phrases make."""
    if workflow.phrases and name == workflow.phrases.into:
        return None
    schema = workflow.schema["properties"][name]
    return _fit(workflow, name, [*schema.get("examples", ()), schema.get("default")])


def _sample(workflow: Workflow, name: str) -> Any:
    return _fit(workflow, name, _candidates(workflow, name))


def _fit(workflow: Workflow, name: str, values: Iterable[Any]) -> Any:
    """The first that the workflow accepts."""
    return next((value for value in values if _fits(workflow, name, value)), None)


def _candidates(workflow: Workflow, name: str) -> Iterator[Any]:
    schema = workflow.schema["properties"][name]
    yield from schema.get("examples", ())
    yield from (schema[word] for word in ("default", "minimum", "maximum") if word in schema)
    yield from schema.get("enum", ())
    yield PICTURE if name in workflow.images else PLAIN[schema["type"]]


def _fits(workflow: Workflow, name: str, value: Any) -> bool:
    return all(fault.parameter != name for fault in workflow.violations({name: value}))


def _job(workflow: Workflow, body: Mapping[str, Any]) -> Job:
    return Job(
        job_id=str(uuid5(NAMESPACE_URL, workflow.slug)),
        workflow=workflow.slug,
        parameters=workflow.complete(body, seed=SEED),
        extension=workflow.extension,
        created_at=CREATED_AT,
    )


def _output(workflow: Workflow) -> Output:
    kind, _ = mimetypes.guess_type(f"result.{workflow.extension}", strict=False)
    return Output(
        name=next(iter(workflow.outputs)),
        content_type=kind or "application/octet-stream",
        size=181_342,
        width=1024,
        height=768,
        sha256=SHA256,
    )


def _shown(job: Job) -> Values:
    links = [None] * len(job.outputs)
    return view(job, Progress(), links, ORIGIN).model_dump(mode="json")
