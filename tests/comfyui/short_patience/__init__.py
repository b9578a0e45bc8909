"""Gives a prompt that cannot be interrupted up after three seconds instead of thirty."""

import sys

NODE_CLASS_MAPPINGS = {}


async def shorten(_app) -> None:
    (seam,) = [module for name, module in sys.modules.items() if name.endswith(".jobs.comfyui")]
    seam.GRACE_SECONDS = 3.0


from server import PromptServer  # noqa: E402

PromptServer.instance.app.on_startup.append(shorten)
