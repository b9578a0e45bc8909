"""Lines of the log for machines: one JSON object each, with what the message names."""

from __future__ import annotations

import io
import json
import logging
import uuid

import pytest
from unified_api.jobs.log_lines import write_as


@pytest.fixture
def logger() -> logging.Logger:
    """One that no other test knows."""
    logger = logging.getLogger(f"of.a.test.{uuid.uuid4()}")
    logger.setLevel(logging.INFO)
    return logger


def test_a_line_for_machines_has_what_the_message_names_and_is_told_once(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.StringIO()
    write_as("json", logger, stream)

    logger.info("job=%s status=%d", "a\nb", 202)

    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["job"], told["status"], told["level"]) == ("a\nb", 202, "info")
    assert told["message"] == "job=a\nb status=202"
    assert caplog.records == []


def test_a_job_is_a_field_in_whatever_is_said_of_it(logger: logging.Logger) -> None:
    stream = io.StringIO()
    write_as("json", logger, stream)

    logger.warning("the results of job %s could not be deleted: %s", "1234", "job %s")

    assert json.loads(stream.getvalue())["job"] == "1234"


def test_each_field_has_its_own_value_however_that_is_written(logger: logging.Logger) -> None:
    stream = io.StringIO()
    write_as("json", logger, stream)

    logger.info("method=%r 100%% status=%-5d took %.1f%% of job %s", "GET", 202, 3.2, "1234")

    told = json.loads(stream.getvalue())
    assert (told["method"], told["status"], told["job"]) == ("GET", 202, "1234")
    assert told["message"] == "method='GET' 100% status=202   took 3.2% of job 1234"


def test_a_stranger_cannot_name_a_field(logger: logging.Logger) -> None:
    stream = io.StringIO()
    write_as("json", logger, stream)

    logger.info("refused: %s", "admin=%s level=%s")

    told = json.loads(stream.getvalue())
    assert "admin" not in told
    assert told["level"] == "info"


def test_a_traceback_is_one_line_and_the_journal_knows_how_bad_it_is(
    logger: logging.Logger,
) -> None:
    stream = io.StringIO()
    write_as("journal", logger, stream)

    try:
        raise ValueError("五")
    except ValueError:
        logger.exception("it failed")

    (line,) = stream.getvalue().splitlines()
    assert line.startswith("<3>{")
    assert line.isascii()
    assert "ValueError: 五" in json.loads(line[3:])["exception"]


def test_text_leaves_the_lines_to_comfyui(logger: logging.Logger) -> None:
    write_as("text", logger)

    assert logger.handlers == []
    assert logger.propagate
