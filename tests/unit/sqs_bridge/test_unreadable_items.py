"""Items of the task table, whatever others wrote into them: each has something to show."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from unified_api.jobs.errors import UnreadableRecord
from unified_api.jobs.job import Job, Status
from unified_api.sqs_bridge.message import MalformedTask, TaskMessage
from unified_api.sqs_bridge.task_item import new_item, record_of, remains_of

from ...common import hostile
from ...common.hostile import DEEP, NUMBERS, OBJECTS, TEXTS, TIMES

TIME_NAMES = ("created_at", "started_at", "finished_at", "lease_until", "give_up_at", "updated_at")
DAMAGE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(TIME_NAMES, TIMES),
    **dict.fromkeys(("fence", "attempt", "percent", "timings", "outputs", "deleted"), NUMBERS),
    **dict.fromkeys(("status", "stage", "job_type", "owner", "priority", "request"), TEXTS),
    **dict.fromkeys(("error_message", "error_detail", "result_s3_uri"), TEXTS + OBJECTS),
}
CASES = [(name, value) for name, values in DAMAGE.items() for value in values]
REQUESTS = [
    {field: value}
    for field in ("created_at", "deadline", "give_up_at", "parameters", "metadata", "webhook")
    for value in (*TIMES, *TEXTS, *OBJECTS)
]


def item(**more: Any) -> dict[str, Any]:
    """An item as the library of DynamoDB gives it."""
    job = Job(job_id="a", workflow="draw", parameters={}, created_at=1_700_000_000.0)
    found: dict[str, Any] = {**new_item(job), **more}
    return {
        name: Decimal(str(value)) if type(value) in (int, float) else value
        for name, value in found.items()
    }


def shown(item: dict[str, Any]) -> Any:
    """The task as a caller reads it."""
    record = record_of(item)
    assert isinstance(record.sequence, int)
    assert isinstance(record.fence, int)
    assert isinstance(record.held_until, float)
    return hostile.shown(record.job, record.progress)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_whatever_an_attribute_says_the_task_is_shown(number: int) -> None:
    name, value = CASES[number]

    assert shown(item(**{name: value}))["job_id"] == "a"


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_whatever_a_request_says_the_task_is_shown(number: int) -> None:
    request = json.dumps({"parameters": {}, **REQUESTS[number]})

    assert shown(item(request=request))["job_id"] == "a"


def test_an_item_that_cannot_be_read_is_shown_as_such() -> None:
    seen = shown(item(request=json.dumps({"parameters": DEEP}), owner="studio"))

    assert (seen["status"], seen["workflow"]) == ("pending", "draw")
    assert seen["error_detail"]["code"] == UnreadableRecord.code
    assert seen["created_at"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("told", "status"), [("completed", "completed"), ("odd", "failed"), (7, "failed")]
)
def test_the_status_of_an_item_is_shown_where_it_can_be_read(told: Any, status: str) -> None:
    record = record_of(item(request="[]", status=told))

    assert (record.job.status.value, record.job.is_over) == (status, True)


@pytest.mark.parametrize("told", ["javascript:alert(1)", "https://a.example/b\r\nc", "S3://b/c"])
def test_a_link_among_outputs_is_judged_likewise(told: str) -> None:
    output = {"name": "a", "content_type": "image/png", "size": 1, "sha256": "", "s3_uri": told}

    assert shown(item(status="completed", outputs=[output]))["outputs"] == []


def test_a_media_type_ends_no_header_line() -> None:
    output = {"name": "a", "content_type": "image/png\r\nX: y", "size": 1, "sha256": ""}

    assert shown(item(status="completed", outputs=[output]))["outputs"] == []


@pytest.mark.parametrize("more", ["rendered", "is_shared", "attempt", "table"])
def test_a_request_fixes_nothing_but_what_is_fixed_at_acceptance(more: str) -> None:
    request = json.dumps({"parameters": {}, more: None})

    assert shown(item(request=request))["error_detail"]["code"] == UnreadableRecord.code


@pytest.mark.parametrize(("told", "shown_at"), [(10**20, "9999-12-31"), (-(10**100), "1970-01-01")])
def test_a_time_that_cannot_be_written_is_the_nearest_that_can(told: int, shown_at: str) -> None:
    assert shown(item(created_at=told))["created_at"].startswith(shown_at)


def test_what_stays_of_one_that_is_deleted_can_be_read() -> None:
    record = record_of(item(status="odd", created_at=10**20, job_type=["x"], fence="none"))

    left = record_of(item() | remains_of(record))

    assert (left.is_deleted, left.job.status, left.job.is_readable) == (True, Status.FAILED, True)


@pytest.mark.parametrize(
    "link",
    [
        *("javascript:alert(1)", "JavaScript:alert(1)//a.b/c", "data:text/html,x", "file:///etc/x"),
        *("ftp://a.example/b", "//a.example/b", "vbscript:x", " javascript:x", "https:///b", "x"),
        *("https://a.example/b\r\nX: y", "https://a.example/b\n", "s3://bucket/a\x00b"),
        *("https://a.example/b\r\nSet-Cookie: c=d", "https://a.example/\x1b[31m", "https://a\n/b"),
        *("https://me@a.example/b", "https://a.example:99999/b", "https://[::1/b", "S3://b/c"),
        *('https://"><script>/b', "https://a.example/\u202eb", f"https://a.example/{'b' * 9000}"),
    ],
)
def test_a_link_that_no_page_should_have_is_left_out(link: str) -> None:
    assert shown(item(status="completed", result_s3_uri=link))["outputs"] == []


@pytest.mark.parametrize("link", ["https://a.example/b\r\nX: y", "https://a.example/b\n"])
def test_an_output_with_a_link_that_no_header_can_carry_is_not_shown(link: str) -> None:
    output = {"name": "image", "s3_uri": link, "content_type": "image/png", "sha256": ""}

    seen = shown(item(status="completed", outputs=[{**output, "size": Decimal(1)}]))

    assert (seen["outputs"], seen["error_detail"]["code"]) == ([], UnreadableRecord.code)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("https://cdn.example/a.png", "https://cdn.example/a.png"),
        ("HTTP://cdn.example/a.png", "HTTP://cdn.example/a.png"),
        ("s3://bucket/a.png", "s3://bucket/a.png"),
        ("s3://bucket/my café.png", "s3://bucket/my café.png"),
        ("d1.cloudfront.example/a/b.png", "https://d1.cloudfront.example/a/b.png"),
    ],
)
def test_other_links_are_kept(told: str, kept: str) -> None:
    (output,) = shown(item(status="completed", result_s3_uri=told))["outputs"]

    assert output["s3_uri"] == kept


@pytest.mark.parametrize("deadline", [each for each in TIMES if each is not None])
def test_a_message_with_a_time_that_is_none_is_no_task(deadline: Any) -> None:
    body = {"task_id": "a", "api_path": "/api/v1/draw/jobs", "request_body": {}}

    with pytest.raises(MalformedTask, match="deadline"):
        TaskMessage.parse(json.dumps({**body, "deadline": deadline}))
