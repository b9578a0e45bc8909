"""Errors as RFC 9457 problems: one table says which error is which HTTP status."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs import errors

log = logging.getLogger(__name__)

STATUS: dict[type[errors.UnifiedApiError], HTTPStatus] = {
    errors.MalformedBody: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedBody: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.InvalidQuery: HTTPStatus.BAD_REQUEST,
    errors.InvalidParameters: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InputInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownWorkflow: HTTPStatus.NOT_FOUND,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    errors.UnknownOutput: HTTPStatus.NOT_FOUND,
    errors.UnhealthyWorkflow: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.InvalidIdempotencyKey: HTTPStatus.BAD_REQUEST,
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
MEDIA_TYPE = "application/problem+json"


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised under our prefix into a problem, and number every reply."""
    request_id = _request_id(request)
    try:
        response = await handler(request)
    except errors.UnifiedApiError as error:
        response = _of_ours(request, error, request_id)
    except web.HTTPException as error:
        response = _of_http(request, error, request_id)
    except Exception:
        log.exception("request %s failed by a fault of this service", request_id)
        response = _problem(
            request,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            code="internal_error",
            detail="The request failed by a fault of this service. Its log has the reason.",
            request_id=request_id,
        )
    if not response.prepared:
        response.headers.setdefault("X-Request-Id", request_id)
    return response


def status_of(error: errors.UnifiedApiError) -> HTTPStatus:
    """The status of the nearest class in the error's ancestry."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _of_ours(
    request: web.Request, error: errors.UnifiedApiError, request_id: str
) -> web.StreamResponse:
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
    response = _problem(
        request,
        status_of(error),
        code=error.code,
        detail=str(error),
        request_id=request_id,
        **more,
    )
    if isinstance(error, errors.RateLimited):
        response.headers["Retry-After"] = str(error.wait_seconds)
    return response


def _of_http(request: web.Request, error: web.HTTPException, request_id: str) -> web.StreamResponse:
    """404, 405 and the like, raised by aiohttp itself."""
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    status = HTTPStatus(error.status)
    response = _problem(
        request,
        status,
        code=status.name.lower(),
        detail=f"{request.method} {request.path}: {status.phrase.lower()}.",
        request_id=request_id,
    )
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _problem(
    request: web.Request,
    status: HTTPStatus,
    *,
    code: str,
    detail: str,
    request_id: str,
    **more: Any,
) -> web.Response:
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "instance": request.path,
        "code": code,
        "request_id": request_id,
        **more,
    }
    response = web.json_response(body, status=status, content_type=MEDIA_TYPE)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in RETRY_AFTER_SECONDS:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS[status])
    return response


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid4().hex
