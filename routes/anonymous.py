"""Callers without a key: who of them is admitted while no key is required, and for what."""

from __future__ import annotations

import ipaddress

from aiohttp import web

from ..jobs.errors import AuthNotConfigured, UnknownHost
from ..jobs.health import Component, State
from .auth import ANONYMOUS, ANYBODY, Caller
from .browsers import is_own_name
from .service import Surface

#: What proxies, load balancers, tunnels and CDNs add to a request they pass on.
FORWARDING_HEADERS = frozenset(
    {
        *("forwarded", "via", "client-ip", "x-client-ip", "x-cluster-client-ip", "x-host"),
        *("x-remote-addr", "x-remote-ip", "x-scheme", "x-url-scheme", "front-end-https"),
        *("true-client-ip", "proxy-client-ip", "wl-proxy-client-ip", "fly-client-ip"),
        *("cdn-loop", "ali-cdn-real-ip", "x-appengine-user-ip", "x-proxyuser-ip", "x-arr-ssl"),
        *("x-nginx-proxy", "x-varnish", "x-amz-cf-id", "x-served-by", "x-arr-log-id"),
    }
)
FORWARDING_PREFIXES = (
    *("x-forwarded", "x-real-", "x-original-", "x-envoy-", "x-azure-", "cf-", "cloudfront-"),
    *("fastly-", "akamai-", "tailscale-", "incap-", "x-sucuri-", "x-vercel-", "x-nf-", "ngrok-"),
)

BEHIND_PROXY = (
    "This server has no API keys, and this request did not come straight from its own machine: it"
    " has a header of a proxy, or UNIFIED_API_PUBLIC_URL is set. Make a key with"
    " `./install.sh key add NAME` (an orchestrator takes it in UNIFIED_API_KEYS), or set"
    " UNIFIED_API_ALLOW_ANONYMOUS=1 if everybody who can reach this server is meant to run jobs."
)
KEYS = "Every caller needs a key."
OPEN = "No keys: everybody who reaches this port may submit, read and cancel jobs."
LOCAL = "No keys: callers on this machine are admitted, requests through a proxy are refused."


def anonymous_of(request: web.Request, surface: Surface) -> Caller:
    """What a caller without a key may do, if admitted."""
    is_local = is_direct(request, surface) and is_own_name(request, surface)
    return ANYBODY if is_local else ANONYMOUS


def check_open(request: web.Request, surface: Surface) -> None:
    """Raises AuthNotConfigured or UnknownHost, unless a key is not needed for this request."""
    if not lets_in(request, surface):
        raise AuthNotConfigured(BEHIND_PROXY if surface.is_local else None)
    if surface.is_local and not is_own_name(request, surface):
        raise UnknownHost()


def lets_in(request: web.Request, surface: Surface) -> bool:
    """Whether such a request is admitted without a key, while none is required."""
    return surface.is_open or (surface.is_local and is_direct(request, surface))


def is_direct(request: web.Request, surface: Surface) -> bool:
    """Whether a request comes from this machine, with nothing that may have passed it on.

    A public URL means that something does, even if it adds no header. What comes by a Unix socket
    has no address, and most often a proxy behind it.
    """
    if surface.public_url or not _is_loopback(request.remote or ""):
        return False
    return not any(map(_tells_of_proxy, request.headers))


def access_of(surface: Surface) -> Component:
    """Who is admitted, as `/health` says it."""
    if surface.keyring.is_required:
        known = surface.keyring.component
        return known if known.reason else Component(reason=KEYS)
    if surface.is_open:
        return Component(reason=OPEN)
    if not surface.is_local:
        return Component(State.DEGRADED, " ".join(str(AuthNotConfigured()).split()))
    if surface.public_url:
        return Component(State.DEGRADED, BEHIND_PROXY)
    return Component(reason=LOCAL)


def _tells_of_proxy(header: str) -> bool:
    name = header.lower().replace("_", "-")
    return name in FORWARDING_HEADERS or name.startswith(FORWARDING_PREFIXES)


def _is_loopback(remote: str) -> bool:
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
