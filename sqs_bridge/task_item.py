"""How a job lies in the task table, and how it is read from there.

Other programs read `task_id`, `status`, `job_type`, `created_at`, `updated_at`, `result_s3_uri`,
`error_message` and `comfy_job_id`, and write such items themselves; ours lie beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zlib import crc32

from ..jobs.errors import UnifiedApiError
from ..jobs.job import Job, Output, Priority, Stage, Status
from ..jobs.prompt import Progress
from .dynamodb import Item
from .message import api_path_of, to_json, workflow_of

#: Fixed at acceptance and kept as JSON text: parameters may be numbers that no table holds.
FIXED = {
    *("parameters", "metadata", "webhook", "fingerprint", "delivery", "extension"),
    *("created_at", "deadline", "give_up_at"),
}
#: What becomes known while a job is worked on; the attributes have the same names.
FOUND_OUT = {"attempt", "started_at", "finished_at", "timings", "outputs", "error_detail"}

#: No more is needed so that no copy of its message is run.
REMAINS = ("task_id", "status", "job_type", "created_at", "fence")

UNSENT = "unsent"
MICROSECONDS = 10**6


class UnreadableItem(UnifiedApiError):
    """An item of the task table is not a task that this version can read."""

    code = "unreadable_item"


@dataclass(frozen=True)
class Record:
    """A task as the table has it."""

    job: Job
    progress: Progress
    item: Item

    @property
    def is_sent(self) -> bool:
        return self.item.get("enqueue") != UNSENT

    @property
    def fence(self) -> int:
        """How often it was claimed."""
        return int(self.item.get("fence", 0))

    @property
    def is_deleted(self) -> bool:
        return bool(self.item.get("deleted"))

    @property
    def held_until(self) -> float:
        """When the lease of its worker ends."""
        return float(self.item.get("lease_until", 0))

    @property
    def wants_cancel(self) -> bool:
        return bool(self.item.get("cancel_requested"))

    @property
    def sequence(self) -> int:
        """Its place in lists, and a number of its own there: many are created in one second."""
        moment = int(self.job.created_at * MICROSECONDS)
        is_exact = moment % MICROSECONDS
        return moment if is_exact else moment + crc32(self.job.job_id.encode()) % MICROSECONDS


def new_item(job: Job) -> Item:
    """A job as it is accepted."""
    fixed = job.model_dump(mode="json", include=FIXED)
    item = {
        "task_id": job.job_id,
        "status": job.status.value,
        "job_type": api_path_of(job.workflow),
        "priority": job.priority,
        "created_at": int(job.created_at),
        "updated_at": int(job.created_at),
        "owner": job.owner,
        "give_up_at": job.give_up_at,
        "request": to_json(fixed),
    }
    return {name: value for name, value in item.items() if value is not None}


def remains_of(item: Item) -> Item:
    """What stays of a task that is deleted: that it has ended, for whoever reads or runs tasks."""
    return {name: item[name] for name in REMAINS if name in item} | {"deleted": True}


def present_state(job: Job) -> Item:
    """What has become known of a job by now."""
    text = job.model_dump_json(include=FOUND_OUT | {"stage"}, exclude_none=True)
    state: Item = json.loads(text, parse_float=Decimal)
    known = {"comfy_job_id": job.prompt_id, "error_message": job.error}
    return state | {name: value for name, value in known.items() if value is not None}


def record_of(item: Item) -> Record:
    """Raises UnreadableItem."""
    try:
        return Record(_job(item), Progress(percent=int(item.get("percent", 0))), item)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableItem() from error


def _job(item: Mapping[str, Any]) -> Job:
    status = Status(item["status"])
    fixed = {"parameters": {}, **json.loads(item.get("request", "{}"))}
    return Job(
        **{**fixed, "created_at": _created_at(item, fixed)},
        **{name: item[name] for name in FOUND_OUT - {"outputs"} if name in item},
        job_id=item["task_id"],
        workflow=workflow_of(item["job_type"]) or item["job_type"],
        status=status,
        stage=None if status.is_final else _stage(item.get("stage")),
        due=0.0 if status is Status.PENDING else None,
        owner=item.get("owner"),
        priority=_priority(item.get("priority")),
        outputs=_outputs(item),
        error=item.get("error_message"),
    )


def _created_at(item: Mapping[str, Any], fixed: Mapping[str, Any]) -> float:
    """To the fraction if that is known. Lists are in the order of the attribute, so that counts."""
    exact = float(fixed.get("created_at", 0))
    return exact if int(exact) == int(item["created_at"]) else float(item["created_at"])


def _priority(told: object) -> Priority:
    """Other programs may mean something else by it, and newer ones know more."""
    return "high" if told == "high" else "normal"


def _stage(name: str | None) -> Stage:
    """Newer workers may have stages that are not known here."""
    return Stage(name) if name in {stage.value for stage in Stage} else Stage.QUEUED


def _outputs(item: Mapping[str, Any]) -> tuple[Output, ...]:
    if "outputs" in item:
        return tuple(map(Output.model_validate, item["outputs"]))
    if link := item.get("result_s3_uri"):
        # Another program told no more than the link.
        return (Output(name="image", s3_uri=link, content_type="image/png", size=0, sha256=""),)
    return ()
