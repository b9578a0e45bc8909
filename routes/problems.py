"""Errors as RFC 9457 problems: one table says which error is which HTTP status."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs import errors
from ..jobs.counted_log import CountedLog
from ..workflows import is_passing

log = logging.getLogger(__name__)
failures = CountedLog(log)

STATUS: dict[type[errors.UnifiedApiError], HTTPStatus] = {
    errors.MalformedBody: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedBody: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.InvalidQuery: HTTPStatus.BAD_REQUEST,
    errors.InvalidParameters: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InputInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ForbiddenSource: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownWorkflow: HTTPStatus.NOT_FOUND,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    errors.UnknownOutput: HTTPStatus.NOT_FOUND,
    errors.JobNotFinished: HTTPStatus.CONFLICT,
    errors.KeptInTable: HTTPStatus.CONFLICT,
    errors.UnhealthyWorkflow: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.InvalidIdempotencyKey: HTTPStatus.BAD_REQUEST,
    errors.InvalidCancelAfter: HTTPStatus.BAD_REQUEST,
    errors.BodyTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.ForeignOrigin: HTTPStatus.FORBIDDEN,
    errors.UnknownHost: HTTPStatus.FORBIDDEN,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyJobs: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyStreams: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NoRoom: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.AuthNotConfigured: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_AFTER_SECONDS = {
    HTTPStatus.TOO_MANY_REQUESTS: 5,
    HTTPStatus.SERVICE_UNAVAILABLE: 5,
    HTTPStatus.INSUFFICIENT_STORAGE: 30,
}
REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
BUSY = "This machine refuses to open files for a while. Try again later."
FAULT = "request %s failed by a fault of this service"
FAULT_SHOWN = "The request failed by a fault of this service. Its log has the reason."
MEDIA_TYPE = "application/problem+json"
#: The id of the request that is being answered.
NUMBER: ContextVar[str] = ContextVar("unified_api_request_id")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised under our prefix into a problem, and number every reply."""
    request_id = _request_id(request)
    NUMBER.set(request_id)
    try:
        response = await handler(request)
    except errors.UnifiedApiError as error:
        response = _of_ours(request, error)
    except web.HTTPException as error:
        response = _of_http(request, error)
    except Exception as error:  # noqa: BLE001 - it is logged
        response = _of_unforeseen(request, error)
    if not response.prepared:
        response.headers.setdefault("X-Request-Id", request_id)
    return response


def status_of(error: errors.UnifiedApiError) -> HTTPStatus:
    """The status of the nearest class in the error's ancestry."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_of(request: web.Request, error: errors.UnifiedApiError) -> dict[str, Any]:
    """An error as the sender of a request is told it."""
    return problem(error, path=request.path, request_id=NUMBER.get())


def problem(error: errors.UnifiedApiError, *, path: str, request_id: str) -> dict[str, Any]:
    """An error as whoever asked for the path is told it."""
    more: dict[str, Any] = {}
    if isinstance(error, errors.InvalidParameters):
        more["errors"] = [
            {
                "param": violation.parameter,
                "pointer": violation.pointer,
                "message": violation.message,
                "allowed": list(violation.allowed),
            }
            for violation in error.violations
        ]
    told = _problem(status_of(error), path, request_id, code=error.code, detail=str(error))
    return told | more


def _of_ours(request: web.Request, error: errors.UnifiedApiError) -> web.StreamResponse:
    response = _response(problem_of(request, error))
    if isinstance(error, errors.RateLimited):
        response.headers["Retry-After"] = str(error.wait_seconds)
    return response


def _of_unforeseen(request: web.Request, error: Exception) -> web.StreamResponse:
    """A fault of ours, unless the machine has run out of something."""
    if isinstance(error, OSError) and is_passing(error):
        failures.log(logging.ERROR, "requests are refused: %s", error.strerror, error=error)
        return _of_ours(request, errors.StorageUnavailable(BUSY))
    log.error(FAULT, NUMBER.get(), exc_info=error)
    return _of_ours(request, errors.InternalError(FAULT_SHOWN))


def _of_http(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """404, 405 and the like, raised by aiohttp itself."""
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    status = HTTPStatus(error.status)
    detail = f"{request.method} {request.path}: {status.phrase.lower()}."
    code = status.name.lower()
    response = _response(_problem(status, request.path, NUMBER.get(), code=code, detail=detail))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _problem(
    status: HTTPStatus, path: str, request_id: str, *, code: str, detail: str
) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "instance": path,
        "code": code,
        "request_id": request_id,
    }


def _response(problem: dict[str, Any]) -> web.Response:
    status = HTTPStatus(problem["status"])
    response = web.json_response(problem, status=status, content_type=MEDIA_TYPE)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in RETRY_AFTER_SECONDS:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS[status])
    return response


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid4().hex
