"""A little web server that serves pictures well, slowly, or not at all."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from PIL import Image


class _Handler(BaseHTTPRequestHandler):
    """/any.png?seconds=…&color=…&held"""

    server: _Server

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(self.path)
        self.server.stopping.wait(float(asked.get("seconds", ["0"])[0]))
        if "held" in asked:
            self.server.released.wait()
        picture = _png(asked.get("color", ["teal"])[0])
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(picture)))
        self.end_headers()
        self.wfile.write(picture)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.stopping = threading.Event()
        self.released = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is none of our business."""


class PictureServer:
    def __enter__(self) -> PictureServer:
        self._server = _Server()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stopping.set()
        self.release()
        self._server.shutdown()
        self._server.server_close()

    @property
    def asked(self) -> list[str]:
        """The paths asked for so far."""
        return self._server.asked

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def release(self) -> None:
        """Serve those that are held."""
        self._server.released.set()

    def held_url(self) -> str:
        """Of a picture that does not come before the next `release`."""
        self._server.released.clear()
        return f"{self.url()}&held=1"

    def url(self, *, color: str = "teal", seconds: float = 0) -> str:
        return f"http://{self.address}/picture.png?color={color}&seconds={seconds}"


def _png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), color).save(buffer, "PNG")
    return buffer.getvalue()
