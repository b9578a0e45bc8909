"""What happens again and again is logged once, and counted."""

import logging

import pytest
from unified_api.jobs.counted_log import MOST_KINDS, CountedLog

LOG = logging.getLogger("unified_api.test")


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def counted(clock):
    return CountedLog(LOG, seconds=60, clock=lambda: clock[0])


def test_a_flood_is_one_line_and_a_count_each_minute(counted, clock, caplog):
    for _ in range(3):
        for _ in range(1000):
            counted.log(logging.WARNING, "%s is away", "S3")
        clock[0] += 60

    assert [record.getMessage() for record in caplog.records] == [
        "S3 is away",
        "S3 is away (999 more since this was logged)",
        "S3 is away (999 more since this was logged)",
    ]


def test_only_the_first_has_a_traceback_and_another_error_is_of_another_kind(counted, caplog):
    for error in (ValueError("a"), ValueError("a"), ValueError("b")):
        counted.log(logging.ERROR, "failed", error=error)

    assert [str(record.exc_info[1]) for record in caplog.records] == ["a", "b"]


def test_what_is_given_a_kind_is_counted_with_it(counted, caplog):
    for number in range(10):
        counted.log(logging.WARNING, "request %d", number, kind="requests")

    assert [record.getMessage() for record in caplog.records] == ["request 0"]


def test_after_all_was_well_it_is_logged_again(counted, caplog):
    counted.log(logging.WARNING, "away")
    counted.passed()
    counted.log(logging.WARNING, "away")

    assert len(caplog.records) == 2


def test_kinds_without_end_take_no_memory_without_end(counted, caplog):
    for number in range(2 * MOST_KINDS):
        counted.log(logging.WARNING, "%d", number)

    assert len(counted._kinds) == MOST_KINDS
