"""What an address is: the one spelling of a host, and which addresses are public."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

#: A table of our own: `ipaddress.is_global` differs between Pythons and lets some of these pass.
NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and some clouds' metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host
            "169.254.0.0/16",  # link local, and most clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments, and Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/3",  # multicast and reserved
            # All of IPv6 but 2000::/3: loopback, embedded IPv4 (mapped, compatible, NAT64),
            # discard, unique local, link local, site local, multicast.
            "::/3",
            "4000::/2",
            "8000::/1",
            "2001::/23",  # Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which embeds IPv4
            "3fff::/20",  # documentation
        ),
    )
)

LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
MAX_NAME_LENGTH = 253
#: Every text that some resolver reads as a number ends so: 127.1, 0x7f000001, 017700000001.
NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the internet, the same on every Python."""
    return not any(address in network for network in NOT_PUBLIC)


def host_of(text: str) -> str:
    """The one spelling of a host. Raises ValueError if it was given in another."""
    host = text.lower()
    if host.startswith("["):
        return str(IPv6Address(host[1:-1]))
    if NUMERIC_END.fullmatch(host):
        return str(IPv4Address(host))
    if len(host) > MAX_NAME_LENGTH or not NAME.fullmatch(host):
        raise ValueError("not a host")
    return host


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None for a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def read_network(text: str) -> IPv4Network | IPv6Network | None:
    """The network, or the one of a single address, or None for a name."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
