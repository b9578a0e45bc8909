"""One line in the log for each request for a job. What a stranger wrote cannot break out of it."""

from __future__ import annotations

import json
import logging
import re

from aiohttp import web
from aiohttp.typedefs import Handler

from .door import key_name_of

log = logging.getLogger(__name__)

PLAIN = re.compile(r"[\w.-]{1,64}", re.ASCII)
LONGEST = 64


@web.middleware
async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell how each POST ended."""
    response = await handler(request)
    if request.method == "POST":
        log.info(
            "job=%s workflow=%s key=%s request=%s status=%d",
            plain(request.match_info.get("job_id") or _made(response)),
            plain(request.match_info.get("workflow", "-")),
            key_name_of(request) or "-",
            response.headers["X-Request-Id"],
            response.status,
        )
    return response


def _made(response: web.StreamResponse) -> str:
    """The id of the job that was made."""
    return response.headers.get("Location", "-").rpartition("/")[2]


def plain(text: str) -> str:
    """A text on one line, without anything that a terminal would obey."""
    return text if PLAIN.fullmatch(text) else json.dumps(text[:LONGEST])
