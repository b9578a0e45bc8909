"""Stand-ins: nodes of ours that take the place of ComfyUI's while a job of ours runs.

SaveImage encodes and LoadImage decodes in the thread that runs the prompts, and the GPU waits
meanwhile. What stands in for the one hands the pixels over and returns at once; what stands in for
the other takes what LoadImage itself has loaded before, beside the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from PIL import Image

from ..prompt import FOLDER

SAVE, LOAD = "SaveImage", "LoadImage"
HAND_OVER, LOADED = f"{SAVE} (Unified API)", f"{LOAD} (Unified API)"
#: What they have in every version. A node that has more is left alone.
INPUTS = {SAVE: {"images", "filename_prefix"}, LOAD: {"image"}}

#: Called with the prompt's id, the node's and its pictures, in the thread that runs the prompts.
Take = Callable[[str, str, list[Image.Image]], None]
#: Called there too, with the name of a picture; what LoadImage made of it.
Give = Callable[[str], Any]


def handing_over(graph: dict[str, Any], prompt_id: str) -> dict[str, Any]:
    """A valid graph with the stand-in wherever it had SaveImage."""

    def stand_in(node: dict[str, Any]) -> dict[str, Any]:
        # By the id each prompt has a node of its own: what a cache knows is not handed over.
        inputs = {"images": node["inputs"]["images"], "prompt_id": prompt_id}
        return {**node, "class_type": HAND_OVER, "inputs": inputs}

    return {
        node_id: stand_in(node) if _is_plain(node, SAVE) else node
        for node_id, node in graph.items()
    }


def pictures_in(graph: dict[str, Any]) -> Iterator[str]:
    """The names of the pictures of ours that LoadImage would load."""
    yield from filter(None, map(_picture_of, graph.values()))


def taking(graph: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A valid graph with the stand-in wherever LoadImage had one of these pictures."""
    return {
        node_id: {**node, "class_type": LOADED} if _picture_of(node) in names else node
        for node_id, node in graph.items()
    }


def node_that_hands_over(take: Take) -> type:
    """The class of the node in SaveImage's place."""

    class HandOver:
        """Gives pictures to the service that queued the prompt. It is nothing for an editor."""

        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "hand_over"
        OUTPUT_NODE = True
        CATEGORY = "unified_api"
        DEV_ONLY = True

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI calls it so
            return {
                "required": {"images": ("IMAGE",), "prompt_id": ("STRING", {"forceInput": True})},
                "hidden": {"node_id": "UNIQUE_ID"},
            }

        def hand_over(self, images: Any, prompt_id: str, node_id: str) -> dict[str, Any]:
            pictures = [_picture(image) for image in images]
            take(prompt_id, node_id, pictures)
            sizes = [{"width": each.width, "height": each.height} for each in pictures]
            return {"ui": {"handed_over": sizes}, "result": (images,)}

    return HandOver


def node_that_gives(give: Give) -> type:
    """The class of the node in LoadImage's place."""

    class Loaded:
        """Takes a picture that was loaded before. It is nothing for an editor.

        Its name follows from its content, so that equal pictures have one place in a cache.
        """

        RETURN_TYPES = ("IMAGE", "MASK")
        FUNCTION = "give"
        CATEGORY = "unified_api"
        DEV_ONLY = True

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI calls it so
            return {"required": {"image": ("STRING", {"forceInput": True})}}

        def give(self, image: str) -> Any:
            return give(image)

    return Loaded


def _is_plain(node: dict[str, Any], class_type: str) -> bool:
    return bool(node["class_type"] == class_type and node["inputs"].keys() == INPUTS[class_type])


def _picture_of(node: dict[str, Any]) -> str | None:
    """The name of a picture of ours that this node would load."""
    name = node["inputs"]["image"] if _is_plain(node, LOAD) else None
    # Another node may give the name.
    return name if isinstance(name, str) and name.startswith(f"{FOLDER}/") else None


def _picture(image: Any) -> Image.Image:
    """A tensor of height x width x channels from 0 to 1, rounded down as SaveImage does it."""
    pixels = image.mul(255.0).clamp_(0, 255).byte().cpu().numpy()
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
