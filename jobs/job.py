"""Job: what is known of one job. It never changes; a transition returns a new one."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from pydantic import BaseModel, ConfigDict, Field

from .errors import JobFailed, UnreadableRecord
from .prompt import Progress

#: The end of the year 9999, after which no time can be written.
LAST_MOMENT = 253_402_300_799
#: Every JavaScript program reads whole numbers up to here.
LARGEST_NUMBER = 2**53 - 1

#: What a page may link to, and a header line can carry.
LINK = r"(s3|https?)://[^/\s]+/\S[^\x00-\x1f\x7f]*"

#: Seconds since the epoch, UTC.
Moment = Annotated[float, Field(ge=0, le=LAST_MOMENT, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
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

    name: str
    path: Path
    sha256: str


class Output(Value):
    """A published file; without `s3_uri` it lies on this machine. Its link is made when asked."""

    name: str
    s3_uri: str | None = Field(None, pattern=f"(?i)^{LINK}$")
    content_type: str
    size: Count
    width: Count | None = None
    height: Count | None = None
    sha256: str


class Delivery(Value):
    """How picture results are to be written; None leaves them as ComfyUI wrote them."""

    format: Format | None = None
    quality: int = Field(90, ge=1, le=100)

    @property
    def extension(self) -> str | None:
        return None if self.format is None else {"jpeg": "jpg"}.get(self.format, self.format)


class Webhook(Value):
    """Whom to tell of a job, and of which events; none named are all."""

    url: str
    events: tuple[Event, ...] = ()


class Timings(Value):
    """Milliseconds spent."""

    queued_ms: Count | None = None
    inputs_ms: Count | None = None
    run_ms: Count | None = None
    publish_ms: Count | None = None


class ErrorDetail(Value):
    """Why a job failed, for programs."""

    code: str
    retryable: bool = False
    node_id: str | None = None
    node_class: str | None = None


class Job(Value):
    """One request to run one workflow."""

    job_id: str
    workflow: str
    status: Status = Status.PENDING
    stage: Stage | None = Stage.QUEUED
    #: Effective values: defaults, the seed and a composed prompt are fixed at acceptance.
    parameters: dict[str, Any]
    metadata: dict[str, Any] = {}
    priority: Priority = "normal"
    webhook: Webhook | None = None
    #: The name of the key that submitted it; None where no keys are in use.
    owner: str | None = None
    #: What a repeated request with the same Idempotency-Key must equal.
    fingerprint: str | None = None
    delivery: Delivery = Delivery()
    #: Of the first output, fixed at acceptance so that its address is known before it exists.
    extension: str = "png"
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
    error: str | None = None
    error_detail: ErrorDetail | None = None
    #: Taken from a queue that others take from too: this machine works on it, but does not keep it.
    is_shared: bool = False
    #: The digest of the name of the task table that keeps it; earlier versions told none.
    table: str | None = None

    @property
    def source(self) -> str:
        """Where it was submitted. Jobs of different sources may have the same id."""
        if not self.is_shared:
            return "http"
        return "queue" if self.table is None else f"queue-{self.table}"

    @classmethod
    def unreadable(
        cls, job_id: str, *, workflow: str, owner: str | None, created_at: float = 0.0
    ) -> Job:
        """In the place of a record that this version cannot read; nobody will run it."""
        bare = cls(
            job_id=job_id,
            workflow=workflow,
            parameters={},
            owner=owner,
            due=None,
            created_at=min(max(0.0, created_at), LAST_MOMENT),
        )
        error = UnreadableRecord()
        detail = ErrorDetail(code=error.code)
        return bare._with(status=Status.FAILED, stage=None, error=str(error), error_detail=detail)

    @property
    def is_readable(self) -> bool:
        """False if this stands in the place of a record that cannot be read."""
        return self.error_detail is None or self.error_detail.code != UnreadableRecord.code

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
