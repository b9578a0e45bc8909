"""Job: what is known of one job. It never changes; a transition returns a new one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from yarl import URL

from .errors import JobFailed, UnreadableRecord
from .prompt import Progress

#: The end of the year 9999, after which no time can be written.
LAST_MOMENT = 253_402_300_799
#: Every JavaScript program reads whole numbers up to here.
LARGEST_NUMBER = 2**53 - 1

#: Seconds since the epoch, UTC.
Moment = Annotated[float, Field(ge=0, le=LAST_MOMENT, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
#: With a bound, pydantic takes no lone surrogate either, which could never be written again.
Text = Annotated[str, Field(max_length=2**20)]
#: It names files and is a part of URLs: no slash, and no dot at its beginning.
JOB_ID = re.compile(r"[\w-][\w .-]{0,127}")
JobId = Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]
#: Of a file name.
Extension = Annotated[str, Field(pattern=r"^[a-z0-9]{1,8}$")]
#: What can stand in a header line.
MediaType = Annotated[str, Field(pattern=r"^[ -~]{0,255}$")]
#: Where a result is, fit for a header line and for a page. Pictures may have any name.
RESULT_LINK = re.compile(r"s3://[\w.-]+/.+|(?i:https?)://[^\s/?#@\"<>\\^`{|}]+([/?#].*)?")
LONGEST_LINK = 8192


def is_result_link(text: str) -> bool:
    """Whether this is a link that anybody may follow, or an object in a bucket."""
    if len(text) > LONGEST_LINK or not text.isprintable() or not RESULT_LINK.fullmatch(text):
        return False
    if text.startswith("s3:"):
        return True
    try:
        return bool(URL(text).host)
    except ValueError:
        return False


def _check_link(text: str) -> str:
    if not is_result_link(text):
        raise ValueError("this is no link to a result")
    return text


ResultLink = Annotated[str, AfterValidator(_check_link)]
Format = Literal["png", "jpeg", "webp"]
Priority = Literal["normal", "high"]
#: The lower goes first. The job store has these numbers.
RANKS: dict[Priority, int] = {"high": 0, "normal": 1}
#: What a webhook can be told of.
Event = Literal["job.started", "job.completed", "job.failed", "job.cancelled"]


class Status(str, Enum):
    """What every client sees. It only moves forward, and a final one never changes."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (Status.PENDING, Status.PROCESSING)


class Stage(str, Enum):
    """The detail of a status that is not final. Clients must bear new ones."""

    QUEUED = "queued"
    FETCHING_INPUTS = "fetching_inputs"
    RUNNING = "running"
    PUBLISHING = "publishing"


class Value(BaseModel):
    """A value of a fixed shape."""

    # Built when first used, so that loading the plugin takes less of ComfyUI's start.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Rendered(Value):
    """A file that ComfyUI left, not yet published."""

    name: Text
    path: Path
    sha256: Text


class Output(Value):
    """A published file; without `s3_uri` it lies on this machine. Its link is made when asked."""

    name: Text
    s3_uri: ResultLink | None = None
    content_type: MediaType
    size: Count
    width: Count | None = None
    height: Count | None = None
    sha256: Text


class Delivery(Value):
    """How picture results are to be written; None leaves them as ComfyUI wrote them."""

    format: Format | None = None
    quality: int = Field(90, ge=1, le=100)

    @property
    def extension(self) -> str | None:
        return None if self.format is None else {"jpeg": "jpg"}.get(self.format, self.format)


class Webhook(Value):
    """Whom to tell of a job, and of which events; none named are all."""

    url: Text
    events: tuple[Event, ...] = ()


class Timings(Value):
    """Milliseconds spent."""

    queued_ms: Count | None = None
    inputs_ms: Count | None = None
    run_ms: Count | None = None
    publish_ms: Count | None = None


class ErrorDetail(Value):
    """Why a job failed, for programs."""

    code: Text
    retryable: bool = False
    node_id: Text | None = None
    node_class: Text | None = None


