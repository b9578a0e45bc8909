"""The door: lets a request in, and says who came."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..jobs.errors import (
    AuthNotConfigured,
    Forbidden,
    ForeignOrigin,
    InvalidIdempotencyKey,
    NotReady,
    Unauthorized,
    UnknownHost,
)
from ..jobs.keys import Scope
from .auth import ANYBODY, PROBLEM, Caller, bearer_of
from .browsers import is_foreign, is_own_name
from .service import Surface, surface_of

_NAME = "unified_api_key_holder"
#: Under which a request keeps whose key it carries. Older aiohttp takes any text.
KEY_HOLDER: Any = web.RequestKey(_NAME, Any) if hasattr(web, "RequestKey") else _NAME
LONGEST_IDEMPOTENCY_KEY = 255


async def admit(request: web.Request, scope: Scope | None) -> None:
    """Let a request in whose sender has the scope that is needed; None is any.

    Raises AuthNotConfigured, ForeignOrigin, UnknownHost, Unauthorized, NotReady or Forbidden.
    """
    surface = surface_of(request)
    holder = await key_holder_of(request)
    if is_foreign(request, surface):
        raise ForeignOrigin()
    if not surface.keyring.is_required:
        _check_open(request, surface)
    elif holder is None:
        raise NotReady(PROBLEM) if surface.keyring.is_away else Unauthorized()
    elif scope is not None and not holder.may(scope):
        raise Forbidden()


async def key_holder_of(request: web.Request) -> Caller | None:
    """Whose key a request carries; found once, with the keys that are in force then."""
    if KEY_HOLDER not in request:
        keyring, secret = surface_of(request).keyring, bearer_of(request)
        await keyring.refresh()
        request[KEY_HOLDER] = keyring.find(secret) if secret else None
    holder: Caller | None = request[KEY_HOLDER]
    return holder


def caller_of(request: web.Request) -> Caller:
    """Who sends a request that was let in."""
    holder: Caller | None = request[KEY_HOLDER]
    return holder or ANYBODY


def key_name_of(request: web.Request) -> str | None:
    """The name of the key that a request carries, whether it was let in or not."""
    holder: Caller | None = request.get(KEY_HOLDER)
    return holder.name if holder else None


async def may_read(request: web.Request) -> bool:
    """Whether the sender of a request that everybody may send is shown more than others."""
    surface, holder = surface_of(request), await key_holder_of(request)
    if not surface.keyring.is_required:
        return surface.is_open
    return holder is not None and holder.may(Scope.READ)


def idempotency_key_of(request: web.Request) -> str | None:
    """Raises InvalidIdempotencyKey."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    if len(given) > 1:
        raise InvalidIdempotencyKey()
    return fit_idempotency_key(given[0])


def fit_idempotency_key(key: object) -> str:
    """The same. Raises InvalidIdempotencyKey."""
    if not isinstance(key, str) or not (key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKey()
    if not 1 <= len(key) <= LONGEST_IDEMPOTENCY_KEY:
        raise InvalidIdempotencyKey()
    return key


def _check_open(request: web.Request, surface: Surface) -> None:
    """Raises AuthNotConfigured or UnknownHost, unless anybody may come in without a key."""
    if not surface.is_open:
        raise AuthNotConfigured()
    if surface.is_local and not is_own_name(request, surface):
        raise UnknownHost()
