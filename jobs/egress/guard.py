"""Which URLs may be dialled: the only file that says no to an address.

A URL is judged twice, by its text before anything is looked up, and by its addresses at the
moment they are dialled, since a name may lead elsewhere by then.
"""

from __future__ import annotations

import inspect
import re
import socket
from collections.abc import Collection
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..errors import ForbiddenSource
from .addresses import host_of, is_public, read_address, read_network

PORTS = (80, 443)
MAX_URL_LENGTH = 8192

FORM = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<rest>(?:[/?#].*)?)",
    re.ASCII | re.IGNORECASE,
)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)

#: Before aiohttp 3.12 a literal address is checked as text only, which is the same address then.
CAN_CHECK_SOCKETS = "socket_factory" in inspect.signature(aiohttp.TCPConnector).parameters


class AddressRefused(OSError):
    """An address was refused when it was about to be dialled."""


class Place(NamedTuple):
    """Where a URL leads: a host in its one spelling, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """'images.example:8080' or '[::1]:8080'. Raises ValueError for anything else."""
        found = FORM.fullmatch(f"http://{text.strip()}")
        if found is None or not found["port"] or found["rest"]:
            raise ValueError("write host:port")
        return cls(host_of(found["host"]), int(found["port"]))

    @classmethod
    def of(cls, url: URL) -> Place:
        return cls(url.raw_host or "", url.port or 0)


class Guard:
    """Lets through http and https URLs of public addresses on the usual ports.

    `allow` lifts the rules on addresses, ports and ourselves for exactly these places. `deny`
    names hosts (with all hosts below them), addresses and networks; what is allowed and denied
    is refused. `own` are the places where this service itself answers.
    Raises ValueError for a `deny` that `deny_entry` refuses.
    """

    def __init__(
        self,
        *,
        allow: Collection[Place] = (),
        deny: Collection[str] = (),
        own: Collection[Place] = (),
        ports: Collection[int] = PORTS,
    ) -> None:
        self._allow = frozenset(allow)
        self._own = frozenset(own)
        self._ports = frozenset(ports)
        networks = {entry: read_network(entry) for entry in map(deny_entry, deny)}
        self._denied_names = [entry for entry, network in networks.items() if network is None]
        self._denied_networks = [network for network in networks.values() if network]

    def check_url(self, text: str) -> URL:
        """The URL to dial for this text. Raises ForbiddenSource."""
        try:
            url = _parse(text)
        except ValueError:
            raise ForbiddenSource() from None
        place = Place.of(url)
        if self._is_denied(place.host):
            raise ForbiddenSource()
        if place not in self._allow:
            self._check_place(place)
        return url

    def check_redirect(self, url: URL, location: str) -> URL:
        """The URL to dial when `url` answered with this Location. Raises ForbiddenSource."""
        try:
            return self.check_url(_absolute(url, location))
        except ValueError:
            raise ForbiddenSource() from None

    def check_address(self, address: str, port: int) -> None:
        """Judge an address that is about to be dialled. Raises ForbiddenSource."""
        ip = read_address(address)
        if ip is None or not is_public(ip) or self._is_denied(str(ip)):
            raise ForbiddenSource()
        if Place(str(ip), port) in self._own:
            raise ForbiddenSource()

    def is_allowed(self, url: URL) -> bool:
        """Whether the rules on addresses are lifted for this URL."""
        return Place.of(url) in self._allow

    def connector(
        self, resolver: AbstractResolver, *, limit_per_host: int = 0
    ) -> aiohttp.TCPConnector:
        """A connector that dials no address but those `check_address` lets through."""
        extra: dict[str, Any] = {"socket_factory": self._socket} if CAN_CHECK_SOCKETS else {}
        return aiohttp.TCPConnector(
            resolver=CheckedResolver(resolver, self),
            use_dns_cache=False,
            limit=0,
            limit_per_host=limit_per_host,
            **extra,
        )

    def _check_place(self, place: Place) -> None:
        if place.port not in self._ports or place in self._own:
            raise ForbiddenSource()
        if read_address(place.host) is not None:
            self.check_address(*place)

    def _is_denied(self, host: str) -> bool:
        address = read_address(host)
        if address is not None:
            return any(address in network for network in self._denied_networks)
        return any(f".{host}".endswith(f".{name}") for name in self._denied_names)

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (address, port, *_) = info
        try:
            self.check_address(address, port)
        except ForbiddenSource as error:
            # Of other errors than OSError aiohttp loses sight while it tries several addresses.
            raise AddressRefused() from error
        return socket.socket(family, kind, protocol)


class CheckedResolver(AbstractResolver):
    """Refuses a whole answer for one bad address in it."""

    def __init__(self, resolver: AbstractResolver, guard: Guard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = await self._resolver.resolve(host, port, family)
        if not answer:
            raise OSError("the name has no address")
        for found in answer:
            self._guard.check_address(found["host"], port)
        return answer

    async def close(self) -> None:
        await self._resolver.close()


def deny_entry(text: str) -> str:
    """A host, an address or a network in its one spelling. Raises ValueError for anything else."""
    network = read_network(text.strip())
    return str(network) if network else host_of(text.strip())


def site_of(text: str) -> str:
    """'https://a.example/b' -> 'https://a.example', in one spelling; of whatever is given."""
    try:
        return str(_parse(text).origin())
    except ValueError:
        return "/".join(text.split("/", 3)[:3]).lower()


def _is_plain(text: str) -> bool:
    """Whether a text is free of what readers of URLs skip, or take for a slash."""
    unsafe = " " in text or "\\" in text or not text.isprintable()
    return len(text) <= MAX_URL_LENGTH and not unsafe


def _absolute(url: URL, location: str) -> str:
    if SCHEME.match(location):
        return location
    if not _is_plain(location):
        raise ValueError("not a URL")
    return str(url.join(URL(location, encoded=True)))


def _parse(text: str) -> URL:
    """Read a URL once, strictly. Raises ValueError."""
    found = FORM.fullmatch(text)
    if found is None or not _is_plain(text):
        raise ValueError("not an http or https URL")
    host, rest = host_of(found["host"]), found["rest"]
    authority = f"[{host}]" if ":" in host else host
    port = f":{found['port']}" if found["port"] else ""
    plain = f"{found['scheme'].lower()}://{authority}{port}{'' if rest[:1] == '/' else '/'}{rest}"
    # Signed URLs must arrive as they were written.
    url = URL(plain, encoded=plain.isascii())
    expected = int(found["port"] or {"http": 80, "https": 443}[url.scheme])
    if Place.of(url) != Place(host, expected):
        raise ValueError("two readers of this URL do not agree")
    return url
