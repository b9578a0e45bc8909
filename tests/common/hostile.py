"""Values that others may write where a time, a number, a text or an object is meant."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from unified_api.jobs.job import Job
from unified_api.jobs.links import Link
from unified_api.jobs.prompt import Progress
from unified_api.routes.view import view

DEEP: Any = "bottom"
for _ in range(200):
    DEEP = [DEEP]

TIMES = (10**20, -(10**20), 253_402_300_800, 9e99, -1, "soon", None, True, [], {})
NUMBERS = (2**63, -1, 10**90, 0.5, "many", None, [], {})
TEXTS = ("\ud800", "\x00", "", "x" * 70_000, 7, None, ["a"], {"a": 1})
OBJECTS = (DEEP, {"a": DEEP}, {"a": "\udfff"}, {"a": float("inf")}, {"a": 10**4299}, "text", 7, [])


def as_numbers(value: Any) -> Any:
    """As DynamoDB's library takes numbers."""
    if isinstance(value, float) and not isinstance(value, bool):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: as_numbers(each) for name, each in value.items()}
    return [as_numbers(each) for each in value] if isinstance(value, list) else value


def shown(job: Job, progress: Progress | None = None) -> Any:
    """A job as a caller reads it, as JSON."""
    links = [Link("http://a.example/b") for _ in job.outputs]
    text = view(job, progress or Progress(), links, "http://here").model_dump_json()
    return json.loads(text.encode())
