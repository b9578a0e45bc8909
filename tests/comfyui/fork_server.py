"""Starts ComfyUI processes by forking, after torch and other large packages are imported.

`python fork_server.py FD` serves the socket with that number. A request is a JSON object with
`tree`, `options`, `environment` and `log`, sent with one end of a pipe. The pipe gets the id of
the process at once, and its exit status (as in `subprocess`) when the process has ended. The server
ends when the other end of the socket is closed.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

LAUNCHER = Path(__file__).resolve().parents[2] / "deploy" / "comfyui" / "launch.py"
#: What ComfyUI, its nodes and the plugin take longest to import; no module is ComfyUI's own.
PRELOADED = (
    *("torch", "torch._dynamo", "torchvision", "transformers", "comfy_kitchen", "kornia"),
    *("scipy.stats", "spandrel", "torchsde", "av", "PIL.Image", "OpenGL.GL", "OpenGL.EGL"),
    *("aiohttp.web", "alembic", "sqlalchemy.orm", "boto3", "pydantic", "jsonschema"),
    *("prometheus_client", "requests", "yaml"),
)
REQUEST_BYTES = 1 << 20


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each request. Returns the request, in the process that is to become a ComfyUI."""
    # The system removes keepers that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, pipes, _, _ = socket.recv_fds(control, REQUEST_BYTES, 1)
        if not message:
            sys.exit()
        (pipe,) = pipes
        if os.fork() == 0:
            control.close()
            keep(pipe)
            return dict(json.loads(message))
        os.close(pipe)


def keep(pipe: int) -> None:
    """Fork once more, and report that process to the pipe. Returns in the new process only."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(pipe)
        return
    os.write(pipe, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(pipe, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for target, source in ((0, nothing), (1, file), (2, file)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(file)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # ComfyUI must not meet the modules of the tests.
    del sys.path[0]
    launch = load_launcher()
    launch.stand_in_for_torchaudio(may_import=True)
    _kept = launch.schemas_for_torchvision()
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()

    asked = serve(control)

    redirect(asked["log"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # Otherwise all forks would draw the same random numbers.
    importlib.import_module("numpy").random.seed()
    with launch.ending_in_order():
        launch.run(Path(asked["tree"]), asked["options"])


def load_launcher() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", LAUNCHER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
