"""A picture server and a bucket as they are over the internet: each answer takes 100 ms longer.

`python -m benchmarks.far_away PORT FOLDER`: `GET /pictures/NAME` answers a file of the folder; all
else is an S3 that keeps what it is given in memory. It is there to be slow in a known way and to
cost little; whether calls are right, the tests find out on emulators.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from aiohttp import web

from .stand_in import HOST

DISTANCE_SECONDS = 0.1
LARGEST_BYTES = 1 << 30


def application(folder: Path) -> web.Application:
    pictures = {file.name: file.read_bytes() for file in folder.iterdir()}
    objects: dict[str, bytes] = {}

    async def picture(request: web.Request) -> web.Response:
        await asyncio.sleep(DISTANCE_SECONDS)
        return web.Response(body=pictures[request.match_info["name"]], content_type="image/jpeg")

    async def put(request: web.Request) -> web.Response:
        content = await request.read()
        await asyncio.sleep(DISTANCE_SECONDS)
        objects[request.path] = content
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return web.Response(headers={"ETag": f'"{etag}"'})

    async def get(request: web.Request) -> web.Response:
        await asyncio.sleep(DISTANCE_SECONDS)
        content = objects.get(request.path)
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def bucket(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=LARGEST_BYTES)
    app.add_routes(
        [
            web.get("/pictures/{name}", picture),
            web.head("/{bucket}", bucket),
            web.put("/{key:.*}", put),
            web.get("/{key:.*}", get),
        ]
    )
    return app


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    web.run_app(application(folder), host=HOST, port=port, print=None, access_log=None)
