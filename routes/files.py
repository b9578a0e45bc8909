"""Files as answers. One that cannot be opened for a while is never "not there"."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from ..jobs.counted_log import CountedLog
from ..jobs.errors import StorageUnavailable, UnknownOutput
from ..jobs.threads import off_loop
from ..workflows import ABSENT

log = logging.getLogger(__name__)
failures = CountedLog(log)

UNREADABLE = "The file cannot be read now. Try again later."


class FileAnswer(web.FileResponse):
    """aiohttp answers 404, with all headers of the file, whatever keeps it from opening it."""

    def set_status(self, status: int, reason: str | None = None) -> None:
        if status == HTTPStatus.NOT_FOUND:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            self.headers["Cache-Control"] = "no-store"
        super().set_status(status, reason)


async def file_answer(path: Path, headers: Mapping[str, str]) -> FileAnswer:
    """The content of a file. Raises UnknownOutput, or StorageUnavailable if it cannot be read."""
    try:
        await off_loop(_try_to_open, path)
    except ABSENT as error:
        raise UnknownOutput() from error
    except OSError as error:
        failures.log(logging.ERROR, "a file cannot be read: %s", error.strerror)
        raise StorageUnavailable(UNREADABLE) from error
    return FileAnswer(path, headers=headers)


def _try_to_open(path: Path) -> None:
    with path.open("rb"):
        pass
