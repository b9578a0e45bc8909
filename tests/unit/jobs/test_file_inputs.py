"""Which inputs of nodes take the names of files, as their classes declare them."""

import pytest
from unified_api.workflows import TextInputs


@pytest.fixture
def text_inputs(seam, planted):
    """Of a node with one input, given its name and kind; there are files in ComfyUI's folders."""
    for folder, name in (("input", "notes.txt"), ("input", "set-1"), ("output", "old.bin")):
        path = planted.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def ask(name, kind):
        inputs = {"required": {name: kind}}
        node = type("Node", (), {"INPUT_TYPES": classmethod(lambda cls: inputs)})
        planted.node_classes["Node"] = node
        return seam.ComfyUI().text_inputs("Node")

    return ask


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("image", (["a.png"], {"image_upload": True})),
        ("image", (["a"], {"image_upload": True})),
        ("x", ("COMBO", {"options": ["none"], "file_upload": True})),
        ("x", ("COMBO", {"video_upload": True, "remote": {"route": "/files"}})),
        ("x", ("COMBO", {"image_folder": "output"})),
        ("mask", ("STRING", {"default": "", "image_upload": True})),
        ("video", ("STRING", {"vhs_path_extensions": ["mp4"]})),
        ("video", ("STRING", {"placeholder": "X://insert/path/here.mp4"})),
        ("x", ("STRING", {"default": "./input/a.png"})),
        ("x", ("STRING", {"default": "C:\\pictures"})),
        ("x", ("STRING", {"default": "~/a"})),
        ("image", ("STRING", {"default": "example.png"})),
        ("clip", ("STRING", {"placeholder": "intro.MP4 [output]"})),
        ("image", ("WEBCAM", {})),
        ("audio", ("AUDIO_RECORD",)),
        ("x", (["none", "b.JPG"],)),
        ("x", (["b.mp4 [output]"],)),
        ("x", ("COMBO", {"options": ["clip.webm"]})),
        ("x", (["notes.txt"],)),
        ("folder", (["None", "set-1", "notes.txt"],)),
        ("x", (["old.bin"],)),
        ("latent", ([],)),
        ("video", ("COMBO", {"options": []})),
        ("folder_name", ("COMBO", {"options": []})),
        *((name, ("STRING", {})) for name in ("path", "image_path", "imagePath", "file", "Path")),
        *((name, ("STRING",)) for name in ("filename", "file_name", "save_dir", "directory")),
        *((name, ("STRING", None)) for name in ("output folder", "paths", "json_filepath")),
        *((name, ("STRING", {})) for name in ("path1", "image_path_2", "audiofile", "imagepath")),
    ],
)
def test_an_input_for_files_is_known(text_inputs, name, kind):
    assert text_inputs(name, kind).files == {name}
    assert text_inputs(name, kind).names == {name}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sampler_name", (["euler", "beta"],)),
        ("ckpt_name", (["a.safetensors", "sub/b.ckpt"],)),
        ("ckpt_name", ([],)),
        ("lora_path", (["a.safetensors"],)),
        ("choice", ("COMBO", {"options": []})),
        ("font", ("COMBO", {"options": ["a.ttf"]})),
        ("x", ("COMBO", {"remote": {"route": "/models"}})),
        ("x", (["notes.txt", "not in a folder"],)),
        ("x", (["none"],)),
        ("image", ("IMAGE",)),
        ("path", ("INT", {})),
        ("file_format", ("STRING", {"default": "png"})),
        ("profile", ("STRING", {})),
        ("text", ("STRING", {"multiline": True, "default": "/imagine a cat"})),
        ("text", ("STRING", {"image_upload": False})),
        ("url", ("STRING", {"default": "https://a.example/b.png"})),
    ],
)
def test_an_input_for_something_else_is_none(text_inputs, name, kind):
    assert text_inputs(name, kind).files == set()


def test_what_is_out_of_a_list_is_a_name(text_inputs):
    assert text_inputs("method", (["a"],)) == TextInputs(names=frozenset({"method"}))
    assert text_inputs("method", ("COMBO",)) == TextInputs(names=frozenset({"method"}))
    assert text_inputs("text", ("STRING", {})) == TextInputs()


def test_a_class_that_is_not_there_or_broken_tells_nothing(seam, planted, caplog):
    assert seam.ComfyUI().text_inputs("Node") == TextInputs()
    assert caplog.text == ""

    planted.node_classes["Node"] = type("Broken", (), {})
    assert seam.ComfyUI().text_inputs("Node") == TextInputs()
    assert "could not tell its inputs" in caplog.text
