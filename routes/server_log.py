"""What any client can make a web server log: one short line and then a count, no tracebacks."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..jobs.counted_log import CountedLog

log = logging.getLogger(__name__)

#: Who logs what is wrong with a request, and with a connection before there is one.
SERVER_LOGS = ("aiohttp.server", "asyncio")
#: As asyncio begins it.
NOT_ACCEPTED = "socket.accept() out of system resource"
MALFORMED = (HttpProcessingError, web.RequestPayloadError)
#: So asyncio begins what older aiohttp makes of some requests.
NOT_READ = "Fatal error: protocol.data_received() call failed."


class ServerErrors(logging.Filter):
    """Takes such records out of other people's loggers, on whatever port they came about.

    ComfyUI's own port has the same loggers. Everything else passes as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counted = CountedLog(log)

    def filter(self, record: logging.LogRecord) -> bool:
        error, message = record.exc_info[1] if record.exc_info else None, record.getMessage()
        is_unread = isinstance(error, ValueError) and message.startswith(NOT_READ)
        if isinstance(error, MALFORMED) or is_unread:
            # Not its text, which a stranger wrote.
            name = type(error).__name__
            self._counted.log(logging.INFO, "a request was malformed: %s", name, kind="malformed")
            return False
        if isinstance(error, OSError) and message.startswith(NOT_ACCEPTED):
            self._counted.log(logging.ERROR, "no connection can be accepted: %s", error.strerror)
            return False
        return True


def count_server_errors() -> None:
    """Have them counted from now on, in this process."""
    errors = ServerErrors()
    for name in SERVER_LOGS:
        logging.getLogger(name).addFilter(errors)
