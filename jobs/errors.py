"""Every error a caller can meet, in one tree. A class's docstring is its default message.

UnifiedApiError
├── RequestRefused      before a job exists: the request is answered with a problem
│   ├── MalformedBody · UnsupportedBody · BodyTooLarge
│   ├── UnknownWorkflow · UnhealthyWorkflow · InvalidParameters
│   ├── UnknownJob · UnknownOutput · InvalidQuery · IdempotencyKeyReused · InvalidIdempotencyKey
│   ├── InvalidCancelAfter · JobNotFinished · KeptInTable
│   ├── AuthNotConfigured · Unauthorized · Forbidden · ForeignOrigin · UnknownHost
│   ├── BodyTimeout · RateLimited · TooManyJobs · TooManyStreams
│   └── QueueFull · NotReady · StorageUnavailable · NoRoom
└── JobFailed           a known end of a job: it becomes the job's `error` and `error_detail`
    ├── InputFetchFailed · InputInvalid · ForbiddenSource · ConversionFailed
    ├── WorkflowInvalid · ExecutionFailed · OutOfMemory
    ├── Interrupted · TimedOut · PromptVanished
    ├── Unfit · NoWorker · IdTaken · DeadlineExceeded
    ├── CrashLoop · NoOutput · OutputLost · PublishFailed · DiskFull
    ├── UnreadableRecord · InternalError
    └── StorageDenied · StorageUnreachable · ObjectTaken · ObjectUnknown
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..workflows import Violation


class UnifiedApiError(Exception):
    """Something went wrong."""

    code = "error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class RequestRefused(UnifiedApiError):
    """The request was refused."""

    code = "request_refused"


class MalformedBody(RequestRefused):
    """The request body is not a JSON object. Send one, or a multipart form."""

    code = "malformed_body"


class UnsupportedBody(RequestRefused):
    """Send the body as application/json or multipart/form-data, without Content-Encoding."""

    code = "unsupported_body"


class BodyTooLarge(RequestRefused):
    """The request body is too large."""

    code = "body_too_large"


class UnknownWorkflow(RequestRefused):
    """There is no workflow of this name. GET /api/v1/workflows lists them."""

    code = "unknown_workflow"


class UnhealthyWorkflow(RequestRefused):
    """This workflow cannot run on this machine. GET /api/v1/workflows says what is missing."""

    code = "workflow_unhealthy"


class InvalidParameters(RequestRefused):
    """The parameters do not fit the workflow; see `errors`."""

    code = "invalid_parameters"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__()
        self.violations = tuple(violations)


class UnknownJob(RequestRefused):
    """There is no job of this id."""

    code = "unknown_job"


class UnknownOutput(RequestRefused):
    """The job has no output of this number on this machine."""

    code = "unknown_output"


class JobNotFinished(RequestRefused):
    """Only a job that has ended can be deleted. Cancel it first."""

    code = "job_not_finished"


class KeptInTable(RequestRefused):
    """This job is kept in a task table. Have an orchestrator of that table delete it."""

    code = "kept_in_table"


class InvalidQuery(RequestRefused):
    """A query parameter is not valid."""

    code = "invalid_query"


class QueueFull(RequestRefused):
    """Too many jobs are waiting. Try again later."""

    code = "queue_full"


class IdempotencyKeyReused(RequestRefused):
    """This Idempotency-Key was used before with another workflow or other parameters."""

    code = "idempotency_key_reused"


class InvalidIdempotencyKey(RequestRefused):
    """An Idempotency-Key is one header of 1 to 255 printable ASCII characters."""

    code = "invalid_idempotency_key"


class InvalidCancelAfter(RequestRefused):
    """Cancel-After is a time of 1 second to 30 days, written as 90, 1m or 1h30m."""

    code = "invalid_cancel_after"


class BodyTimeout(RequestRefused):
    """The request body did not arrive in time (UNIFIED_API_BODY_TIMEOUT)."""

    code = "body_timeout"


class NotReady(RequestRefused):
    """The service is not ready to take jobs. GET /health says why."""

    code = "not_ready"


NOT_DELETED = "The results could not be deleted, so the job is still there. Try again later."


class StorageUnavailable(RequestRefused):
    """The job could not be stored, so it was not accepted. Check the disk of the server."""

    code = "storage_unavailable"


class NoRoom(RequestRefused):
    """The disk of this server is full."""

    code = "no_room"


#: How a disk says that it is full.
FULL = (errno.ENOSPC, errno.EDQUOT)


def refused_by_disk(error: OSError) -> RequestRefused:
    """What a request is told when the disk refuses."""
    passes = error.errno is not None and error.errno not in FULL
    return StorageUnavailable() if passes else NoRoom()


class AuthNotConfigured(RequestRefused):
    """This server can be reached from the network but has no API keys, so it runs no jobs.

    Make a key with `./install.sh key add NAME`, let the server listen on 127.0.0.1, or set
    UNIFIED_API_ALLOW_ANONYMOUS=1 if everybody who can reach this port is meant to run jobs.
    """

    code = "auth_not_configured"


class Unauthorized(RequestRefused):
    """Send one header `Authorization: Bearer KEY` with a key of this server."""

    # The same words whatever was wrong, so that guessing teaches nothing.
    code = "unauthorized"


class Forbidden(RequestRefused):
    """This key does not have the scope that the request needs."""

    code = "forbidden"


class ForeignOrigin(RequestRefused):
    """Web pages of other origins may not call this server (UNIFIED_API_CORS_ORIGINS)."""

    code = "foreign_origin"


class UnknownHost(RequestRefused):
    """Without API keys, this server answers to localhost only. Keys let it have any name."""

    code = "unknown_host"


class RateLimited(RequestRefused):
    """Too many jobs in too short a time with this key."""

    code = "rate_limited"

    def __init__(self, message: str | None = None, *, wait_seconds: int = 1) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class TooManyJobs(RequestRefused):
    """As many jobs of this key are under way as it may have. Wait until one has ended."""

    code = "too_many_jobs"


class TooManyStreams(RequestRefused):
    """This key streams and waits as often at once as it may (UNIFIED_API_MAX_STREAMS)."""

    code = "too_many_streams"


class JobFailed(UnifiedApiError):
    """The job failed."""

    code = "job_failed"
    #: How often the service itself runs the job again, within UNIFIED_API_MAX_ATTEMPTS.
    retries = 0

    def __init__(
        self,
        message: str | None = None,
        *,
        node_id: str | None = None,
        node_class: str | None = None,
    ) -> None:
        super().__init__(message)
        self.node_id = node_id
        self.node_class = node_class

    @property
    def retryable(self) -> bool:
        """Whether the same job may succeed when it is run again."""
        return self.retries > 0


class InputFetchFailed(JobFailed):
    """An input picture could not be fetched."""

    code = "input_fetch_failed"


class InputInvalid(JobFailed):
    """An input is not a picture this service can read (PNG, JPEG or WebP)."""

    code = "input_invalid"


#: Of every s3:// reference that is refused, whatever the reason.
NOT_READABLE = (
    "This object is not read for you. Name a result or an upload of your own jobs, or what lies in"
    " a folder that the operator opened (UNIFIED_API_S3_READ_BUCKETS); or upload the picture."
)


class ForbiddenSource(JobFailed):
    """Pictures are not fetched from there. Use a public http or https URL, or upload it."""

    # Never say more: what was refused, and why, would map the network behind this machine.
    code = "forbidden_source"


class ConversionFailed(JobFailed):
    """The result is not a picture that can be written in the format asked for."""

    code = "conversion_failed"


class WorkflowInvalid(JobFailed):
    """ComfyUI refused the workflow."""

    code = "workflow_invalid"


class ExecutionFailed(JobFailed):
    """A node of the workflow failed."""

    code = "execution_failed"


class OutOfMemory(JobFailed):
    """The GPU ran out of memory."""

    code = "out_of_memory"
    #: ComfyUI unloads all models when it happens, so a second run finds more room.
    retries = 1


class Interrupted(JobFailed):
    """The run was interrupted in ComfyUI by somebody else."""

    code = "interrupted"


class TimedOut(JobFailed):
    """The job ran for longer than the server or its workflow allows, and was interrupted."""

    code = "timed_out"


class PromptVanished(JobFailed):
    """The job was removed from ComfyUI's queue by somebody else."""

    code = "removed_from_queue"
    retries = 100


