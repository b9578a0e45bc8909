"""Results as small pictures, for pages: of this origin, where policies allow no other."""

from __future__ import annotations

from aiohttp import web

from ..jobs.errors import UnknownOutput
from .jobs import IMMUTABLE, unless_known
from .service import service_of
from .shown import own_job

MEDIA_TYPE = "image/webp"


async def thumbnail(request: web.Request) -> web.Response:
    """The picture, or the way to the whole one where none can be made small."""
    job, _ = await own_job(request)
    number, service = int(request.match_info["number"]), service_of(request)
    if small := await service.thumbnail(job, number):
        headers = {"Cache-Control": IMMUTABLE, "X-Content-Type-Options": "nosniff"}
        reply = web.Response(body=small, content_type=MEDIA_TYPE, headers=headers)
        return unless_known(request, reply)
    if (link := await service.link(job.outputs[number])) is None:
        raise UnknownOutput()
    headers = {"Location": link.url, "Cache-Control": "no-store"}
    return web.Response(status=307, headers=headers)
