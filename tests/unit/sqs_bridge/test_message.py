"""The message of a task: what is accepted, what is not and why, and what is sent."""

from __future__ import annotations

import json
import re

import pytest
from unified_api.sqs_bridge.message import (
    LARGEST_RECEIVED_BYTES,
    MalformedTask,
    TaskMessage,
    UnknownVersion,
    size_of,
    workflow_of,
)

PATH = "/api/v1/qwen-image-edit/jobs"
#: Words of Python's and of pydantic's.
INTERPRETERS = re.compile(r"set_int_max|codec|Expecting|Extra data|compliant|Input should|String s")
TASK = {"task_id": "a-1", "api_path": PATH, "request_body": {"prompt": "x", "seed": None}}


def text(**changes):
    return json.dumps({**TASK, **changes})


def with_body(raw):
    return text(request_body="BODY").replace('"BODY"', raw)


def test_a_message_of_the_running_system_is_a_task():
    task = TaskMessage.parse(json.dumps(TASK))

    assert (task.task_id, task.workflow) == ("a-1", "qwen-image-edit")
    assert task.request_body == {"prompt": "x", "seed": None}
    assert (task.version, task.claim, task.deadline) == (1, None, None)


def test_keys_that_are_not_known_are_left_aside():
    assert TaskMessage.parse(text(colour="red", trace={"a": [1]})) == TaskMessage(**TASK)


@pytest.mark.parametrize("priority", ["normal", "high"])
def test_a_priority_is_one_of_two(priority):
    assert TaskMessage.parse(text(priority=priority)).priority == priority


@pytest.mark.parametrize("priority", [None, 5, "urgent", "", ["high"], {}, True])
def test_what_other_programs_mean_by_a_priority_is_left_aside(priority):
    assert TaskMessage.parse(text(priority=priority)) == TaskMessage(**TASK)


def test_a_larger_body_lies_elsewhere():
    claim = "s3://bucket/unified-api/requests/0a.json"

    task = TaskMessage.parse(json.dumps({"task_id": "a", "api_path": PATH, "claim": claim}))

    assert (task.claim, task.request_body) == (claim, None)


@pytest.mark.parametrize("number", [1700000000, 1700000000.5])
def test_a_deadline_is_a_number_of_seconds(number):
    assert TaskMessage.parse(text(deadline=number)).deadline == number


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_a_version_that_is_not_known_is_told_apart(version):
    with pytest.raises(UnknownVersion, match=str(version)):
        TaskMessage.parse(json.dumps({"version": version, "whatever": 1}))


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "{",
        "task",
        "[]",
        "null",
        "7",
        '"text"',
        "{} {}",
        "{}",
        text(task_id=None),
        text(task_id=7),
        text(task_id=""),
        text(task_id="a/b"),
        text(task_id="../x"),
        text(task_id="a\n"),
        text(task_id="a b"),
        text(task_id="é"),
        text(task_id="a" * 129),
        text(request_body=None),
        text(request_body=[]),
        text(request_body="{}"),
        text(claim="s3://b/k"),
        text(request_body=None, claim="https://b/k"),
        text(request_body=None, claim="s3://b"),
        text(request_body=None, claim="s3://b/a b"),
        text(version="1"),
        text(version=True),
        text(version=1.0),
        text(version=None),
        text(deadline="soon"),
        text(deadline=True),
        json.dumps({"task_id": "a", "request_body": {}}),
        json.dumps({"api_path": PATH, "request_body": {}}),
    ],
)
def test_what_is_no_task_is_refused_with_a_reason(body):
    with pytest.raises(MalformedTask) as refusal:
        TaskMessage.parse(body)

    reason = str(refusal.value)
    assert reason.startswith("The message ")
    assert reason.endswith(".")
    assert reason.isprintable()
    assert len(reason) <= 301
    assert not INTERPRETERS.search(reason)


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "[" * 990 + "]" * 990 + "}",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": [{"b": -1e999}]}',
        '{"a": 1, "a": 2}',
        r'{"a": "\ud800"}',
        r'{"\udfff": 1}',
    ],
    ids=lambda raw: raw[:20],
)
def test_poison_is_refused_with_a_reason_in_words_of_our_own(raw):
    with pytest.raises(MalformedTask) as refusal:
        TaskMessage.parse(with_body(raw))

    assert not INTERPRETERS.search(str(refusal.value))


def test_a_lone_surrogate_of_the_message_itself_is_refused():
    with pytest.raises(MalformedTask):
        TaskMessage.parse(with_body('{"a": "\ud800"}'))


def test_a_large_number_is_left_to_the_workflow_to_judge():
    task = TaskMessage.parse(text(request_body={"seed": 2**64}))

    assert task.request_body == {"seed": 2**64}


@pytest.mark.parametrize(
    "path",
    [
        "@evil.example/x",
        "/api/v1/../jobs",
        "/api/v1/a/../b/jobs",
        "/api/v1/a%2fb/jobs",
        "/api/v1//jobs",
        "/api/v1/a/jobs/",
        "/api/v1/a/jobs?x=1",
        "/api/v1/a/jobs\n",
        "//evil.example/api/v1/a/jobs",
        "http://evil.example/api/v1/a/jobs",
        "/api/v2/a/jobs",
        "/api/v1/A/jobs",
        f"/api/v1/{'a' * 64}/jobs",
        "",
    ],
)
def test_a_path_is_that_of_a_workflow_and_nothing_else(path):
    assert workflow_of(path) is None
    with pytest.raises(MalformedTask, match="api_path"):
        TaskMessage.parse(text(api_path=path))


@pytest.mark.parametrize("letter", ["a", "镜"])
def test_a_message_that_is_too_large_is_refused_by_its_bytes(letter):
    room = LARGEST_RECEIVED_BYTES - size_of(with_body('{"a": ""}'))
    fits = with_body('{"a": "%s"}' % (letter * (room // size_of(letter))))

    assert TaskMessage.parse(fits)
    with pytest.raises(MalformedTask, match="1048576 bytes"):
        TaskMessage.parse(fits + "   ")


def test_what_is_sent_can_be_read_again_by_everybody():
    task = TaskMessage.parse(text())

    sent = json.loads(task.encode())

    assert sent == {"version": 1, **TASK}
    assert TaskMessage.parse(task.encode()) == task


def test_what_is_sent_holds_no_character_that_a_queue_refuses():
    body = {"prompt": "\x00\x1f\ufffe\uffff镜头🎨"}
    task = TaskMessage(task_id="a", api_path=PATH, request_body=body)

    sent = task.encode()

    assert not set(sent) & {"\x00", "\x1f", "\ufffe", "\uffff"}
    assert "镜头🎨" in sent
    assert TaskMessage.parse(sent) == task
