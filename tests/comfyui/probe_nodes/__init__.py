"""Nodes for tests: they take time, fail and die on demand, and write down each execution."""

import os
import threading
import time
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from PIL import Image
from server import PromptServer

BASE = Path(folder_paths.get_user_directory()).parent
RUNS = BASE / "runs.txt"
#: A test makes this file to end a sleep; the sleeper removes it.
ALARM = BASE / "alarm"
#: How often a sleeper looks for it.
LOOK_SECONDS = 0.05


def sleep(seconds: float) -> None:
    """Unlike time.sleep, this works under a clock that is faked."""
    threading.Event().wait(seconds)


def fail() -> None:
    raise ValueError("the probe was asked to fail in /a/secret/place")


def run_out_of_memory() -> None:
    raise comfy.model_management.OOM_EXCEPTION("the probe ran out of memory")


def leave() -> None:
    raise SystemExit(3)


ENDINGS = {
    "well": lambda: None,
    "fail": fail,
    "out of memory": run_out_of_memory,
    "abort": os.abort,
    "exit": leave,
}


class ProbePicture:
    """A picture that depends on the seed, after some steps of some seconds."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "tag": ("STRING", {"default": "-"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 3600.0}),
                "steps": ("INT", {"default": 1, "min": 1, "max": 1000}),
                "ending": (list(ENDINGS),),
            },
            "optional": {"image": ("IMAGE",)},
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, tag, seed, seconds, steps, ending, image=None):
        with RUNS.open("a") as book:
            book.write(f"{tag} {seed}\n")
        bar = comfy.utils.ProgressBar(steps)
        for _ in range(steps):
            sleep(seconds / steps)
            bar.update(1)
        ENDINGS[ending]()
        generator = torch.Generator().manual_seed(seed % 2**63)
        return (torch.rand((1, 64, 64, 3), generator=generator),)


class ProbeDeafSleep:
    """Sleeps without ever looking whether it was interrupted, until the alarm at the latest."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 0.0, "max": 3600.0})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not ALARM.exists():
            sleep(LOOK_SECONDS)
        ALARM.unlink(missing_ok=True)
        return (torch.zeros((1, 8, 8, 3)),)


class ProbeWork:
    """Multiplies matrices step by step, so that whatever holds Python up makes it slower."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"steps": ("INT", {"default": 100}), "seed": ("INT", {"default": 0})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, steps, seed):
        bar = comfy.utils.ProgressBar(steps)
        matrix = torch.rand((64, 64)) / 64
        for _ in range(steps):
            for _ in range(1000):
                matrix = (matrix @ matrix).clamp(0.01, 0.02)
            bar.update(1)
        return (torch.zeros((1, 8, 8, 3)),)


class ProbePreviews:
    """Sends previews of 30 kB to every editor, and shows its picture as samplers do."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "previews": ("INT", {"default": 400}),
                "seconds": ("FLOAT", {"default": 0.0, "max": 3600.0}),
            },
            "hidden": {"node_id": "UNIQUE_ID"},
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, previews, seconds, node_id):
        bar = comfy.utils.ProgressBar(previews)
        picture = Image.new("RGB", (1024, 512), "teal")
        for number in range(previews):
            PromptServer.instance.send_sync(1, b"\0\0\0\1" + os.urandom(30_000))
            bar.update_absolute(number + 1, previews, ("JPEG", picture, 512))
            sleep(seconds / previews)
        return (torch.zeros((1, 8, 8, 3)),)


class ProbeFixedName:
    """An output node without a filename prefix: the same name each time."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "text": ("STRING", {"default": "hello"})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "probe"

    def run(self, image, text):
        name = "fixed-name.txt"
        Path(folder_paths.get_output_directory(), name).write_text(text)
        return {"ui": {"files": [{"filename": name, "subfolder": "", "type": "output"}]}}


class ProbeSilent:
    """An output node that produces nothing."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "probe"

    def run(self, image):
        return {}


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        ProbePicture,
        ProbeDeafSleep,
        ProbeWork,
        ProbePreviews,
        ProbeFixedName,
        ProbeSilent,
    )
}
