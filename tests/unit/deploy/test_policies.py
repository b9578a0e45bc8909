"""The IAM policies of worker and orchestrator name what they reach.

That their actions are those that are needed is shown by comfyui/test_permissions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recording_proxy import listed

IAM = Path(__file__).resolve().parents[3] / "deploy" / "iam"
ROLES = ("worker", "orchestrator")


def statements(role: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((IAM / f"{role}.json").read_text())["Statement"]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_only_what_is_named(role: str) -> None:
    for one in statements(role):
        assert one["Effect"] == "Allow"
        for resource in listed(one["Resource"]):
            place = resource.removeprefix("arn:aws:s3:::BUCKET").removesuffix("/*")
            assert resource.startswith("arn:aws:")
            assert "*" not in place


def sids(role: str, action: str) -> dict[str, str]:
    """Of the statements that allow an action: resource -> sid."""
    allowing = [one for one in statements(role) if one["Action"] == action]
    return {resource: one["Sid"] for one in allowing for resource in listed(one["Resource"])}


def test_a_worker_need_not_send_but_to_the_dead_letter_queues() -> None:
    sending = sids("worker", "sqs:SendMessage")

    needed = [queue for queue, sid in sending.items() if not sid.startswith("Optional")]
    assert [queue.rpartition(":")[2] for queue in needed] == ["QUEUE-dead", "QUEUE-high-dead"]


def test_an_orchestrator_deletes_nothing_but_results() -> None:
    (place,) = sids("orchestrator", "s3:DeleteObject")

    assert place.endswith(":BUCKET/images/comfyui-results/*")


def test_what_is_optional_says_so() -> None:
    (sid,) = sids("orchestrator", "ec2:StartInstances").values()

    assert sid.startswith("Optional")
