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
from ..jobs.job import (
    LARGEST_NUMBER,
    LAST_MOMENT,
    Job,
    Output,
    Priority,
    Stage,
    Status,
    is_result_link,
    writable,
)
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
MICROSECONDS = 10**6
#: The last second of lists, so that no cursor has more than 18 digits.
END_OF_TIME = 10**12 - 2


class UnreadableItem(UnifiedApiError):
    """An item of the task table is not a task that this version can run."""

    code = "unreadable_item"


@dataclass(frozen=True)
class Record:
    """A task as the table has it."""

    job: Job
    progress: Progress
    item: Item
    #: How often it was claimed.
    fence: int = 0
    #: When the lease of its worker ends.
    held_until: float = 0.0

    @property
    def is_sent(self) -> bool:
        return self.item.get("enqueue") != UNSENT

    @property
    def is_deleted(self) -> bool:
        return bool(self.item.get("deleted"))

    @property
    def wants_cancel(self) -> bool:
        return bool(self.item.get("cancel_requested"))

    @property
    def sequence(self) -> int:
        """Its place in lists, and a number of its own there: many are created in one second."""
        if not self.job.is_readable:
            # By what the index goes by.
            second = listed_second(_number(self.item.get("created_at")))
            return second * MICROSECONDS + crc32(self.job.job_id.encode()) % MICROSECONDS
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


def remains_of(record: Record) -> Item:
    """What stays of a task that is deleted: that it has ended, for whoever reads or runs tasks."""
    known = {name: record.item[name] for name in REMAINS if name in record.item}
    job = record.job
    if not job.is_readable:
        status = job.status if job.status.is_final else Status.FAILED
        known |= {"status": status.value, "created_at": int(job.created_at)}
        known |= {"job_type": job.workflow, "fence": record.fence}
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
    progress = Progress(percent=percent)
    try:
        fence, held_until = _whole(item.get("fence", 0)), _moment(item.get("lease_until", 0))
        return Record(_job(item), progress, item, fence, held_until)
    except (LookupError, TypeError, ValueError, ArithmeticError, MalformedTask):
        task_id = writable(item["task_id"])
        unreadable.log(logging.ERROR, "the item of task %s cannot be read", task_id)
        return Record(Job.unreadable(task_id, _told(item)), progress, item)


def listed_second(told: Decimal) -> int:
    """The second in which a task is listed that says it was created then."""
    return int(min(max(Decimal(0), told), Decimal(END_OF_TIME)))


def _told(item: Item) -> Item:
    job_type = item.get("job_type")
    return {**item, "workflow": _workflow(job_type) if isinstance(job_type, str) else None}


def _whole(told: object) -> int:
    """Raises ValueError."""
    number = _number(told)
    if number != told or not 0 <= number <= LARGEST_NUMBER or number % 1:
        raise ValueError("this is no whole number")
    return int(number)


def _moment(told: object) -> float:
    """Raises ValueError."""
    number = _number(told)
    if number != told or not 0 <= number <= LAST_MOMENT:
        raise ValueError("this is no time")
    return float(number)


def _number(value: object) -> Decimal:
    """0 in the place of what is none."""
    return value if isinstance(value, Decimal) else Decimal(0)


def _job(item: Mapping[str, Any]) -> Job:
    status = Status(item["status"])
    fixed = {"parameters": {}, **_request(item.get("request", "{}"))}
    if not FIXED.issuperset(fixed):
        raise ValueError("a request fixes nothing else")
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
    if is_result_link(link):
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
