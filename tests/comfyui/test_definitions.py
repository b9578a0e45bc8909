"""Definitions against a real ComfyUI: what is missing is named, what appears is seen."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_process import DEFINITIONS, ComfyProcess, wait_until
from conftest import EACH_SHARED
from unified_api.workflows import LIBRARY, Catalog, Workflow, render

QWEN = ("camera-angle", "qwen-image-edit")
SHIPPED = Catalog([LIBRARY])


def listed(comfy: ComfyProcess, slug: str) -> dict[str, Any]:
    return dict(comfy.get(f"/api/v1/workflows/{slug}").json())


@pytest.fixture(params=EACH_SHARED)
def comfy(request: pytest.FixtureRequest) -> ComfyProcess:
    return request.getfixturevalue(request.param)


@pytest.fixture
def models(comfy: ComfyProcess) -> Iterator[list[Path]]:
    """Zero bytes under the names of all models: enough for ComfyUI's validation."""
    files = [
        comfy.base / "models" / slot.folder / model_file(workflow, slot)
        for workflow in SHIPPED.workflows.values()
        for slot in workflow.models.values()
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for slug in QWEN:
        wait_until(lambda slug=slug: listed(comfy, slug)["health"] == "healthy")
    yield files
    for file in files:
        file.unlink()
    for slug in QWEN:
        wait_until(lambda slug=slug: listed(comfy, slug)["health"] == "unhealthy")


def model_file(workflow: Workflow, slot: Any) -> str:
    return str(workflow.graph[slot.binding.node]["inputs"][slot.binding.input])


def test_missing_models_are_named_and_only_their_endpoints_refuse(comfy: ComfyProcess) -> None:
    camera = listed(comfy, "camera-angle")

    assert camera["health"] == "unhealthy"
    assert any("镜头转换.safetensors is missing" in problem for problem in camera["problems"])
    refused = comfy.post("/api/v1/camera-angle/jobs", json={"image_url": "http://x/y.png"})
    assert refused.status_code == 503
    assert refused.json()["code"] == "workflow_unhealthy"
    assert "models/vae" in refused.json()["detail"]
    assert listed(comfy, "image-resize")["health"] == "healthy"
    ready = comfy.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["workflows"]["camera-angle"] == camera["problems"]


@pytest.mark.parametrize("slug", QWEN)
@pytest.mark.parametrize("pictures_given", [1, 3])
def test_comfyui_accepts_the_qwen_graphs(
    comfy: ComfyProcess, models: list[Path], slug: str, pictures_given: int, png: bytes
) -> None:
    workflow = SHIPPED.workflows[slug]
    images = dict.fromkeys(list(workflow.images)[:pictures_given], "validation.png")
    (comfy.base / "input" / "validation.png").write_bytes(png)
    given = {**dict.fromkeys(images, "http://x/y.png"), "prompt": "猫"}
    graph = render(workflow, workflow.complete(given, seed=1), images=images, prefix="t")

    reply = comfy.post("/prompt", json={"prompt": graph})

    assert reply.status_code == 200, reply.text
    assert reply.json()["node_errors"] == {}


def test_the_catalog_offers_exactly_what_this_comfyui_takes(comfy: ComfyProcess) -> None:
    shown = listed(comfy, "qwen-image-edit")["parameters"]["properties"]

    for name in ("sampler_name", "scheduler"):
        assert shown[name]["enum"] == choices(comfy, "KSampler", name)
        assert len(shown[name]["enum"]) > 5
    assert {name for name in shown if "enum" in shown[name]} == {"sampler_name", "scheduler"}
    known = SHIPPED.workflows["qwen-image-edit"].schema["properties"]
    unchanged = shown.keys() - {"sampler_name", "scheduler"}
    assert {name: shown[name] for name in unchanged} == {name: known[name] for name in unchanged}
    resize = SHIPPED.workflows["image-resize"].schema
    assert listed(comfy, "image-resize")["parameters"] == resize


def test_what_this_comfyui_does_not_take_is_refused_at_the_door(
    comfy: ComfyProcess, models: list[Path]
) -> None:
    asked = {"image_url": "http://x/y.png", "prompt": "x"}

    refused = comfy.post(
        "/api/v1/qwen-image-edit/jobs", json={**asked, "sampler_name": "nonsense", "steps": 101}
    )

    assert refused.status_code == 422
    steps, sampler = refused.json()["errors"]
    assert steps["message"] == "steps must be at most 100."
    assert set(sampler["allowed"]) <= set(choices(comfy, "KSampler", "sampler_name"))
    assert "euler" in sampler["allowed"]
    rehearsed = comfy.post(
        "/api/v1/qwen-image-edit/jobs?dry_run=true", json={**asked, "sampler_name": "euler"}
    )
    assert rehearsed.status_code == 200


def test_nodes_of_the_newer_kind_tell_their_choices_and_bounds_too(comfy: ComfyProcess) -> None:
    comfy.define("animation", animation(method={"type": "string"}, quality={"type": "integer"}))
    wait_until(lambda: comfy.get("/api/v1/workflows/animation").ok)

    shown = listed(comfy, "animation")

    assert shown["health"] == "healthy", shown["problems"]
    assert shown["parameters"]["properties"] == {
        "method": {"type": "string", "enum": choices(comfy, "SaveAnimatedWEBP", "method")},
        "quality": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    forget(comfy, "animation")


def test_a_definition_that_cannot_agree_with_this_comfyui_says_why(comfy: ComfyProcess) -> None:
    method = {"type": "string", "default": "magic"}
    comfy.define("magic", animation(method=method, quality={"type": "string"}))
    wait_until(lambda: comfy.get("/api/v1/workflows/magic").ok)

    problems = listed(comfy, "magic")["problems"]

    node = "of node 4 (SaveAnimatedWEBP)"
    assert problems == [
        f"parameter method: on this machine input method {node} does not take the default magic",
        f"parameter quality: on this machine input quality {node} takes a whole number, not text",
    ]
    assert comfy.post("/api/v1/magic/jobs", json={}).status_code == 503
    forget(comfy, "magic")


def test_a_model_that_cannot_be_loaded_fails_the_job_at_its_node(
    newest: ComfyProcess, png: bytes
) -> None:
    model = newest.base / "models" / "checkpoints" / "Qwen-Rapid-AIO-NSFW-v11.safetensors"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.touch()
    wait_until(lambda: listed(newest, "qwen-image-edit")["health"] == "healthy")

    reply = newest.post(
        "/api/v1/qwen-image-edit/jobs", files={"image": ("a.png", png)}, data={"prompt": "x"}
    )
    job = newest.finished(reply.json()["job_id"])
    model.unlink()

    assert job["error_detail"]["code"] == "execution_failed"
    assert job["error_detail"]["node_class"] == "CheckpointLoaderSimple"


def test_a_users_definition_appears_and_disappears_without_a_restart(newest: ComfyProcess) -> None:
    newest.define("thumbnail", texts("probe"))
    wait_until(lambda: newest.get("/api/v1/workflows/thumbnail").ok)

    job = newest.finished(newest.submit("thumbnail"))

    assert job["status"] == "completed", job["error"]
    forget(newest, "thumbnail")


def test_a_broken_definition_is_listed_with_its_error_and_harms_nothing(
    newest: ComfyProcess,
) -> None:
    files = texts("probe")
    definition = json.loads(files["workflow.json"])
    definition["bindings"]["seed"][0]["node"] = "77"
    newest.define("broken", {**files, "workflow.json": json.dumps(definition)})

    wait_until(lambda: newest.get("/api/v1/workflows/broken").ok)

    broken = listed(newest, "broken")
    assert broken["health"] == "unhealthy"
    for named in ("workflow.json", "seed", "77"):
        assert named in broken["problems"][0]
    assert newest.post("/api/v1/broken/jobs", json={}).status_code == 503
    assert newest.finished(newest.submit("probe"))["status"] == "completed"


def test_a_missing_node_class_is_named(newest: ComfyProcess) -> None:
    files = {
        name: text.replace("SaveImage", "SaveHologram") for name, text in texts("probe").items()
    }
    newest.define("hologram", files)

    wait_until(lambda: newest.get("/api/v1/workflows/hologram").ok)

    (problem,) = listed(newest, "hologram")["problems"]
    assert "SaveHologram is not installed" in problem


def texts(slug: str) -> dict[str, str]:
    return {file.name: file.read_text() for file in (DEFINITIONS / slug).iterdir()}


def animation(**parameters: dict[str, Any]) -> dict[str, str]:
    """A definition whose parameters go to inputs of the same names of SaveAnimatedWEBP."""
    files = texts("many-outputs")
    content = json.loads(files["workflow.json"])
    content["parameters"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": parameters,
    }
    content["bindings"] = {
        name: [{"node": "4", "class_type": "SaveAnimatedWEBP", "input": name}]
        for name in parameters
    }
    return {**files, "workflow.json": json.dumps(content)}


def choices(comfy: ComfyProcess, node_class: str, name: str) -> list[str]:
    """As ComfyUI itself tells them."""
    inputs = comfy.get(f"/object_info/{node_class}").json()[node_class]["input"]
    kind, *details = {**inputs["required"], **inputs.get("optional", {})}[name]
    return list(kind if isinstance(kind, list) else details[0]["options"])


def forget(comfy: ComfyProcess, slug: str) -> None:
    shutil.rmtree(comfy.user_folder / "workflows" / slug)
    wait_until(lambda: comfy.get(f"/api/v1/workflows/{slug}").status_code == 404)
