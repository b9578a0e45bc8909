"""How a job lies in the task table, and how it is read from there.

Other programs read `task_id`, `status`, `job_type`, `created_at`, `updated_at`, `result_s3_uri`,
`error_message` and `comfy_job_id`, and write such items themselves; ours lie beside.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zlib import crc32

from ..jobs.counted_log import CountedLog
from ..jobs.errors import UnifiedApiError
from ..jobs.job import LINK, Job, Output, Priority, Stage, Status
from ..jobs.prompt import Progress
from .dynamodb import Item
from .message import MalformedTask, api_path_of, parse_object, to_json, workflow_of

#: Once for each item, not for each request that meets it.
unreadable = CountedLog(logging.getLogger(__name__), seconds=math.inf)

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
#: DynamoDB takes no larger ones.
LARGEST_ITEM_BYTES = 400 * 1024
#: A link as programs write it whose CDN is set without a scheme.
CDN_LINK = re.compile(r"[a-z0-9.-]+\.[a-z0-9-]+(:\d+)?/\S", re.IGNORECASE)
IS_LINK = re.compile(LINK, re.IGNORECASE)
MICROSECONDS = 10**6


class UnreadableItem(UnifiedApiError):
    """An item of the task table is not a task that this version can run."""

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
        return int(_number(self.item.get("fence")))

    @property
    def is_deleted(self) -> bool:
        return bool(self.item.get("deleted"))

    @property
    def held_until(self) -> float:
        """When the lease of its worker ends."""
        return float(_number(self.item.get("lease_until")))

    @property
    def wants_cancel(self) -> bool:
        return bool(self.item.get("cancel_requested"))

    @property
    def sequence(self) -> int:
        """Its place in lists, and a number of its own there: many are created in one second."""
        # Of one that cannot be read, what the index goes by.
        is_readable, told = self.job.is_readable, _number(self.item.get("created_at"))
        moment = int((self.job.created_at if is_readable else told) * MICROSECONDS)
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


def remains_of(record: Record) -> Item:
    """What stays of a task that is deleted: that it has ended, for whoever reads or runs tasks."""
    known = {name: record.item[name] for name in REMAINS if name in record.item}
    if not record.job.is_readable:
        known |= {"status": record.job.status.value, "created_at": int(record.job.created_at)}
        known |= {"job_type": str(record.item.get("job_type")), "fence": record.fence}
    return known | {"deleted": True}


def present_state(job: Job) -> Item:
    """What has become known of a job by now."""
    text = job.model_dump_json(include=FOUND_OUT | {"stage"}, exclude_none=True)
    state: Item = json.loads(text, parse_float=Decimal)
    known = {"comfy_job_id": job.prompt_id, "error_message": job.error}
    return state | {name: value for name, value in known.items() if value is not None}


def record_of(item: Item) -> Record:
    """What there is to show of an item, whatever others have written into it."""
    percent = min(max(0, int(_number(item.get("percent")))), 100)
    return Record(_readable_job(item) or _unreadable_job(item), Progress(percent=percent), item)


def _readable_job(item: Item) -> Job | None:
    try:
        job = _job(item)
        # A lone surrogate is only found by writing it.
        job.model_dump_json()
        return job
    except (LookupError, TypeError, ValueError, ArithmeticError, MalformedTask):
        unreadable.log(logging.ERROR, "the item of task %s cannot be read", item["task_id"])
        return None


def _unreadable_job(item: Item) -> Job:
    return Job.unreadable(
        _text(item["task_id"]) or "",
        workflow=_workflow(_text(item.get("job_type")) or ""),
        owner=_text(item.get("owner")),
        created_at=float(_number(item.get("created_at"))),
    )


def _text(value: object) -> str | None:
    """As much of it as can be written."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _number(value: object) -> Decimal:
    """0 in the place of what is none."""
    return value if isinstance(value, Decimal) else Decimal(0)


def _job(item: Mapping[str, Any]) -> Job:
    status = Status(item["status"])
    fixed = {"parameters": {}, **_request(item.get("request", "{}"))}
    return Job(
        **{**fixed, "created_at": _created_at(item, fixed)},
        **{name: item[name] for name in FOUND_OUT - {"outputs"} if name in item},
        job_id=item["task_id"],
        workflow=_workflow(item["job_type"]),
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
    link = str(item.get("result_s3_uri", ""))
    if CDN_LINK.match(link):
        link = f"https://{link}"
    if IS_LINK.fullmatch(link):
        # Another program told no more than the link.
        return (Output(name="image", s3_uri=link, content_type="image/png", size=0, sha256=""),)
    return ()


def _request(text: object) -> dict[str, Any]:
    """What is fixed of a job since its acceptance. Raises MalformedTask."""
    if not isinstance(text, str):
        raise MalformedTask("The request is no text.")
    return parse_object(text, limit=LARGEST_ITEM_BYTES)


def _workflow(path: str) -> str:
    """Other services have paths of their own."""
    return workflow_of(path) or path
