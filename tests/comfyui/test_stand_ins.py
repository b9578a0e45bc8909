"""Pictures that go in and out past LoadImage and SaveImage, and come out as with them."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from comfy_process import ComfyProcess
from conftest import EACH_VERSION, StartComfy
from PIL import Image

SIZE = (160, 120)
RESIZE = {"width": "80", "height": "60", "upscale_method": "nearest-exact"}
STAND_INS = {"LoadImage (Unified API)", "SaveImage (Unified API)"}
BY_COMFYUI = {"LoadImage", "SaveImage"}


def encoded(kind: str) -> bytes:
    """A picture in which every pixel counts."""
    noise = random.Random(1).randbytes(SIZE[0] * SIZE[1] * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", SIZE, noise).save(buffer, kind)
    return buffer.getvalue()


def resized(comfy: ComfyProcess, kind: str) -> tuple[bytes, set[str]]:
    """The pixels of a job's result, and the classes of nodes that ComfyUI ran for it."""
    before = set(comfy.get("/history").json())
    files = {"image": (f"a.{kind}", encoded(kind), f"image/{kind.lower()}")}
    reply = comfy.post("/api/v1/image-resize/jobs", files=files, data=RESIZE)
    job = comfy.finished(reply.json()["job_id"])
    assert job["status"] == "completed", job
    history = comfy.get("/history").json()
    (prompt_id,) = set(history) - before
    return pixels_of(comfy, job), classes_in(history[prompt_id])


def pixels_of(comfy: ComfyProcess, job: dict[str, Any]) -> bytes:
    content = comfy.get(job["result_url"].removeprefix(comfy.url)).content
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.info) == ("PNG", {})
        return picture.tobytes()


def classes_in(record: dict[str, Any]) -> set[str]:
    return {node["class_type"] for node in record["prompt"][2].values()} - {"ImageScale"}


@pytest.mark.parametrize("version", EACH_VERSION)
def test_the_pixels_are_those_that_comfyui_itself_would_make(
    start_comfy: StartComfy, version: str
) -> None:
    ours = start_comfy(version)
    theirs = start_comfy(version, UNIFIED_API_PICTURE_BYTES="0")

    for kind in ("PNG", "JPEG"):
        pixels, classes = resized(ours, kind)
        assert (pixels, BY_COMFYUI) == resized(theirs, kind)
        assert classes == STAND_INS
