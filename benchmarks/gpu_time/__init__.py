"""GpuTime: stands where a model would. It takes its time as a GPU does: the worker waits.

For benchmarks only. Each run is written down as 'begin end', in seconds of the monotonic clock,
in the file that GPU_TIME_RUNS names.
"""

import os
import time
from pathlib import Path

RUNS = Path(os.environ["GPU_TIME_RUNS"])


class GpuTime:
    """Hands the first picture on, a little changed by the seed, after some milliseconds."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "milliseconds": ("INT", {"default": 500, "min": 0, "max": 3_600_000}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53}),
            },
            "optional": {"image2": ("IMAGE",), "image3": ("IMAGE",)},
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "benchmark"

    def run(self, image, milliseconds, seed, image2=None, image3=None):
        begun = time.monotonic()
        picture = (image + (seed % 97) / 25_500).clamp(0, 1)
        # What is left, so that every run takes as long.
        time.sleep(max(0.0, begun + milliseconds / 1000 - time.monotonic()))
        with RUNS.open("a") as book:
            book.write(f"{begun} {time.monotonic()}\n")
        return (picture,)


NODE_CLASS_MAPPINGS = {"GpuTime": GpuTime}
