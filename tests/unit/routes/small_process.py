"""A process that serves an engine on a port of its own and may have few files open.

`python small_process.py FOLDER PORT FILES`; settings come from the environment. It prints a line
when it answers, and ends with its input.
"""

import asyncio
import logging
import resource
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
runpy.run_path(str(ROOT / "tests" / "conftest.py"))
sys.path.insert(0, str(ROOT))

from unified_api.jobs.settings import Settings  # noqa: E402
from unified_api.routes import Listener  # noqa: E402
from unified_api.routes.service import Surface  # noqa: E402

from tests.unit.fake_host import Bench, define  # noqa: E402


async def serve(folder, port):
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    bench = Bench(folder, define(folder / "definitions"), Settings.from_env)
    settings = Settings.from_env().model_copy(update={"port": port})
    surface = Surface.of(settings, version="1", keys_file=folder / "keys.json", is_local=True)
    listener = Listener(settings)
    await listener.open(await bench.open(), surface, comfyui_url="http://127.0.0.1:1")
    print(listener.component.state.value, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await listener.close()
    await bench.close()


if __name__ == "__main__":
    limit = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
