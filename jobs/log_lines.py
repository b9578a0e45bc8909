"""Log lines: for machines a JSON object each, on stderr; for people what cannot be forged.

Values from outside are in many lines and in the texts of exceptions. In a line for people they can
neither begin a line of their own nor give orders to a terminal.
"""

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


class PlainText(logging.Handler):
    """Makes lines plain before other handlers, which come after this one, write them."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = plain(record.getMessage()), None
        if record.exc_info and record.exc_info[0]:
            # Formatters take this for the traceback as they would have written it.
            record.exc_text = _indented(_formatter.formatException(record.exc_info))


def plain(text: str) -> str:
    """A text in one line, in which all that cannot be seen is spelt out."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _indented(traceback: str) -> str:
    """Its lines, each recognisable as one of it."""
    return "\n".join(f"  {plain(line)}" for line in traceback.split("\n"))


_formatter = logging.Formatter()


def write_as(
    form: Literal["text", "json", "journal"], logger: logging.Logger, stream: TextIO | None = None
) -> None:
    """Have this logger, and nobody else, write its lines so.

    `text` leaves them to whoever writes them anyway, but makes them plain.
    """
    if form == "text":
        logger.handlers.insert(0, PlainText())
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
