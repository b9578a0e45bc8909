"""Log lines for machines: a JSON object each, on stderr."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

#: As syslog numbers them; journald takes `<4>` from the start of a line.
PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
NAMED = re.compile(r"(\w+)=%[sd]")


class JsonLines(logging.Formatter):
    """What a message names (`status=%d`) becomes a field of its own. All is ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        told = {
            **_fields(record),
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class JournalLines(JsonLines):
    """The same with its priority before it, as journald wants to be told."""

    def format(self, record: logging.LogRecord) -> str:
        priority = PRIORITIES.get(record.levelno, PRIORITIES[logging.INFO])
        return f"<{priority}>{super().format(record)}"


FORMATS = {"json": JsonLines, "journal": JournalLines}


def write_as(
    form: Literal["text", "json", "journal"], logger: logging.Logger, stream: TextIO | None = None
) -> None:
    """Have this logger, and nobody else, write its lines so. `text` leaves all as it is."""
    if form == "text":
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATS[form]())
    logger.handlers = [handler]
    logger.propagate = False


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """From the pattern of the message, which is ours; what fills it in may be a stranger's."""
    names = NAMED.findall(str(record.msg))
    given = record.args if isinstance(record.args, tuple) else ()
    return dict(zip(names, given, strict=True)) if len(names) == len(given) else {}