class Job(Value):
    """One request to run one workflow."""

    job_id: JobId
    workflow: Text
    status: Status = Status.PENDING
    stage: Stage | None = Stage.QUEUED
    #: Effective values: defaults, the seed and a composed prompt are fixed at acceptance.
    parameters: dict[str, Any]
    metadata: dict[str, Any] = {}
    priority: Priority = "normal"
    webhook: Webhook | None = None
    #: The name of the key that submitted it; None where no keys are in use.
    owner: Text | None = None
    #: What a repeated request with the same Idempotency-Key must equal.
    fingerprint: Text | None = None
    delivery: Delivery = Delivery()
    #: Of the first output, fixed at acceptance so that its address is known before it exists.
    extension: Extension = "png"
    #: Executions started.
    attempt: Count = 0
    #: When it may be taken up; None while somebody works on it and when it is final.
    due: float | None = 0.0
    created_at: Moment
    #: When it is to be done.
    deadline: Moment | None = None
    #: When it is given up if it is not begun, or once it is, not done.
    give_up_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    timings: Timings = Timings()
    rendered: tuple[Rendered, ...] = ()
    outputs: tuple[Output, ...] = ()
    error: Text | None = None
    error_detail: ErrorDetail | None = None
    #: Taken from a queue that others take from too: this machine works on it, but does not keep it.
    is_shared: bool = False
    #: The digest of the name of the task table that keeps it; earlier versions told none.
    table: Text | None = None

    @property
    def source(self) -> str:
        """Where it was submitted. Jobs of different sources may have the same id."""
        if not self.is_shared:
            return "http"
        return "queue" if self.table is None else f"queue-{self.table}"

    @classmethod
    def unreadable(cls, job_id: str, told: Mapping[str, object]) -> Job:
        """In the place of a record that this version cannot read; nobody will run it.

        Of its status, workflow, owner and time of creation it has what can be read.
        """
        bare = cls(job_id="-", workflow="", parameters={}, due=None, created_at=0)
        error = UnreadableRecord()
        changes = {
            "job_id": writable(job_id),
            "workflow": _text(told.get("workflow")) or "",
            "owner": _text(told.get("owner")),
            "status": _status(told.get("status")),
            "stage": None,
            "created_at": _nearest_moment(told.get("created_at")),
            "error": str(error),
            "error_detail": ErrorDetail(code=error.code),
        }
        return bare.model_copy(update=changes)

    @property
    def is_readable(self) -> bool:
        """False if this stands in the place of a record that cannot be read."""
        return self.error_detail is None or self.error_detail.code != UnreadableRecord.code

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be told of it: it has ended, or cannot be read."""
        return self.status.is_final or not self.is_readable

    @property
    def next_prompt_id(self) -> str:
        """The id in ComfyUI of the execution that would start now."""
        return self._prompt_id(self.attempt + 1)

    @property
    def prompt_id(self) -> str | None:
        """The id in ComfyUI of the execution that started last."""
        return self._prompt_id(self.attempt) if self.attempt else None

    def fetching(self, *, now: float) -> Job:
        return self._with(
            status=Status.PROCESSING,
            stage=Stage.FETCHING_INPUTS,
            due=None,
            started_at=self.started_at or now,
        )

    def fetched(self, *, inputs_ms: int) -> Job:
        return self._with(stage=Stage.QUEUED, timings=self._timed(inputs_ms=inputs_ms))

    def running(self, *, now: float) -> Job:
        waited_ms = int((now - self.created_at) * 1000) - (self.timings.inputs_ms or 0)
        return self._with(
            stage=Stage.RUNNING,
            attempt=self.attempt + 1,
            give_up_at=self.deadline,
            timings=self._timed(queued_ms=max(0, waited_ms)),
        )

    def publishing(self, rendered: tuple[Rendered, ...], *, run_ms: int) -> Job:
        return self._with(
            stage=Stage.PUBLISHING, rendered=rendered, timings=self._timed(run_ms=run_ms)
        )

    def completed(self, outputs: tuple[Output, ...], *, now: float, publish_ms: int) -> Job:
        return self._with(
            status=Status.COMPLETED,
            stage=None,
            outputs=outputs,
            rendered=(),
            finished_at=now,
            timings=self._timed(publish_ms=publish_ms),
        )

    def failed(self, error: JobFailed, *, now: float) -> Job:
        detail = ErrorDetail(
            code=error.code,
            retryable=error.retryable,
            node_id=error.node_id,
            node_class=error.node_class,
        )
        return self._with(
            status=Status.FAILED,
            stage=None,
            due=None,
            rendered=(),
            finished_at=now,
            error=str(error),
            error_detail=detail,
        )

    def cancelled(self, *, now: float) -> Job:
        return self._with(
            status=Status.CANCELLED, stage=None, due=None, rendered=(), finished_at=now
        )

    def shared(self, *, table: str | None = None, rendered: tuple[Rendered, ...] = ()) -> Job:
        """As a machine takes it up that does not keep it, perhaps with what it rendered before."""
        stage = Stage.PUBLISHING if rendered else self.stage
        return self._with(is_shared=True, table=table, due=None, rendered=rendered, stage=stage)

    def put_back(self, *, due: float) -> Job:
        """To be run again from the start. Still `processing`: a status never goes back."""
        return self._with(stage=Stage.QUEUED, rendered=(), due=due)

    def _prompt_id(self, attempt: int) -> str:
        return str(uuid5(NAMESPACE_OID, f"{self.job_id}/{attempt}"))

    def _timed(self, **spent: int) -> Timings:
        return self.timings.model_copy(update=spent)

    def _with(self, **changes: Any) -> Job:
        if self.status.is_final:
            raise ValueError(f"job {self.job_id} is {self.status.value} and cannot change")
        return self.model_copy(update=changes)


class Submitted(NamedTuple):
    """A job as it was accepted, now or by an earlier equal request, and how far it is."""

    job: Job
    is_replay: bool
    progress: Progress = Progress()


def rfc3339(seconds: float | None) -> str | None:
    """1700000000.5 -> '2023-11-14T22:13:20.500Z'."""
    if seconds is None or seconds == float("inf"):
        return None
    # Never later than it was: what is asked for from this moment on includes it.
    moment = datetime.fromtimestamp(math.floor(seconds * 1000) / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def writable(text: str) -> str:
    """The same text; with another mark for what could not be written again."""
    return text.encode(errors="replace").decode()


def _text(told: object) -> str | None:
    return writable(told) if isinstance(told, str) else None


def _status(told: object) -> Status:
    """Of a record that does not tell it, that its job will not be run."""
    known = {status.value: status for status in Status}
    return known.get(told, Status.FAILED) if isinstance(told, str) else Status.FAILED


def _nearest_moment(told: object) -> float:
    if not isinstance(told, int | float | Decimal) or math.isnan(told):
        return 0.0
    return float(min(max(0, told), LAST_MOMENT))
