"""The points of a job's life at which a process may die, for fault_points to arm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

#: point -> where the process dies, and how often the job is executed in all
POINTS = {
    "H1 accepted, not answered": ("jobs.store:Store.insert:after", 1),
    "H2 fetching": ("jobs.inputs:Inputs.fetch:before", 1),
    "H3 executed, end not seen": ("jobs.comfyui.seam:ComfyUI.run:after", 2),
    "H4 rendered, not published": ("jobs.outputs:LocalResults.publish:before", 1),
    "H5 published, not saved": ("jobs.outputs:LocalResults.publish:after", 1),
    "H6 saved, not cleaned up": ("jobs.store:Store.save:after:completed", 1),
}
BEFORE_THE_COMMIT = "jobs.store:Store.insert:before"


class QueuePoint(NamedTuple):
    """Where a worker dies, and how often its task is executed in all: if another worker takes it
    up, and if the same one does when it is back."""

    where: str
    elsewhere: int
    here: int


QUEUE_POINTS = {
    "S1 received, not claimed": QueuePoint("sqs_bridge.task_table:TaskTable.claim:before", 1, 1),
    "S2 claimed, not run": QueuePoint("sqs_bridge.task_table:TaskTable.claim:after", 1, 1),
    "S3 executed, end not seen": QueuePoint("jobs.comfyui.seam:ComfyUI.run:after", 2, 2),
    "S4 rendered, not uploaded": QueuePoint("jobs.s3.results:S3Results.publish:before", 2, 1),
    "S5 uploaded, not told": QueuePoint("jobs.s3.results:S3Results.publish:after", 1, 1),
    "S6 told, not deleted": QueuePoint("sqs_bridge.task_table:TaskTable.finish:after", 1, 1),
    "S7 deleted, not cleaned up": QueuePoint("sqs_bridge.inbox:Inbox.delete:after", 1, 1),
}
#: point -> the operation at which the orchestrator dies
ORCHESTRATOR_POINTS = {
    "O1 accepted, not sent": "SendMessage",
    "O2 sent, not told": "UpdateItem",
}
#: Each of these stands for its kind where there is no time for all.
IN_EVERY_RUN = ("H3", "S4", "O1")


def one_in_every_run(points: Iterable[str]) -> list[Any]:
    """For `parametrize`: the others are for the full run."""
    return [
        pytest.param(point, marks=() if point.startswith(IN_EVERY_RUN) else pytest.mark.full)
        for point in points
    ]
