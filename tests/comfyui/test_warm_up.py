"""Warm-ups in a real ComfyUI: what waits for them, and what they leave behind."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_process import DEFINITIONS, ComfyProcess, wait_until
from conftest import EACH_VERSION, NEWEST
from forked import ForkedComfy

SLUG, TAG = "warmed", "warm-up"
SHORT, LONG = 8, 50
#: Much less than that, and than what jobs would be given.
PROMPTLY = 15


@pytest.fixture
def comfy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComfyProcess]:
    """One that is yet to be started."""
    process = ForkedComfy(getattr(request, "param", NEWEST), tmp_path)
    yield process
    process.kill()


def warm(comfy: ComfyProcess, seconds: int) -> None:
    """Have it begin with a warm-up that takes so long."""
    graph = (DEFINITIONS / "probe" / "graph.json").read_text()
    content = json.loads((DEFINITIONS / "probe" / "workflow.json").read_text())
    content["warmup"] = {"tag": TAG, "seconds": seconds, "steps": 20 * seconds}
    comfy.define(SLUG, {"graph.json": graph, "workflow.json": json.dumps(content)})


def is_ready(comfy: ComfyProcess) -> bool:
    return comfy.get("/ready").status_code == 200


def told(comfy: ComfyProcess) -> dict[str, Any]:
    return dict(comfy.get("/health").json()["components"]["warm_up"])


@pytest.mark.parametrize("comfy", EACH_VERSION, indirect=True)
def test_it_is_ready_when_the_warm_up_is_over_and_nothing_is_left_of_it(
    comfy: ComfyProcess,
) -> None:
    warm(comfy, SHORT)
    comfy.start()
    early = comfy.get("/ready")
    job_id = comfy.submit(SLUG, {"tag": "job"})

    wait_until(lambda: is_ready(comfy))

    assert (early.status_code, early.json()["reasons"]["warm_up"]) == (503, f"warming up: {SLUG}")
    assert comfy.finished(job_id)["status"] == "completed"
    assert (len(comfy.runs(TAG)), comfy.jobs_tagged(TAG)) == (1, [])
    wait_until(lambda: not any(each.is_file() for each in (comfy.base / "output").rglob("*")))
    assert [each.name for each in (comfy.user_folder / "results").iterdir()] == [job_id]
    assert told(comfy)["status"] == "healthy"
    metrics = comfy.get("/metrics").text
    (seconds,) = re.findall(rf'unified_api_warm_up_seconds{{workflow="{SLUG}"}} (\S+)', metrics)
    assert float(seconds) >= SHORT
    assert "unified_api_cold_start_seconds " in metrics


def test_a_long_one_holds_up_neither_the_end_nor_the_next_start(
    comfy: ComfyProcess,
) -> None:
    warm(comfy, LONG)
    comfy.start()
    wait_until(lambda: comfy.runs(TAG))

    comfy.terminate()
    begun = time.monotonic()
    status = comfy.exit_status()
    seconds = time.monotonic() - begun
    comfy.start()

    assert (status, comfy.has_said_farewell, seconds < PROMPTLY) == (0, True, True)
    wait_until(lambda: is_ready(comfy))
    assert (told(comfy)["status"], "left out" in told(comfy)["reason"]) == ("degraded", True)
    assert len(comfy.runs(TAG)) == 1


def test_one_that_takes_too_long_is_interrupted(comfy: ComfyProcess) -> None:
    warm(comfy, LONG)
    comfy.environment["UNIFIED_API_WARM_UP_SECONDS"] = "3"
    comfy.start()
    job_id = comfy.submit("probe", {"tag": "job"})

    assert comfy.finished(job_id)["status"] == "completed"

    assert is_ready(comfy)
    assert (told(comfy)["status"], "no time" in told(comfy)["reason"]) == ("degraded", True)
