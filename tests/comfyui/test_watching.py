"""A job of a real ComfyUI, watched while it runs."""

import base64
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_process import ComfyProcess
from conftest import EACH_SHARED
from PIL import Image

PREVIEW = {"content_type": "image/jpeg", "width": 256, "height": 128}


@pytest.fixture(params=EACH_SHARED)
def any_comfy(request: pytest.FixtureRequest) -> ComfyProcess:
    process: ComfyProcess = request.getfixturevalue(request.param)
    return process


def events(comfy: ComfyProcess, job_id: str, **query: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, data) of each event, to the end of the job."""
    path = f"/api/v1/jobs/{job_id}/events"
    with comfy.get(path, params=query, stream=True) as stream:
        name = ""
        for line in stream.iter_lines(chunk_size=None, decode_unicode=True):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_previews_are_shown_small_to_those_who_ask(any_comfy: ComfyProcess) -> None:
    job_id = any_comfy.submit("previews", {"previews": 30, "seconds": 3})

    told = list(events(any_comfy, job_id, previews="true"))

    shown = [data for name, data in told if name == "preview"]
    pictures = [base64.b64decode(each.pop("data")) for each in shown]
    run_seconds = told[-1][1]["timings"]["run_ms"] / 1000
    assert 2 <= len(shown) <= 2 * run_seconds + 2
    assert all(each == PREVIEW for each in shown)
    assert Image.open(io.BytesIO(pictures[0])).size == (256, 128)
    assert (told[-1][0], told[-1][1]["status"]) == ("status", "completed")


def test_nobody_else_is_shown_any(newest: ComfyProcess) -> None:
    job_id = newest.submit("previews", {"previews": 10, "seconds": 1})

    assert "preview" not in {name for name, _ in events(newest, job_id)}


def test_the_time_left_is_known_from_earlier_runs_and_goes_down(newest: ComfyProcess) -> None:
    for _ in range(2):
        newest.finished(newest.submit("previews", {"previews": 30, "seconds": 3}))
    earlier = newest.get("/api/v1/jobs?workflow=previews").json()["data"]
    longest = max(job["timings"]["run_ms"] for job in earlier) / 1000

    job_id = newest.submit("previews", {"previews": 30, "seconds": 3})
    told = [data for name, data in events(newest, job_id) if name == "progress"]

    left = [progress["eta_seconds"] for progress in told if progress["percent"]]
    percents = [progress["percent"] for progress in told]
    assert left == sorted(left, reverse=True)
    assert max(left) <= math.ceil(longest)
    assert percents == sorted(percents)
    assert len(set(percents)) > 3


def test_who_waits_is_told_his_place_and_how_it_moves(newest: ComfyProcess) -> None:
    jobs = [newest.submit("probe", {"seconds": 1.5, "steps": 30}) for _ in range(3)]

    told = [data.get("progress", data) for _, data in events(newest, jobs[2])]

    places = [progress["queue_position"] for progress in told if "queue_position" in progress]
    assert places[0] in (1, 2)
    assert places[-1] is None
    assert 1 in places
