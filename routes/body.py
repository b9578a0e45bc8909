"""Reads the parameters of a job from a request body: JSON, or a form with uploads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import cache
from typing import Any, TypeVar

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from ..jobs import strict_json
from ..jobs.errors import BodyTimeout, BodyTooLarge, MalformedBody, UnsupportedBody
from ..jobs.extras import Extras
from ..jobs.staging import Keep
from ..jobs.threads import off_loop
from ..workflows import Workflow

#: Of a JSON body, without and with the pictures in it.
MAX_JSON_BYTES = 256 * 1024
MAX_BODY_BYTES = 16 * 2**20
#: Of a batch, without the pictures in it.
MAX_BATCH_BYTES = 2 * 2**20
DATA_URI = re.compile(rb'"data:[^"\\]*"')
MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 64
CHUNK_BYTES = 1 << 16

T = TypeVar("T")


async def read_parameters(request: web.Request, workflow: Workflow, keep: Keep) -> dict[str, Any]:
    """The parameters as the caller gave them. Each uploaded file becomes what `keep` returns.

    Raises MalformedBody, UnsupportedBody or BodyTooLarge.
    """
    if "Content-Encoding" in request.headers:
        raise UnsupportedBody()
    if request.content_type == "multipart/form-data":
        return await _read_form(request, workflow, keep)
    if request.content_type == "application/json":
        return parse_object(await _read_json(request, MAX_JSON_BYTES))
    raise UnsupportedBody()


async def read_batch(request: web.Request) -> dict[str, Any]:
    """A JSON object, larger than that of one job may be. Raises as `read_parameters` does."""
    if "Content-Encoding" in request.headers or request.content_type != "application/json":
        raise UnsupportedBody()
    return await off_loop(parse_object, await _read_json(request, MAX_BATCH_BYTES))


@cache
def common_fields() -> Mapping[str, dict[str, Any]]:
    """The schemas of what every workflow takes beside its own parameters."""
    fields: Mapping[str, dict[str, Any]] = Extras.model_json_schema()["properties"]
    return fields


async def in_time(reading: Awaitable[T], seconds: float) -> T:
    """What is read of a body. Raises BodyTimeout, or MalformedBody if the client has gone."""
    try:
        return await asyncio.wait_for(reading, seconds)
    except asyncio.TimeoutError:
        raise BodyTimeout() from None
    except ConnectionError:
        raise MalformedBody("The connection ended before the request body did.") from None
    except web.RequestPayloadError:
        raise MalformedBody("The request body is not framed as the head says.") from None


def parse_object(body: bytes) -> dict[str, Any]:
    """Strict JSON: one object, no NaN, no key twice. Raises MalformedBody."""
    try:
        value = strict_json.parse(body)
    except ValueError as error:
        raise MalformedBody(f"The request body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise MalformedBody()
    return value


async def _read_json(request: web.Request, limit: int) -> bytes:
    body = await _read_limited(request, MAX_BODY_BYTES)
    # Before it is parsed: a large document of another kind would stop the loop for seconds.
    if len(body) > limit and await off_loop(_size_beside, body) > limit:
        raise BodyTooLarge(f"Beside pictures, a request may have {limit} bytes.")
    return body


def _size_beside(body: bytes) -> int:
    """How large a JSON text is without the pictures in it."""
    return len(DATA_URI.sub(b"", body))


async def _read_limited(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"The request body may have {limit} bytes; upload pictures instead.")
    return bytes(body)


async def _read_form(request: web.Request, workflow: Workflow, keep: Keep) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    try:
        reader = await request.multipart()
        while part := await reader.next():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise MalformedBody("Every part of the form needs a name.")
            name = _parameter(part.name, workflow)
            if name in parameters or len(parameters) >= MAX_FIELDS:
                raise MalformedBody(f"The form has {part.name!r} twice, or too many fields.")
            parameters[name] = await _read_part(part, workflow, keep)
    except (ValueError, BadHttpMessage) as error:
        raise MalformedBody("The form is not valid multipart/form-data.") from error
    return parameters


async def _read_part(part: BodyPartReader, workflow: Workflow, keep: Keep) -> Any:
    if part.filename is not None:
        if _parameter(str(part.name), workflow) not in workflow.images:
            raise MalformedBody(f"The field {part.name!r} takes no file.")
        return await keep(_chunks(part))
    text = bytearray()
    async for chunk in _chunks(part):
        text += chunk
        if len(text) > MAX_FIELD_BYTES:
            raise BodyTooLarge(f"A form field may have {MAX_FIELD_BYTES} bytes.")
    known = {**common_fields(), **workflow.schema["properties"]}
    return _typed(text.decode(), known.get(_parameter(str(part.name), workflow), {}))


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK_BYTES):
        yield chunk


def _parameter(field: str, workflow: Workflow) -> str:
    """`image` may stand for `image_url` where a file is uploaded."""
    return f"{field}_url" if f"{field}_url" in workflow.images else field


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A form knows only text; the schema says what is meant. What does not fit stays text."""
    if schema.get("type") in (None, "string"):
        return text
    try:
        return strict_json.parse(text) if text else None
    except ValueError:
        return text
