"""The job as every client sees it. Fields are only ever added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from ..jobs.job import ErrorDetail, Job, Output, Priority, Status, Timings, rfc3339
from ..jobs.links import Link
from ..jobs.prompt import Progress

PREFIX = "/api/v1"


class View(BaseModel):
    """Built when first used, so that loading the plugin takes less of ComfyUI's start."""

    model_config = ConfigDict(defer_build=True)


class ProgressView(View):
    """Position 1 is the next to run. Both it and the time left are null when not known or over."""

    percent: int
    node: str | None
    step: int | None
    steps: int | None
    queue_position: int | None = None
    eta_seconds: int | None = None


class OutputView(View):
    name: str
    url: str
    url_expires_at: str | None
    s3_uri: str | None
    content_type: str
    size: int
    width: int | None
    height: int | None
    sha256: str


class Urls(View):
    self: str
    events: str
    cancel: str


class JobView(View):
    """`result_s3_uri` is, by tradition, the link to the first output, wherever that is."""

    job_id: str
    status: str
    result_s3_uri: str | None
    error: str | None
    result_url: str | None
    workflow: str
    stage: str | None
    progress: ProgressView
    outputs: list[OutputView]
    parameters: dict[str, Any]
    metadata: dict[str, Any]
    priority: Priority
    attempt: int
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    deadline: str | None
    timings: Timings
    error_detail: ErrorDetail | None
    urls: Urls


def view(job: Job, progress: Progress, links: Sequence[Link | None], origin: str) -> JobView:
    """`links` are those of the outputs; `origin` is put before the path of one without a link."""
    outputs = [
        _output(output, link or Link(f"{origin}{_path(job, number)}"))
        for number, (output, link) in enumerate(zip(job.outputs, links, strict=True))
    ]
    result_url = outputs[0].url if outputs else None
    return JobView(
        job_id=job.job_id,
        status=job.status.value,
        result_s3_uri=result_url,
        error=job.error,
        result_url=result_url,
        workflow=job.workflow,
        stage=job.stage.value if job.stage else None,
        progress=progress_view(job, progress),
        outputs=outputs,
        parameters=job.parameters,
        metadata=job.metadata,
        priority=job.priority,
        attempt=job.attempt,
        created_at=rfc3339(job.created_at),
        started_at=rfc3339(job.started_at),
        finished_at=rfc3339(job.finished_at),
        deadline=rfc3339(job.deadline),
        timings=job.timings,
        error_detail=job.error_detail,
        urls=_urls(job),
    )


def _output(output: Output, link: Link) -> OutputView:
    return OutputView(**output.model_dump(), url=link.url, url_expires_at=rfc3339(link.expires_at))


def _path(job: Job, number: int) -> str:
    return f"{_path_of(job)}/outputs/{number}"


def _path_of(job: Job) -> str:
    # Other programs may have given it any id.
    return f"{PREFIX}/jobs/{quote(job.job_id, safe='')}"


def _urls(job: Job) -> Urls:
    path = _path_of(job)
    return Urls(self=path, events=f"{path}/events", cancel=f"{path}/cancel")


def progress_view(job: Job, progress: Progress) -> ProgressView:
    if job.status is Status.COMPLETED:
        return ProgressView(percent=100, node=None, step=None, steps=None)
    return ProgressView(**vars(progress))
