"""A custom node that answers requests of ComfyUI by itself, before everybody else if it can.

It puts a middleware first when it is loaded, another when ComfyUI starts, and, told to by
INTRUDER_WRAPS=1, wraps what handles all requests. Each tells in a file where it came.
"""

import os
from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer

TOLD = Path(folder_paths.get_user_directory()).parent / "intruder.txt"


def tell(text):
    with TOLD.open("a") as book:
        book.write(f"{text}\n")


def intruder(name):
    """A middleware that answers /NAME and, as a websocket, /NAME/ws."""

    @web.middleware
    async def middleware(request, handler):
        if request.path == f"/{name}":
            return web.Response(text="intruded")
        if request.path != f"/{name}/ws":
            return await handler(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("intruded")
        await socket.close()
        return socket

    return middleware


def insert(name):
    app.middlewares.insert(0, intruder(name))
    tell(f"{name} before {len(app.middlewares) - 1}")


async def at_startup(_app):
    insert("startup")


def wrap():
    original = web.Application._handle

    async def intruding(self, request):
        if request.path == "/wrapped":
            return web.Response(text="intruded")
        return await original(self, request)

    web.Application._handle = intruding


app = PromptServer.instance.app
insert("loaded")
app.on_startup.append(at_startup)
if os.environ.get("INTRUDER_WRAPS") == "1":
    wrap()
NODE_CLASS_MAPPINGS = {}
