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
    RequestRefused,
    Unauthorized,
)
from ..jobs.keys import Scope
from .anonymous import anonymous_of, check_open, lets_in
from .auth import PROBLEM, Caller, Keyring, bearer_of
from .browsers import is_foreign, is_own_name
from .service import surface_of


def _request_key(name: str) -> Any:
    """Older aiohttp takes any text."""
    return web.RequestKey(name, Any) if hasattr(web, "RequestKey") else name


#: Under which a request keeps whose key it carries, and the scopes that it needs.
KEY_HOLDER = _request_key("unified_api_key_holder")
NEEDED = _request_key("unified_api_needed_scopes")
LONGEST_IDEMPOTENCY_KEY = 255
ADMIN_NEEDS_A_KEY = (
    "Without API keys, only callers on the server's own machine may do this. Make a key there with"
    " `./install.sh key add NAME --scopes admin`."
)


async def admit(request: web.Request, *scopes: Scope) -> None:
    """Let a request in whose sender has one of these scopes; without any, some key will do.

    Raises AuthNotConfigured, ForeignOrigin, UnknownHost, Unauthorized, NotReady or Forbidden.
    """
    request[NEEDED] = scopes
    _check(request, await key_holder_of(request))


async def readmit(request: web.Request, *, max_age: float) -> None:
    """Judge a request that was let in again, by keys read less than `max_age` seconds ago.

    Raises as `admit` does.
    """
    keyring = surface_of(request).keyring
    await keyring.refresh(max_age=max_age)
    holder = _holder(request, keyring)
    _check(request, holder)
    request[KEY_HOLDER] = holder


async def key_holder_of(request: web.Request) -> Caller | None:
    """Whose key a request carries; found once, with the keys that are in force then."""
    if KEY_HOLDER not in request:
        keyring = surface_of(request).keyring
        await keyring.refresh()
        request[KEY_HOLDER] = _holder(request, keyring)
    holder: Caller | None = request[KEY_HOLDER]
    return holder


def caller_of(request: web.Request) -> Caller:
    """Who sends a request that was let in."""
    holder: Caller | None = request[KEY_HOLDER]
    return holder or anonymous_of(request, surface_of(request))


def key_name_of(request: web.Request) -> str | None:
    """The name of the key that a request carries, whether it was let in or not."""
    holder: Caller | None = request.get(KEY_HOLDER)
    return holder.name if holder else None


async def may_read(request: web.Request) -> bool:
    """Whether the sender of a request that everybody may send is shown more than others."""
    try:
        await admit(request, Scope.READ)
    except RequestRefused:
        return False
    return True


def may_be_rebound(request: web.Request) -> bool:
    """Whether a page whose own name was made to point at this machine may have sent a request.

    Where keys are asked for it has none.
    """
    surface = surface_of(request)
    is_for_this_machine = surface.is_local and not surface.keyring.is_required
    return is_for_this_machine and not is_own_name(request, surface)


async def takes_jobs_from(request: web.Request) -> bool:
    """Whether a request to run a job from this sender is admitted, or would be with a key."""
    surface = surface_of(request)
    await key_holder_of(request)
    if surface.keyring.is_required:
        return surface.keyring.lack is None
    return lets_in(request, surface)


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


def _holder(request: web.Request, keyring: Keyring) -> Caller | None:
    secret = bearer_of(request)
    return keyring.find(secret) if secret else None


def _check(request: web.Request, holder: Caller | None) -> None:
    surface, scopes = surface_of(request), request[NEEDED]
    if is_foreign(request, surface):
        raise ForeignOrigin()
    if holder is None and surface.keyring.is_away:
        # Whoever has a key may have it still a moment later.
        raise NotReady(PROBLEM)
    if surface.keyring.lack:
        lack = NotReady if surface.keyring.is_away else AuthNotConfigured
        raise lack(surface.keyring.lack)
    if not surface.keyring.is_required:
        check_open(request, surface)
    elif holder is None:
        raise Unauthorized()
    caller = holder or anonymous_of(request, surface)
    if scopes and not any(map(caller.may, scopes)):
        raise Forbidden(None if holder else ADMIN_NEEDS_A_KEY)
