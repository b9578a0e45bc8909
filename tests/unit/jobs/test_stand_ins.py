"""The node that stands in for SaveImage, on real tensors."""

import numpy as np
import pytest
import torch
from unified_api.jobs.comfyui.stand_ins import (
    HAND_OVER,
    LOADED,
    handing_over,
    node_that_hands_over,
    pictures_in,
    taking,
)

SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}}


@pytest.fixture
def taken():
    return []


@pytest.fixture
def run(taken):
    """Run the node; what ComfyUI gets of it."""
    node = node_that_hands_over(lambda *told: taken.append(told))()

    def hand_over(images):
        return getattr(node, node.FUNCTION)(images=images, prompt_id="p", node_id="9")

    return hand_over


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_pixels_are_those_that_saveimage_writes(run, taken, channels, dtype):
    images = (torch.rand((2, 7, 5, channels)) * 1.2 - 0.1).to(dtype)

    run(images)

    ((prompt_id, node_id, pictures),) = taken
    assert (prompt_id, node_id) == ("p", "9")
    saved = np.clip(255.0 * images.numpy(), 0, 255).astype(np.uint8)
    for picture, pixels in zip(pictures, saved, strict=True):
        assert picture.size == (5, 7)
        assert np.array_equal(np.asarray(picture), pixels)


def test_one_channel_is_grey(run, taken):
    run(torch.full((1, 4, 4, 1), 0.5))

    ((*_, (picture,)),) = taken
    assert (picture.mode, picture.getpixel((0, 0))) == ("L", 127)


def test_pictures_go_on_to_nodes_behind_it(run):
    images = torch.zeros((1, 8, 4, 3))

    told = run(images)

    assert told["result"] == (images,)
    assert told["ui"] == {"handed_over": [{"width": 4, "height": 8}]}


def test_it_stands_wherever_saveimage_stood():
    graph = {"1": {"class_type": "Draw", "inputs": {}}, "9": {**SAVE, "_meta": {"title": "End"}}}

    changed = handing_over(graph, "p")

    assert changed["1"] is graph["1"]
    assert changed["9"] == {
        "class_type": HAND_OVER,
        "inputs": {"images": ["1", 0], "prompt_id": "p"},
        "_meta": {"title": "End"},
    }
    assert graph["9"]["class_type"] == "SaveImage"


@pytest.mark.parametrize(
    "node",
    [
        {**SAVE, "class_type": "PreviewImage"},
        {**SAVE, "inputs": {**SAVE["inputs"], "quality": 3}},
        {**SAVE, "inputs": {"images": ["1", 0]}},
    ],
)
def test_other_nodes_stay(node):
    assert handing_over({"9": node}, "p") == {"9": node}


LOADING = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "unified_api/a.png"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "somebody/a.png"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": ["1", 0]}},
    "4": {
        "class_type": "LoadImageMask",
        "inputs": {"image": "unified_api/b.png", "channel": "red"},
    },
    "5": {"class_type": "LoadImage", "inputs": {"image": "unified_api/c.png", "more": 1}},
}


def test_pictures_of_ours_are_found():
    assert list(pictures_in(LOADING)) == ["unified_api/a.png"]


def test_only_pictures_that_are_named_are_taken():
    changed = taking(LOADING, ["unified_api/a.png"])

    assert changed == {**LOADING, "1": {**LOADING["1"], "class_type": LOADED}}
    assert taking(LOADING, []) == LOADING


def test_a_name_that_another_node_gives_is_left_to_it():
    assert taking({"3": LOADING["3"]}, {"unified_api/a.png"}) == {"3": LOADING["3"]}
