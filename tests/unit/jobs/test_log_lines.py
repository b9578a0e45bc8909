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


FORGED = "a\r\n2026-01-01 [INFO] all is well\x1b[2J\x9b\u202e\u2028\0b 猫"
SPELT_OUT = r"a\r\n2026-01-01 [INFO] all is well\x1b[2J\x9b\u202e\u2028\x00b 猫"


def written_by_comfyui(logger: logging.Logger) -> io.StringIO:
    """What somebody else's handler writes, further up, where lines go that are text."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    parent = logger.parent
    assert parent is not None
    parent.handlers = [handler]
    return stream


def test_text_is_left_to_comfyui_in_one_line_without_what_cannot_be_seen(
    logger: logging.Logger,
) -> None:
    stream = written_by_comfyui(logger)
    write_as("text", logger)

    child = logger.getChild("deep.down")
    child.warning("job %s: 100%% %s", "1", FORGED)
    child.error(FORGED)

    assert stream.getvalue() == f"WARNING job 1: 100% {SPELT_OUT}\nERROR {SPELT_OUT}\n"


def test_a_traceback_as_text_cannot_be_mistaken_for_other_lines(logger: logging.Logger) -> None:
    stream = written_by_comfyui(logger)
    write_as("text", logger)

    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("it failed")

    first, *traceback = stream.getvalue().splitlines()
    assert first == "ERROR it failed"
    assert "ValueError: a" in stream.getvalue()
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)
    assert "[INFO] all is well\\x1b[2J" in stream.getvalue()
