"""The web pages: documents that everybody may load; what they show, they ask the API for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from aiohttp import web

from .files import file_answer

WEB = Path(__file__).resolve().parents[1] / "web"
PAGE = "text/html; charset=utf-8"
ASSETS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Pages load what is ours and nothing else; only a result may lie on another server.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data: https: http:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


async def docs(_: web.Request) -> web.FileResponse:
    return await _answer(WEB / "docs.html", PAGE)


async def dashboard(_: web.Request) -> web.FileResponse:
    return await _answer(WEB / "dashboard.html", PAGE)


async def asset(request: web.Request) -> web.FileResponse:
    # Looked up by name, so that no name leads out of the folder.
    if (file := assets().get(request.match_info["name"])) is None:
        raise web.HTTPNotFound()
    return await _answer(file, ASSETS[file.suffix])


@cache
def assets() -> dict[str, Path]:
    """What the pages are made of, by name."""
    return {file.name: file for file in WEB.iterdir() if file.suffix in ASSETS}


async def _answer(file: Path, content_type: str) -> web.FileResponse:
    return await file_answer(file, {"Content-Type": content_type, **HEADERS})
