"""Callers name no file of the machine: nodes of a real ComfyUI that take the names of files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_process import ComfyProcess, wait_until
from conftest import EACH_SHARED

#: Node class, input, what stands in the graph, and what else the node needs.
FILE_INPUTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("LoadImage", "image", "here.png", {}),
    ("LoadImageMask", "image", "here.png", {"channel": "red"}),
    ("LoadImageOutput", "image", "here.png [output]", {}),
    ("LoadVideo", "file", "clip.mp4", {}),
    ("LoadAudio", "audio", "sound.wav", {}),
    ("LoadLatent", "latent", "a.latent", {}),
    ("LoadImageDataSetFromFolder", "folder", "3d", {}),
    ("SaveImageDataSetToFolder", "folder_name", "set", {"images": ["3", 0]}),
    ("WebcamCapture", "image", "x", {"width": 8, "height": 8, "capture_on_queue": True}),
]
TEXT = {"type": "string"}


@pytest.fixture(params=EACH_SHARED)
def comfy(request: pytest.FixtureRequest) -> ComfyProcess:
    return request.getfixturevalue(request.param)


@pytest.fixture
def define(comfy: ComfyProcess, png: bytes) -> Iterator[Any]:
    """Publish a workflow with one parameter that goes to one input; how it is listed then."""
    (comfy.base / "input" / "here.png").write_bytes(png)
    slugs = []

    def publish(
        node_class: str, name: str, stands: str, more: dict[str, Any], schema: Any, **content: Any
    ) -> dict[str, Any]:
        graph = {
            "1": {"class_type": node_class, "inputs": {name: stands, **more}},
            "2": {
                "class_type": "SaveImage",
                "inputs": {"images": ["3", 0], "filename_prefix": "x"},
            },
            "3": {"class_type": "LoadImage", "inputs": {"image": "here.png"}},
        }
        definition = {
            "title": "File",
            "description": "It names a file.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"name": schema},
            },
            "bindings": {"name": [{"node": "1", "class_type": node_class, "input": name}]},
            "outputs": {"image": {"node": "2", "class_type": "SaveImage"}},
            **content,
        }
        slugs.append(f"file-{len(slugs)}")
        files = {"graph.json": json.dumps(graph), "workflow.json": json.dumps(definition)}
        comfy.define(slugs[-1], files)
        wait_until(lambda: comfy.get(f"/api/v1/workflows/{slugs[-1]}").ok)
        return dict(comfy.get(f"/api/v1/workflows/{slugs[-1]}").json())

    yield publish
    for slug in slugs:
        shutil.rmtree(comfy.user_folder / "workflows" / slug)
        wait_until(lambda slug=slug: comfy.get(f"/api/v1/workflows/{slug}").status_code == 404)


def names_file(listed: dict[str, Any]) -> bool:
    assert isinstance(listed["problems"], list)
    return any("names a file" in problem for problem in listed["problems"])


def test_free_text_for_a_file_makes_a_workflow_unhealthy(define: Any) -> None:
    for place in FILE_INPUTS:
        assert names_file(define(*place, TEXT)), place


def test_a_text_with_rules_is_free_text_too(define: Any) -> None:
    for rules in ({"pattern": r"\.png$"}, {"maxLength": 20}, {"default": "here.png"}):
        assert names_file(define(*FILE_INPUTS[0], {**TEXT, **rules}))


def test_nobody_reads_private_files_by_a_name(comfy: ComfyProcess, define: Any, png: bytes) -> None:
    (comfy.base / "output" / "private.png").write_bytes(png)
    define(*FILE_INPUTS[0], TEXT)

    for name in ("private.png [output]", "../output/private.png", "/etc/hostname", "a\r\nforged"):
        refused = comfy.post("/api/v1/file-0/jobs", json={"name": name})
        assert (refused.status_code, refused.json()["code"]) == (503, "workflow_unhealthy")
    assert "forged" not in comfy.log.read_text(errors="replace")


def test_an_enum_and_an_image_are_healthy(define: Any) -> None:
    assert define(*FILE_INPUTS[0], {**TEXT, "enum": ["here.png"]})["health"] == "healthy"
    images = {"name": {"disconnect": ["1"]}}
    assert define(*FILE_INPUTS[0], TEXT, images=images)["health"] == "healthy"


def test_text_for_something_else_is_healthy(define: Any) -> None:
    place = ("CLIPTextEncode", "text", "a cat", {"clip": ["3", 0]})

    assert define(*place, TEXT)["health"] == "healthy"


@pytest.mark.parametrize("slug", ["image-resize", "probe", "many-outputs", "previews"])
def test_what_is_shipped_and_the_probes_stay_healthy(comfy: ComfyProcess, slug: str) -> None:
    assert comfy.get(f"/api/v1/workflows/{slug}").json()["health"] == "healthy"


def test_the_shipped_workflows_name_no_files(comfy: ComfyProcess) -> None:
    for slug in ("camera-angle", "qwen-image-edit"):
        assert not names_file(comfy.get(f"/api/v1/workflows/{slug}").json())
