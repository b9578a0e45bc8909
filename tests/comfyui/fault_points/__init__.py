"""POST /fault_point has the process killed at a point: jobs.store:Store.insert:after

It wraps the method from outside, so that the service itself holds nothing for tests. A fourth
part names a text that the first argument must hold: …:Store.save:after:completed
"""

import os
import signal
import sys

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


def arm(point: str) -> None:
    module_name, method_path, moment, *texts = point.split(":")
    (module,) = [m for name, m in sys.modules.items() if name.endswith(f".{module_name}")]
    class_name, method_name = method_path.split(".")
    owner = getattr(module, class_name)
    original = getattr(owner, method_name)

    async def deadly(self, *args, **kwargs):
        is_meant = all(text in repr(args[0]) for text in texts)
        if is_meant and moment == "before":
            die()
        answer = await original(self, *args, **kwargs)
        if is_meant and moment == "after":
            die()
        return answer

    setattr(owner, method_name, deadly)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@PromptServer.instance.routes.post("/fault_point")
async def arm_on_request(request):
    arm(await request.text())
    return web.Response()
