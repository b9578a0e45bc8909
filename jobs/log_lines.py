"""Log lines for machines: a JSON object each, on stderr."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

#: As syslog numbers them; journald takes `<4>` from the start of a line.
PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
#: What a message is filled in with, and its name where it has one: `status=%d`, `job %s`.
FILLED_IN = re.compile(r"(?:(\w+)=|\b(job|request|workflow) )?%[-#0 +.\d]*[a-zA-Z]")
#: ComfyUI makes our package's name of the path to its folder.
PACKAGE = __name__.removesuffix("jobs.log_lines")


class JsonLines(logging.Formatter):
    """What a message names becomes a field of its own. All is ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        told = {
            **_named(record),
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix(PACKAGE),
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class JournalLines(JsonLines):
    """The same with its priority before it, as journald wants to be told."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{PRIORITIES.get(record.levelname, PRIORITIES['INFO'])}>{super().format(record)}"


def write_as(
    form: Literal["text", "json", "journal"], logger: logging.Logger, stream: TextIO | None = None
) -> None:
    """Have this logger, and nobody else, write its lines so. `text` leaves all as it is."""
    if form == "text":
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else JournalLines())
    logger.handlers = [handler]
    logger.propagate = False


def _named(record: logging.LogRecord) -> dict[str, Any]:
    """From the pattern of the message, which is ours; what fills it in may be a stranger's."""
    pattern = str(record.msg).replace("%%", "")
    names = [before or word for before, word in FILLED_IN.findall(pattern)]
    given = record.args if isinstance(record.args, tuple) else ()
    return {name: value for name, value in zip(names, given, strict=False) if name}
