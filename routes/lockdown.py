"""Puts the rest of ComfyUI, /ws included, behind an admin key (UNIFIED_API_PROTECT=all)."""

from __future__ import annotations

import asyncio
import base64
import binascii

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs.keys import Scope
from .api import is_ours
from .auth import Caller, basic_of, bearer_of
from .browsers import is_foreign
from .service import Surface

NO_KEYS = (
    "ComfyUI is locked (UNIFIED_API_PROTECT=all) and has no keys yet.\n"
    "Make one on the server: ./install.sh key add NAME --scopes admin\n"
)
WHO = "ComfyUI is locked. Come with an admin key, in a browser as the password.\n"
NOT_YOURS = "This key may not use ComfyUI itself; that takes the scope admin.\n"
FOREIGN = "Web pages of other origins may not use this ComfyUI.\n"
ASK = {"WWW-Authenticate": 'Basic realm="ComfyUI", charset="UTF-8"'}


def lock(app: web.Application, surface: Surface) -> None:
    """Guard every route that is not ours. The application has not started yet."""

    @web.middleware
    async def locked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_ours(request):
            return await handler(request)
        refusal = await _refusal(request, surface)
        # Not `refusal or …`: on older aiohttp a response counts as false.
        return await _answered(request, handler, surface) if refusal is None else refusal

    app.middlewares.insert(0, locked)


async def _answered(request: web.Request, handler: Handler, surface: Surface) -> web.StreamResponse:
    """The answer; one that lasts, like that of /ws, is cut off once its key opens no more."""
    watching = asyncio.ensure_future(_cut_off_when_refused(request, surface))
    try:
        return await handler(request)
    finally:
        watching.cancel()


async def _cut_off_when_refused(request: web.Request, surface: Surface) -> None:
    pause = surface.recheck_seconds
    refusal = None
    while refusal is None:
        await asyncio.sleep(pause)
        refusal = await _refusal(request, surface, max_age=pause / 2)
    if request.transport:
        request.transport.abort()


async def _refusal(
    request: web.Request, surface: Surface, *, max_age: float = 0.0
) -> web.Response | None:
    await surface.keyring.refresh(max_age=max_age)
    if not surface.keyring.is_required:
        return web.Response(status=503, text=NO_KEYS)
    password = _password(request)
    if password is not None and _is_from_elsewhere(request, surface):
        return web.Response(status=403, text=FOREIGN)
    caller = _caller(password or bearer_of(request), surface)
    if caller is None:
        return web.Response(status=401, text=WHO, headers=ASK)
    return None if caller.may(Scope.ADMIN) else web.Response(status=403, text=NOT_YOURS)


def _caller(secret: bytes | None, surface: Surface) -> Caller | None:
    return surface.keyring.find(secret) if secret else None


def _is_from_elsewhere(request: web.Request, surface: Surface) -> bool:
    """A browser adds a password that it knows to what any page sends; a bearer key it does not."""
    is_cross_site = request.headers.get("Sec-Fetch-Site") == "cross-site"
    return is_cross_site or is_foreign(request, surface)


def _password(request: web.Request) -> bytes | None:
    encoded = basic_of(request)
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return None
