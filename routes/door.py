"""The door: lets a request in, and says who came."""

from __future__ import annotations

from aiohttp import web

from ..jobs.errors import (
    AuthNotConfigured,
    Forbidden,
    ForeignOrigin,
    InvalidIdempotencyKey,
    Unauthorized,
    UnknownHost,
)
from ..jobs.keys import Scope
from .auth import ANYBODY, Caller, bearer_of
from .browsers import is_foreign, is_own_name
from .service import Surface, surface_of

LONGEST_IDEMPOTENCY_KEY = 255


def admit(request: web.Request, scope: Scope | None) -> Caller:
    """The caller, who has the scope that is needed; None is any.

    Raises AuthNotConfigured, ForeignOrigin, UnknownHost, Unauthorized or Forbidden.
    """
    surface = surface_of(request)
    if is_foreign(request, surface):
        raise ForeignOrigin()
    if not surface.keyring.is_required:
        return _anybody(request, surface)
    caller = _known(request, surface)
    if caller is None:
        raise Unauthorized()
    if scope is not None and not caller.may(scope):
        raise Forbidden()
    return caller


def caller_of(request: web.Request) -> Caller:
    """Who sends a request that was let in. Raises Unauthorized if the key was revoked since."""
    return admit(request, None)


def name_of(request: web.Request) -> str | None:
    """The name of the key that a request carries, whether it was let in or not."""
    caller = _known(request, surface_of(request))
    return caller.name if caller else None


def may_read(request: web.Request) -> bool:
    """Whether the sender of a request that everybody may send is shown more than others."""
    surface = surface_of(request)
    if not surface.keyring.is_required:
        return surface.is_open
    caller = _known(request, surface)
    return caller is not None and caller.may(Scope.READ)


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


def _anybody(request: web.Request, surface: Surface) -> Caller:
    if not surface.is_open:
        raise AuthNotConfigured()
    if surface.is_local and not is_own_name(request, surface):
        raise UnknownHost()
    return ANYBODY


def _known(request: web.Request, surface: Surface) -> Caller | None:
    secret = bearer_of(request)
    return surface.keyring.find(secret) if secret else None
