"""Notices: which changes of a job are told, to whom, and in which words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

from ..egress.guard import site_of
from ..job import Event, Job, Status, rfc3339

#: Outputs appear together with the end of a job, so there is no event for each of them.
EVENTS: dict[Status, Event] = {
    Status.PROCESSING: "job.started",
    Status.COMPLETED: "job.completed",
    Status.FAILED: "job.failed",
    Status.CANCELLED: "job.cancelled",
}
MAX_BODY_BYTES = 20_000
#: What is left out, one after another, of a job that is too large: its own URL tells it.
SPARED = ("parameters", "outputs", "metadata")
#: The space of the ids of events.
MESSAGES = UUID("0b5c7f0e-3c52-4d0c-9a39-4f3f6f6c5a10")

#: The receiver that the job names, or the one of the server.
Target = Literal["job", "server"]


class Notice(NamedTuple):
    """One event for one receiver, who is yet to know of it."""

    webhook_id: str
    target: Target
    job_id: str
    event: Event
    #: Those to the same site share its places.
    site: str
    #: The job as it was at the event.
    document: str
    #: When it was tried last; before that, when it happened.
    tried_at: float
    tries: int = 0
    #: Its place in the outbox.
    sequence: int = 0


def notices_of(job: Job, *, is_hooked: bool) -> list[Notice]:
    """What is to be told of a job that has just got its status.

    `is_hooked` is whether the server has a receiver of its own, which is told everything.
    """
    sites: dict[Target, str] = {"server": ""} if is_hooked else {}
    event = EVENTS.get(job.status)
    if job.webhook and (not job.webhook.events or event in job.webhook.events):
        sites["job"] = site_of(job.webhook.url)
    if event is None or not sites:
        return []
    webhook_id, document = _webhook_id(job, event), job.model_dump_json()
    return [
        Notice(webhook_id, target, job.job_id, event, site, document, _moment(job))
        for target, site in sites.items()
    ]


def body_of(event: Event, job: Job, data: Mapping[str, Any]) -> bytes:
    """What is sent; `data` is the job as clients see it."""
    told = dict(data)
    for spared in SPARED:
        if len(body := _body(event, job, told)) <= MAX_BODY_BYTES:
            return body
        told.pop(spared, None)
    return _body(event, job, told)


def _body(event: Event, job: Job, data: Mapping[str, Any]) -> bytes:
    message = {"type": event, "timestamp": rfc3339(_moment(job)), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _moment(job: Job) -> float:
    """When it got its status."""
    return job.finished_at or job.started_at or job.created_at


def webhook_ids_of(job: Job) -> set[str]:
    """The ids under which anything may be told of a job. Another may have had its id before."""
    return {_webhook_id(job, event) for event in EVENTS.values()}


def _webhook_id(job: Job, event: Event) -> str:
    """The same on every machine that tells of it; a task may come by the id of a deleted job."""
    return f"msg_{uuid5(MESSAGES, f'{job.job_id}/{job.created_at}/{event}').hex}"
