"""What web pages may do: whose pages they are, and under which name they found this server."""

from __future__ import annotations

import ipaddress
import re

from aiohttp import web

from .service import Surface, surface_of

HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::\d*)?")
ANY_ORIGIN = "*"
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"
SAME_ORIGIN, CROSS_ORIGIN = "same-origin", "cross-origin"


def is_foreign(request: web.Request, surface: Surface) -> bool:
    """Whether a page of another origin sends this request, and that origin is not allowed."""
    own = {request.headers.get("Host", "").lower(), _place(surface.public_url or "")} - {""}
    return any(
        _place(origin) not in own and not is_allowed(origin, surface)
        for origin in request.headers.getall("Origin", [])
    )


def is_allowed(origin: str, surface: Surface) -> bool:
    """Whether the pages of an origin may use this surface from everywhere."""
    return ANY_ORIGIN in surface.cors_origins or origin in surface.cors_origins


async def forbid_embedding(request: web.Request, response: web.StreamResponse) -> None:
    """Keep pages from showing what is answered, unless their origin is allowed.

    A plain <img> of another page sends no Origin, but the origin of its page as the Referer.
    """
    surface = surface_of(request)
    asking = request.headers.get("Origin") or _origin(request.headers.get("Referer", ""))
    policy = CROSS_ORIGIN if is_allowed(asking, surface) else SAME_ORIGIN
    response.headers[RESOURCE_POLICY] = policy


def is_own_name(request: web.Request, surface: Surface) -> bool:
    """Whether the caller found this machine under a name that no stranger can give it.

    A page whose own name was made to point at this machine would be of the same origin as we are.
    """
    name = _name(request.headers.get("Host", ""))
    return is_loopback(name) or name in {_name(_place(surface.public_url or ""))} - {""}


def is_loopback(host: str) -> bool:
    """Whether a host, as a name or a number, can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _origin(url: str) -> str:
    """'https://Example.org:8000/x' -> 'https://example.org:8000'; '' for what has none."""
    scheme, _, _ = url.partition("://")
    return f"{scheme.lower()}://{place}" if (place := _place(url)) else ""


def _place(url: str) -> str:
    """'https://Example.org:8000/x' -> 'example.org:8000'"""
    return url.partition("://")[2].partition("/")[0].lower()


def _name(host: str) -> str:
    """'example.org:8000' -> 'example.org'; '' for what is no host."""
    found = HOST.fullmatch(host.lower())
    return (found["address"] or found["name"]) if found else ""
