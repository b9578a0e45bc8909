"""TaskMessage: what travels on the queue, read and written in this one place."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..jobs import strict_json
from ..jobs.errors import UnifiedApiError
from ..jobs.job import RANKS, Moment, Priority

VERSION = 1
#: What every queue takes, old ones included.
LARGEST_SENT_BYTES = 256 * 1024
#: What any queue can hold.
LARGEST_RECEIVED_BYTES = 1024 * 1024
LONGEST_REASON = 300

#: What is wrong with a field of a message, and with all of it.
MISSING, UNFIT = "is missing", "does not have the form that is expected"
ONE_BODY = "either request_body or claim is needed"

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
API_PATH = re.compile(r"/api/v1/([a-z0-9][a-z0-9-]{0,62})/jobs")


class MalformedTask(UnifiedApiError):
    """The message is not a task. It may tell nevertheless which it was meant to be."""

    code = "malformed_task"

    def __init__(self, message: str, task_id: str | None = None) -> None:
        self.task_id = task_id
        super().__init__(message)


class UnknownVersion(UnifiedApiError):
    """The message was written by a newer version of this service."""

    code = "unknown_version"


class TaskMessage(BaseModel):
    """A task for any worker. Keys that are not known are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    version: int = VERSION
    task_id: str = Field(pattern=f"^{TASK_ID.pattern}$")
    api_path: str = Field(pattern=f"^{API_PATH.pattern}$")
    #: What a worker would be sent by HTTP; None if it lies at `claim`.
    request_body: dict[str, Any] | None = None
    claim: str | None = Field(None, pattern=r"^s3://[^/\s]+/\S+$")
    #: Seconds since the epoch.
    deadline: Moment | None = None
    #: If it is not told here, the body may tell it.
    priority: Priority | None = None

    @field_validator("priority", mode="before")
    @classmethod
    def _leave_aside_what_others_mean(cls, value: Any) -> Any:
        return value if isinstance(value, str) and value in RANKS else None

    @model_validator(mode="after")
    def _has_one_body(self) -> TaskMessage:
        if (self.request_body is None) == (self.claim is None):
            raise ValueError(ONE_BODY)
        return self

    @property
    def workflow(self) -> str:
        slug = workflow_of(self.api_path)
        assert slug is not None
        return slug

    @classmethod
    def parse(cls, text: str) -> TaskMessage:
        """Raises MalformedTask or UnknownVersion; their text is fit for a dead-letter queue."""
        value = parse_object(text, limit=LARGEST_RECEIVED_BYTES)
        version = value.get("version", VERSION)
        if type(version) is int and version != VERSION:
            raise UnknownVersion(f"The message has version {version}; this worker knows {VERSION}.")
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise MalformedTask(_reason(error), _task_id(value)) from error

    def encode(self) -> str:
        """As it is sent."""
        return to_json(self.model_dump(exclude_none=True))


def parse_object(text: str, *, limit: int) -> dict[str, Any]:
    """A JSON object, all of which can be stored and sent on. Raises MalformedTask."""
    if len(text) > limit or size_of(text) > limit:
        raise MalformedTask(f"The message has more than {limit} bytes.")
    try:
        value = strict_json.parse(text)
        _refuse_unfit(value)
    except ValueError as error:
        raise MalformedTask(f"The message is not valid JSON: {error}."[:LONGEST_REASON]) from error
    if not isinstance(value, dict):
        raise MalformedTask("The message is not a JSON object.")
    return value


def to_json(value: Any) -> str:
    """Compact, and without what a queue refuses."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def size_of(text: str) -> int:
    """In bytes, as queues count."""
    return len(text.encode("utf-8", "surrogatepass"))


def api_path_of(workflow: str) -> str:
    return f"/api/v1/{workflow}/jobs"


def workflow_of(api_path: str) -> str | None:
    """The workflow's slug; None for a path that is not exactly that of its jobs."""
    found = API_PATH.fullmatch(api_path)
    return found[1] if found else None


def _refuse_unfit(value: Any) -> None:
    """1e999 is read as infinity, and \\ud800 as a character that cannot be written."""
    try:
        to_json(value).encode()
    except UnicodeEncodeError:
        raise ValueError("it has a lone surrogate") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it has a number that is too large") from None


def _task_id(value: dict[str, Any]) -> str | None:
    task_id = value.get("task_id")
    return task_id if isinstance(task_id, str) and TASK_ID.fullmatch(task_id) else None


def _reason(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    told = MISSING if fault["type"] == "missing" else UNFIT
    return f"The message is not a task: {f'{place} {told}' if place else ONE_BODY}."
