"""Puts the rest of ComfyUI, /ws included, behind an admin key (UNIFIED_API_PROTECT=all)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from ..jobs.health import Component, State, unless
from ..jobs.keys import Scope
from .api import is_ours
from .auth import Caller, basic_of, bearer_of
from .browsers import is_foreign
from .service import Surface, surface_of

log = logging.getLogger(__name__)

NO_KEYS = (
    "ComfyUI is locked (UNIFIED_API_PROTECT=all) and has no keys yet.\n"
    "Make one on the server: ./install.sh key add NAME --scopes admin\n"
)
NO_USABLE_KEY = (
    "ComfyUI is locked (UNIFIED_API_PROTECT=all), and none of its keys is left or can be read.\n"
    "On the server, ./install.sh key list says more; restore keys.json, or make a key:\n"
    "./install.sh key add NAME --scopes admin\n"
)
WHO = "ComfyUI is locked. Come with an admin key, in a browser as the password.\n"
NOT_YOURS = "This key may not use ComfyUI itself; that takes the scope admin.\n"
FOREIGN = "Web pages of other origins may not use this ComfyUI.\n"
ASK = {"WWW-Authenticate": 'Basic realm="ComfyUI", charset="UTF-8"'}

#: What browsers say of requests that no page of another origin has caused. A page on another port
#: or subdomain is of the same site.
OWN_SITES = frozenset({"same-origin", "none"})

DOES_NOT_HOLD = "UNIFIED_API_PROTECT=all does not hold: "
OTHER_APP = "ComfyUI serves another web application than the one that is locked. "
COMES_FIRST = "{name} comes before the lock, and what it answers takes no key. "
FIND_IT = "Remove the custom node that does it, or let only trusted callers reach this port."
LONGEST_NAME = 100


class Lock:
    """Guards every route that is not ours, before anything else of ComfyUI's may answer."""

    name = "lock"

    def __init__(self, served: Callable[[], web.Application]) -> None:
        """`served` tells the application that ComfyUI serves. It has not started yet."""
        self._served = served
        self._app = served()
        self.put_first()

    def put_first(self) -> None:
        """Come before all middlewares that there are, unless ComfyUI has started already."""
        middlewares = self._app.middlewares
        if middlewares.frozen:
            return
        while self._guard in middlewares:
            middlewares.remove(self._guard)
        middlewares.insert(0, self._guard)

    async def settle(self) -> None:
        """Come first for good: custom nodes are loaded, and nothing is served yet."""
        self.put_first()
        asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        if problem := self._problem:
            log.error("Unified API: %s", problem)
        else:
            log.info("Unified API: ComfyUI is locked, its other routes take an admin key")

    @property
    def component(self) -> Component:
        """Whether requests come to the lock first."""
        return unless(self._problem, State.DEGRADED)

    @property
    def _problem(self) -> str | None:
        if self._served() is not self._app:
            return f"{DOES_NOT_HOLD}{OTHER_APP}{FIND_IT}"
        earlier = self._earlier
        if earlier is None:
            return None
        return f"{DOES_NOT_HOLD}{COMES_FIRST.format(name=_name_of(earlier))}{FIND_IT}"

    @property
    def _earlier(self) -> Any:
        """What gets requests before the lock does, if anything."""
        # Every request goes through this method of aiohttp's; there is no public way to ask for it.
        handle = getattr(self._app, "_handle", None)
        if handle is not None and not _is_of_aiohttp(handle):
            return handle
        first = next(iter(self._app.middlewares), None)
        return None if first == self._guard else first

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_ours(request):
            return await handler(request)
        surface = surface_of(request)
        refusal = await _refusal(request, surface)
        # Not `refusal or …`: on older aiohttp a response counts as false.
        return await _answered(request, handler, surface) if refusal is None else refusal


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
    if surface.keyring.lack:
        return web.Response(status=503, text=NO_USABLE_KEY)
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
    sites = {site.strip().lower() for site in request.headers.getall("Sec-Fetch-Site", [])}
    return not sites <= OWN_SITES or is_foreign(request, surface)


def _password(request: web.Request) -> bytes | None:
    encoded = basic_of(request)
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return None


def _is_of_aiohttp(handle: Any) -> bool:
    """Whether a method is aiohttp's own. A wrapper may take its name, but not its module."""
    module = getattr(getattr(handle, "__func__", handle), "__globals__", {})
    return module.get("__name__") == web.Application.__module__


def _name_of(member: Any) -> str:
    """'a_node.middleware'. ComfyUI names the module of a custom node after its path."""
    name = getattr(member, "__qualname__", type(member).__qualname__)
    module = re.split(r"[/\\]", str(getattr(member, "__module__", "")))[-1]
    return ascii(f"{module}.{name}"[:LONGEST_NAME])[1:-1]
