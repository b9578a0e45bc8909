"""Frames: what is told of a job as server-sent events.

Every frame is complete in itself, so that one who missed some has lost nothing.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from ..jobs.job import Job
from ..jobs.prompt import Preview
from .view import JobView


@dataclass(frozen=True)
class Event:
    """Made when it is first sent."""

    name: str
    data: str
    #: Without one it is never asked for again.
    has_id: bool = True

    @cached_property
    def id(self) -> str | None:
        """Of what it tells: who has seen that needs no repetition."""
        return sha256(self.data.encode()).hexdigest()[:16] if self.has_id else None

    @cached_property
    def frame(self) -> bytes:
        id_line = f"id: {self.id}\n" if self.has_id else ""
        return f"{id_line}event: {self.name}\ndata: {self.data}\n\n".encode()

    @classmethod
    def of(cls, preview: Preview) -> Event:
        data = {**vars(preview), "data": b64encode(preview.content).decode()}
        del data["content"]
        return cls("preview", json.dumps(data), has_id=False)


@dataclass(frozen=True, eq=False)
class Page:
    """A job at one moment, with the latest preview of its picture if those are wanted."""

    job: JobView
    is_final: bool
    preview: Event | None = None

    def since(self, told: Page | None) -> Iterator[Event]:
        """What is news to one who was told an earlier page."""
        if told is None or told.state != self.state:
            yield from self._outputs
            yield self._status
        elif told.job.progress is not self.job.progress:
            yield self._progress
        if self.preview and self.preview is not (told and told.preview):
            yield self.preview

    @property
    def state(self) -> tuple[str, str | None]:
        return self.job.status, self.job.stage

    def is_of(self, job: Job) -> bool:
        """Whether the job is in the same state still."""
        return self.state == (job.status.value, job.stage and job.stage.value)

    @cached_property
    def _status(self) -> Event:
        return status_of(self.job)

    @cached_property
    def _outputs(self) -> list[Event]:
        return [Event("output", output.model_dump_json()) for output in self.job.outputs]

    @cached_property
    def _progress(self) -> Event:
        return Event("progress", self.job.progress.model_dump_json())


def status_of(job: JobView) -> Event:
    """All of a job."""
    return Event("status", job.model_dump_json())
