"""Pages of other servers that show our results, in a real Chromium."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from comfy_process import ComfyProcess
from conftest import StartComfy
from playwright.sync_api import Browser, Page

from tests.common.ports import free_port

SHOWS = """([url, attributes]) => new Promise(done => {
    const image = document.createElement("img");
    image.onload = () => done(true);
    image.onerror = () => done(false);
    for (const [name, value] of Object.entries(attributes)) image.setAttribute(name, value);
    image.src = url;
})"""
LINKED = {"crossorigin": "anonymous"}
UNNAMED = {"referrerpolicy": "no-referrer"}


class EmptyPage(BaseHTTPRequestHandler):
    """Real, since what a browser is only told of may not use this machine."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def origins() -> Iterator[list[str]]:
    """Of two servers that have nothing but an empty page."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://localhost:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def page_of(chromium: Browser) -> Iterator[Callable[[str], Page]]:
    """A page of some origin, in a window of its own."""
    contexts = []

    def open_one(origin: str) -> Page:
        contexts.append(chromium.new_context())
        page = contexts[-1].new_page()
        page.goto(f"{origin}/")
        return page

    yield open_one
    for context in contexts:
        context.close()


def shows(page: Page, url: str, **attributes: str) -> bool:
    return bool(page.evaluate(SHOWS, [url, attributes]))


def paths(comfy: ComfyProcess) -> list[str]:
    """Of a result, and of its thumbnail."""
    job = comfy.finished(comfy.submit("probe", {}))
    path = f"/api/v1/jobs/{job['job_id']}/outputs/0"
    return [path, f"{path}/thumbnail"]


def test_a_foreign_page_cannot_show_results_and_ours_can(
    start_comfy: StartComfy, page_of, origins
) -> None:
    # Not ComfyUI's port: it turns such pages away by itself.
    port = free_port()
    comfy = start_comfy(UNIFIED_API_PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    own, foreign = page_of(url), page_of(origins[0])

    for path in paths(comfy):
        assert shows(own, url + path)
        assert not shows(foreign, url + path)
        assert not shows(foreign, url + path, **LINKED)


def test_a_page_of_an_allowed_origin_can_show_results(
    start_comfy: StartComfy, page_of, origins
) -> None:
    port = free_port()
    comfy = start_comfy(UNIFIED_API_PORT=str(port), UNIFIED_API_CORS_ORIGINS=origins[0])
    allowed, foreign = map(page_of, origins)
    url = f"http://127.0.0.1:{port}"

    for path in paths(comfy):
        assert shows(allowed, url + path)
        assert shows(allowed, url + path, **LINKED)
        assert shows(allowed, url + path, **UNNAMED, **LINKED)
        assert not shows(foreign, url + path)
        assert not shows(foreign, url + path, **UNNAMED)
