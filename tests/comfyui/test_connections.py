"""A real ComfyUI whose own port for the API is taken by a thousand clients that never ask."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import requests
from comfy_process import ComfyProcess, wait_until
from conftest import StartComfy

from tests.common.ports import HOST, free_port

FILES, HALF_OPEN = 1024, 1100
HALF = b"GET /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextmanager
def limit_of_files(files: int) -> Iterator[None]:
    """What is started in the block has these limits, soft and hard."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_clients_that_never_ask_stop_neither_jobs_nor_the_catalog(start_comfy: StartComfy) -> None:
    port = free_port()
    with limit_of_files(FILES):
        # A process of its own, for the limits of a forked one are its parent's.
        comfy = start_comfy(
            kind=ComfyProcess, UNIFIED_API_PORT=str(port), UNIFIED_API_OPEN_FILES=str(FILES)
        )
    own = f"http://{HOST}:{port}"

    def works() -> None:
        workflows = requests.get(f"{own}/api/v1/workflows", timeout=30).json()["data"]
        assert "image-resize" in {one["slug"] for one in workflows}
        components = requests.get(f"{own}/health", timeout=30).json()["components"]
        assert components["comfyui"]["status"] == "healthy"
        assert comfy.finished(comfy.submit("probe"))["status"] == "completed"

    comfy.define("probe")
    wait_until(lambda: comfy.get("/api/v1/workflows/probe").ok)
    works()
    with ExitStack() as clients:
        for _ in range(HALF_OPEN):
            client = clients.enter_context(socket.create_connection((HOST, port), timeout=30))
            client.sendall(HALF)
        works()
    works()
    assert "Too many open files" not in comfy.log.read_text()