class CrashLoop(JobFailed):
    """ComfyUI died each time it ran this job, so it is not tried again."""

    code = "crash_loop"


class Unfit(JobFailed):
    """The parameters of the task do not fit the workflow."""

    # Of a request and of a task it is the same mistake.
    code = InvalidParameters.code


class NoWorker(JobFailed):
    """No worker that got the task can run its workflow."""

    code = "no_worker"


class IdTaken(JobFailed):
    """The task has the id of a job of the worker's own. Send it again with another id."""

    code = "id_taken"


class DeadlineExceeded(JobFailed):
    """The job was given up: it was not begun, or not done, in the time it had."""

    code = "deadline_exceeded"


class NoOutput(JobFailed):
    """The workflow ended without any output."""

    code = "no_output"


class PublishFailed(JobFailed):
    """The result could not be stored."""

    code = "publish_failed"
    retries = 100


class OutputLost(JobFailed):
    """A result changed or vanished on disk before it was stored."""

    code = "output_lost"
    retries = 1


class StorageDenied(JobFailed):
    """The bucket refuses this service: check its name, its region and our permissions."""

    code = "storage_denied"


class StorageUnreachable(JobFailed):
    """The bucket could not be reached, or not for long enough."""

    code = "storage_unreachable"
    retries = 100


class ObjectTaken(JobFailed):
    """Something that is not this job's lies where its result belongs."""

    code = "result_taken"


class ObjectUnknown(JobFailed):
    """The bucket does not tell whether the result is there; the permission to list is missing."""

    code = "result_unknown"


class DiskFull(JobFailed):
    """The disk of the machine is full."""

    code = "disk_full"
    retries = 100

    @classmethod
    def of(cls, error: OSError) -> DiskFull:
        """For whatever the disk refuses a job, as by having no more files open."""
        return cls(f"The disk of the machine refused: {(error.strerror or 'no reason').lower()}.")


class UnreadableRecord(JobFailed):
    """What is stored of this job cannot be read, so it is not run. Delete the job."""

    code = "unreadable_record"


class InternalError(JobFailed):
    """The job failed by a fault of this service. Its log tells more."""

    code = "internal_error"
