"""Both Qwen workflows, executed for real with tiny random weights: our graphs, ComfyUI's code."""

import io
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_process import ComfyProcess, wait_until
from conftest import EACH_VERSION
from forked import ForkedComfy
from PIL import Image
from unified_api.workflows import LIBRARY, Catalog

ASPECT = (96, 64)
#: One megapixel of that aspect, sides floored to multiples of 8.
SIZE = (1248, 832)


@pytest.fixture(scope="module", params=EACH_VERSION)
def comfy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyProcess]:
    process = ForkedComfy(
        request.param,
        tmp_path_factory.mktemp("qwen"),
        nodes=("tiny_qwen",),
        TINY_QWEN_MODELS=json.dumps(model_files()),
    )
    yield process.start()
    process.kill()


def model_files() -> dict[str, list[str]]:
    """Folder -> names of the files that the shipped workflows load."""
    files = defaultdict(list)
    for workflow in Catalog([LIBRARY]).workflows.values():
        for slot in workflow.models.values():
            files[slot.folder].append(
                workflow.graph[slot.binding.node]["inputs"][slot.binding.input]
            )
    return files


def photo(color: str) -> tuple[str, bytes, str]:
    buffer = io.BytesIO()
    Image.new("RGB", ASPECT, color).save(buffer, "JPEG")
    return ("photo.jpg", buffer.getvalue(), "image/jpeg")


def run(comfy: ComfyProcess, workflow: str, *colors: str, **parameters: Any) -> Image.Image:
    """The picture that a job made of one to three photos."""
    names = ("image", "image2", "image3")
    files = {name: photo(color) for name, color in zip(names, colors, strict=False)}
    reply = comfy.post(f"/api/v1/{workflow}/jobs", files=files, data=parameters)
    assert reply.status_code == 202, reply.text
    job = comfy.finished(reply.json()["job_id"], seconds=240)
    assert job["status"] == "completed", job
    content = comfy.get(job["result_url"].removeprefix(comfy.url)).content
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.format == "PNG"
    return picture


@pytest.mark.timeout(300)
def test_both_are_warm_when_comfyui_is_ready(comfy: ComfyProcess) -> None:
    wait_until(lambda: comfy.get("/ready").ok, seconds=240)

    warm_up = comfy.get("/health").json()["components"]["warm_up"]
    metrics = comfy.get("/metrics").text

    assert warm_up["status"] == "healthy"
    for slug in ("camera-angle", "qwen-image-edit"):
        assert f'unified_api_warm_up_seconds{{workflow="{slug}"}}' in metrics


@pytest.mark.timeout(300)
def test_camera_angle_makes_a_picture(comfy: ComfyProcess) -> None:
    assert run(comfy, "camera-angle", "red", horizontal="-1", seed="1").size == SIZE


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_seed_decides_what_camera_angle_makes(comfy: ComfyProcess) -> None:
    first = run(comfy, "camera-angle", "red", horizontal="-1", seed="1")
    same = run(comfy, "camera-angle", "red", horizontal="-1", seed="1")
    other = run(comfy, "camera-angle", "red", horizontal="-1", seed="2")

    assert first.tobytes() == same.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.timeout(300)
def test_qwen_image_edit_takes_one_picture_or_three(comfy: ComfyProcess) -> None:
    one = run(comfy, "qwen-image-edit", "red", prompt="把猫放进花园", seed="1")
    three = run(comfy, "qwen-image-edit", "red", "green", "blue", prompt="合在一起", seed="1")

    assert one.size == three.size == SIZE
    assert one.tobytes() != three.tobytes()


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_seed_decides_what_qwen_image_edit_makes(comfy: ComfyProcess) -> None:
    one = run(comfy, "qwen-image-edit", "red", prompt="把猫放进花园", seed="1")
    again = run(comfy, "qwen-image-edit", "red", prompt="把猫放进花园", seed="1")
    other = run(comfy, "qwen-image-edit", "red", prompt="把猫放进花园", seed="2")

    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()
