"""Many jobs of one workflow in one request. Each is accepted or refused by itself, in order."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web

from ..jobs.errors import (
    InternalError,
    InvalidParameters,
    InvalidQuery,
    MalformedBody,
    UnifiedApiError,
)
from ..workflows import Violation
from .body import in_time, read_batch
from .deadline import cancel_after_of
from .door import caller_of, fit_idempotency_key, idempotency_key_of
from .jobs import submit
from .problems import FAULT, FAULT_SHOWN, NUMBER, problem_of, status_of
from .service import service_of, surface_of
from .shown import shown

log = logging.getLogger(__name__)

MOST_ITEMS = 100
KEY = "idempotency_key"


async def create(request: web.Request) -> web.Response:
    if "dry_run" in request.query:
        raise InvalidQuery("`dry_run` takes one request, not a batch.")
    service_of(request).offer.find(request.match_info["workflow"])
    key, cancel_after = idempotency_key_of(request), cancel_after_of(request)
    body = await in_time(read_batch(request), surface_of(request).limits.body_seconds)
    results = [
        await _result(request, item, key=key and f"{key}\n{number}", cancel_after=cancel_after)
        for number, item in enumerate(_items(body))
    ]
    return web.json_response({"results": results}, headers={"Cache-Control": "no-store"})


def _items(body: dict[str, Any]) -> list[Any]:
    """Raises InvalidParameters."""
    items = body.get("items")
    if body.keys() != {"items"} or not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        sentence = f"A batch is an object with `items`: a list of 1 to {MOST_ITEMS} requests."
        raise InvalidParameters([Violation("items", "/items", sentence)])
    return items


async def _result(request: web.Request, item: Any, **given: Any) -> dict[str, Any]:
    """`given` is what the header lines say of every item."""
    try:
        return await _accepted(request, item, **given)
    except UnifiedApiError as error:
        refusal = error
    except Exception:
        log.exception(FAULT, NUMBER.get())
        refusal = InternalError(FAULT_SHOWN)
    return {"status": status_of(refusal).value, "error": problem_of(request, refusal)}


async def _accepted(
    request: web.Request, item: Any, *, key: str | None, cancel_after: float | None
) -> dict[str, Any]:
    """`key` is that of an item that has none of its own."""
    if not isinstance(item, dict):
        raise MalformedBody("The item is not a JSON object.")
    surface_of(request).limits.rate.take(caller_of(request).name)
    if item.get(KEY) is not None:
        key = fit_idempotency_key(item[KEY])
    body = {name: value for name, value in item.items() if name != KEY}
    job, is_replay, progress = await submit(request, body, key=key, cancel_after=cancel_after)
    view = await shown(request, job, progress)
    return {"status": 200 if is_replay else 202, "job": view.model_dump()}
