"""The example workflows in ComfyUI's own editor."""

from __future__ import annotations

import json

import pytest
from browser import OpenPage
from comfy_process import PLUGIN, ROOT, ComfyProcess
from PIL import Image

EXAMPLES = sorted(file.stem for file in (ROOT / "example_workflows").glob("*.json"))
#: What the editor itself says of files that a new user does not have yet, and of its own start.
EDITORS_OWN = ("404", "before initialization")
IS_LOADED = "name => window.app?.extensionManager?.workflow?.activeWorkflow?.filename === name"
AS_PROMPT = "async () => (await window.app.graphToPrompt()).output"


def test_the_editor_lists_the_examples(newest: ComfyProcess) -> None:
    templates = newest.get("/api/workflow_templates").json()

    assert EXAMPLES
    assert sorted(templates[PLUGIN]) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_comes_with_a_picture_of_itself(newest: ComfyProcess, name: str) -> None:
    picture = newest.get(f"/api/workflow_templates/{PLUGIN}/{name}.jpg", stream=True)

    with Image.open(picture.raw) as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_the_workflow_of_its_name(
    newest: ComfyProcess, open_page: OpenPage, name: str
) -> None:
    library = ROOT / "workflows" / "library" / name / "graph.json"

    page = open_page(f"{newest.url}/?template={name}&source={PLUGIN}", expected=EDITORS_OWN)
    page.wait_for_function(IS_LOADED, arg=name)

    assert page.evaluate(AS_PROMPT) == json.loads(library.read_text())
