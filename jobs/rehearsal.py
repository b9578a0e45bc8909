"""Rehearsal: what a request would run, told without a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..workflows import Workflow, render
from .prompt import FOLDER
from .request import JobRequest

JOB_ID = "dry-run"
#: Stands for a picture that was sent along.
NOT_KEPT = "upload:not-kept"


@dataclass(frozen=True)
class Rehearsal:
    """The effective parameters and the graph, in which pictures are named as they were given."""

    workflow: str
    parameters: dict[str, Any]
    graph: dict[str, Any]


async def rehearse(
    workflow: Workflow, body: Mapping[str, Any], owner: str | None = None
) -> Rehearsal:
    """Judge a request and render it. Nothing is fetched or kept.

    Raises InvalidParameters, ForbiddenSource or InputInvalid.
    """
    job = await JobRequest(JOB_ID, workflow.slug, body, owner).job(workflow, pass_over)
    images = {name: value for name, value in job.parameters.items() if name in workflow.images}
    graph = render(workflow, job.parameters, images=images, prefix=f"{FOLDER}/{JOB_ID}")
    return Rehearsal(workflow.slug, job.parameters, graph)


async def pass_over(content: AsyncIterator[bytes]) -> str:
    """Read a picture and forget it; what stands for it then."""
    async for _ in content:
        pass
    return NOT_KEPT
