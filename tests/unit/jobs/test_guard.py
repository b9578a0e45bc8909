"""Which URLs may be dialled: hostile spellings, hostile names, and who got a connection."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from unified_api.jobs.egress.addresses import NOT_PUBLIC, is_public
from unified_api.jobs.egress.fetch import Fetcher, FetchLimits
from unified_api.jobs.egress.guard import (
    CAN_CHECK_SOCKETS,
    AddressRefused,
    CheckedResolver,
    ForbiddenSource,
    Guard,
    Place,
    deny_entry,
)

ANY_PORT = range(1, 65536)
LIMITS = FetchLimits(max_bytes=1 << 20, total_seconds=10, idle_seconds=5, pause_seconds=0)
PICTURE = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture"
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
CIRCLED = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")

PLACES = [
    "127.0.0.1", "127.8.9.10", "localhost", "[::1]", "0.0.0.0", "[::]", "10.0.0.1",
    "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.200",
    "169.254.169.254", "169.254.170.2", "[fe80::1]", "[fd00:ec2::254]", "[fec0::1]",
    "168.63.129.16", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "[ff02::1]", "[ff0e::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]", "[2001:10::1]",
    "[2001:20::1]", "[2001:2::1]", "[5f00::1]", "[4000::1]", "[8000::1]",
]  # fmt: skip

EMBEDDED = [
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:a9fe:a9fe]", "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]", "[::7f00:1]", "[2002:7f00:1::1]", "[2002:a9fe:a9fe::1]",
    "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]",
    "[2001:0:7f00:1::1]", "[2001::a9fe:a9fe]", "[0:0:0:0:0:0:0:1]", "[0000::0001]",
]  # fmt: skip

SPELLINGS = [
    "2130706433", "0x7f000001", "0X7F000001", "017700000001", "0177.0.0.1", "127.1", "127.0.1",
    "0", "0x0", "0x7f.1", "0x7f.0x0.0x0.0x1", "127.0.0.01", "127.0.0.1.", "127.0.0.1..",
    "1.2.3.4.5", "256.256.256.256", "4294967296", "127.0.0.0x1", "example.com.0x7f", "0x",
    "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "ⓛocalhost",
    "ｌｏｃａｌｈｏｓｔ", "loc\u00adalhost", "local\u212aost", "bücher.de", "localhost.",
    "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "[::1%25lo]", "[fe80::1%eth0]", "[v1.x]", "[127.0.0.1]",
    "[::1", "::1", "a..b", ".a", "-a.com", "a-.com", "a" * 64 + ".com", "a." * 130 + "com",
    "exa mple.com", "example.com,127.0.0.1", "example.com;127.0.0.1", "*", "$(id)", "",
]  # fmt: skip

TEXTS = [
    "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://example.com/a.png", "unix:///run/x.sock",
    "data:text/html,x", "javascript:1", "ws://example.com/", "//example.com/a.png",
    r"\\example.com\a", "example.com/a.png", "/a.png", "", " ", "http:", "http:/", "http://",
    "http:///a.png", "http:example.com", "http:/example.com/", "http:\\\\example.com\\",
    "http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/",
    "http://:@example.com/", "http://example.com@127.0.0.1/", "http://example.com:80@127.0.0.1/",
    "http://example.com\\@127.0.0.1/", "http://127.0.0.1\\@example.com/",
    "http://127.0.0.1#@example.com/", "http://127.0.0.1?@example.com/",
    "http://exam\tple.com/", "http://example.com/\r\nHost: x", "http://example.com/a b",
    "http://example.com/\x00", "http://example.com/\x7f", "http://example.com/\u2028",
    "http://example.com/\ud800", " http://example.com/", "http://example.com/ ",
    "http://example.com/\n", "\thttp://example.com/", "http ://example.com/",
    "ｈttp://example.com/", "http：//example.com/", "http:／／example.com/",
    "http://example.com:/", "http://example.com:080/", "http://example.com:-1/",
    "http://example.com:+80/", "http://example.com:８０/", "http://example.com:99999/",
    "http://example.com:80:80/", "http://example.com:0x50/", "http://example.com:80a/",
    "http://example.com/" + "a" * 8192,
]  # fmt: skip

PORTS = [1, 21, 22, 25, 81, 444, 3306, 6379, 8000, 8080, 8188, 9200, 11211, 65535]

GOOD = {
    "http://example.com": "http://example.com/",
    "https://example.com:443/a.png": "https://example.com/a.png",
    "HTTPS://EXAMPLE.com/A.png": "https://example.com/A.png",
    "http://example.com?a=1": "http://example.com/?a=1",
    "https://b.s3.amazonaws.com/k?X-Sig=a%2Fb%2B+c": "https://b.s3.amazonaws.com/k?X-Sig=a%2Fb%2B+c",
    "https://example.com/@x/pic@2x.png": "https://example.com/@x/pic@2x.png",
    "https://my_bucket.example.com/a//b": "https://my_bucket.example.com/a//b",
    "https://xn--bcher-kva.de/": "https://xn--bcher-kva.de/",
    "http://93.184.216.34/": "http://93.184.216.34/",
    "http://[2606:4700:0::1111]/": "http://[2606:4700::1111]/",
    "http://example.com/图.png": "http://example.com/%E5%9B%BE.png",
}


class Names(AbstractResolver):
    """Answers each question with the next of its answers, the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [_resolved(host, address, port) for address in answer]

    async def close(self) -> None:
        """Nothing is held."""


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def fetch(guard: Guard, url: str, *answers: Sequence[str]) -> bytes:
    fetcher = Fetcher(guard, LIMITS, resolver=Names(*(answers or [["127.0.0.1"]])))
    await fetcher.open()
    try:
        return await fetcher.fetch(url, whole)
    finally:
        await fetcher.close()


async def picture(path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(PICTURE)


# The text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [*filter("localhost".__ne__, PLACES), *EMBEDDED, *SPELLINGS])
def test_a_host_that_is_not_public_or_oddly_spelled_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenSource):
        Guard().check_url(f"http://{host}/a.png")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_two_parsers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(ForbiddenSource):
        Guard(ports=ANY_PORT).check_url(text)


@pytest.mark.parametrize("port", PORTS)
def test_an_unusual_port_is_refused_unless_its_place_is_allowed(port: int) -> None:
    url = f"http://example.com:{port}/"

    assert Guard(allow=[Place("example.com", port)]).check_url(url).port == port
    with pytest.raises(ForbiddenSource):
        Guard(allow=[Place("example.com", port + 1)]).check_url(url)


@pytest.mark.parametrize(("text", "dialled"), GOOD.items())
def test_an_ordinary_url_is_dialled_as_it_was_written(text: str, dialled: str) -> None:
    assert str(Guard().check_url(text)) == dialled


def test_all_refusals_look_the_same() -> None:
    guard = Guard(deny=["denied.example"], own=[Place("own.example", 80)])
    refused = ["http://127.0.0.1/", "ftp://x/", "http://denied.example/", "http://own.example/"]

    said = set()
    for url in refused:
        with pytest.raises(ForbiddenSource) as caught:
            guard.check_url(url)
        said.add((str(caught.value), caught.value.code, caught.value.retryable))

    assert said == {(ForbiddenSource.__doc__, "forbidden_source", False)}


# The lists of the operator ----------------------------------------------------------------------


def test_an_allowed_place_lifts_the_rules_for_exactly_this_host_and_port() -> None:
    guard = Guard(allow=[Place.parse("127.0.0.1:8000")], own=[Place.parse("127.0.0.1:8000")])

    assert guard.check_url("http://127.0.0.1:8000/a.png").port == 8000
    for url in ("http://127.0.0.1/", "http://127.0.0.2:8000/", "http://localhost:8000/"):
        with pytest.raises(ForbiddenSource):
            guard.check_url(url)


@pytest.mark.parametrize("spelling", ["127.1", "0x7f000001", "2130706433", "x@127.0.0.1"])
def test_an_allowed_place_is_refused_in_another_spelling(spelling: str) -> None:
    with pytest.raises(ForbiddenSource):
        Guard(allow=[Place("127.0.0.1", 8000)]).check_url(f"http://{spelling}:8000/")


@pytest.mark.parametrize("host", ["bad.example", "a.b.bad.example", "BAD.example", "93.184.216.34"])
def test_a_denied_host_is_refused_with_all_below_it_even_if_allowed(host: str) -> None:
    allow = [Place(host.lower(), 80)]
    guard = Guard(allow=allow, deny=["Bad.example", "93.184.216.0/24"])

    with pytest.raises(ForbiddenSource):
        guard.check_url(f"http://{host}/")
    assert guard.check_url("http://notbad.example/").host == "notbad.example"


@pytest.mark.parametrize("own", ["own.example:443", "93.184.216.34:443", "[2606:4700::1]:443"])
def test_this_service_does_not_fetch_from_itself(own: str) -> None:
    place = Place.parse(own)

    with pytest.raises(ForbiddenSource):
        Guard(own=[place]).check_url(f"https://{own}/api/v1")
    with pytest.raises(ForbiddenSource):
        Guard(own=[Place("93.184.216.34", 443)]).check_address("93.184.216.34", 443)


@pytest.mark.parametrize("text", ["example.com", "", ":80", "http://a:80", "a:80/x", "127.1:80"])
def test_a_place_needs_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Place.parse(text)


@pytest.mark.parametrize("text", ["", "http://a", "a:80", "*.example.com", "127.1"])
def test_an_entry_that_could_deny_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        deny_entry(text)


# The addresses ----------------------------------------------------------------------------------


def test_what_python_calls_private_is_never_public() -> None:
    edges = {
        ipaddress.ip_address(number)
        for network in NOT_PUBLIC
        for edge in (int(network[0]), int(network[-1]))
        for number in (edge - 1, edge, edge + 1)
        if 0 <= number < 2**network.max_prefixlen
    }
    drawn = random.Random(7)
    many = [ipaddress.IPv4Address(drawn.getrandbits(32)) for _ in range(20_000)]

    wrong = [a for a in {*edges, *many} if is_public(a) and not a.is_global]

    assert wrong == []
    assert sum(map(is_public, many)) > 15_000


def test_public_addresses_are_public() -> None:
    public = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255",
              "172.32.0.0", "192.0.1.0", "223.255.255.255", "2001:200::1", "2606:4700::1111",
              "2a00:1450::1", "2003::1", "3ffe::1"]  # fmt: skip

    assert all(is_public(ipaddress.ip_address(text)) for text in public)


# What is dialled --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["169.254.169.254", "93.184.216.34"],
        ["2606:4700::1", "::ffff:7f00:1"], ["2606:4700::1", "fe80::1%eth0"], ["not an address"],
    ],
)  # fmt: skip
async def test_a_whole_answer_is_refused_for_one_bad_address_in_it(answer) -> None:
    with pytest.raises(ForbiddenSource):
        await CheckedResolver(Names(answer), Guard()).resolve("name.example", 443)


async def test_a_name_of_public_addresses_is_resolved() -> None:
    resolver = CheckedResolver(Names(["93.184.216.34", "2606:4700::1"]), Guard())

    answer = await resolver.resolve("name.example", 443)

    assert [found["host"] for found in answer] == ["93.184.216.34", "2606:4700::1"]


@pytest.mark.parametrize(
    "answer", [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["::1", "0.0.0.0"]]
)
async def test_a_name_that_leads_to_this_machine_is_not_dialled(serve, answer) -> None:
    victim = await serve(picture)

    with pytest.raises(ForbiddenSource):
        await fetch(Guard(ports=ANY_PORT), f"http://name.example:{victim.port}/", answer)

    assert victim.accepts == 0


async def test_a_name_that_turns_bad_after_it_was_looked_at_is_refused(serve) -> None:
    victim = await serve(picture)
    guard = Guard(ports=ANY_PORT)
    names = Names(["93.184.216.34"], ["127.0.0.1"])
    first_look = await names.resolve("rebind.example", victim.port)
    guard.check_address(first_look[0]["host"], victim.port)
    fetcher = Fetcher(guard, LIMITS, resolver=names)
    await fetcher.open()

    with pytest.raises(ForbiddenSource):
        await fetcher.fetch(f"http://rebind.example:{victim.port}/", whole)

    assert victim.accepts == 0
    await fetcher.close()


async def test_an_allowed_name_may_lead_to_a_private_address(serve) -> None:
    server = await serve(picture)
    guard = Guard(allow=[Place("images.internal", server.port)])

    body = await fetch(guard, f"http://images.internal:{server.port}/a.png")

    assert body == b"picture"


@pytest.mark.skipif(not CAN_CHECK_SOCKETS, reason="this aiohttp cannot check sockets")
async def test_a_literal_address_that_nobody_parsed_is_refused_at_the_socket(serve) -> None:
    victim = await serve(picture)
    connector = Guard(ports=ANY_PORT).connector(Names(["93.184.216.34"]))

    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(victim.url)

    assert isinstance(caught.value.os_error, AddressRefused)
    assert victim.accepts == 0


async def test_proxies_of_the_environment_are_not_used(serve, monkeypatch) -> None:
    victim, server = await serve(picture), await serve(picture)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, victim.url)

    body = await fetch(Guard(allow=[Place("127.0.0.1", server.port)]), server.url)

    assert (body, victim.accepts) == (b"picture", 0)


# Redirects --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/", "http://name.example:{port}/",
        "//127.0.0.1:{port}/", "http://127.1:{port}/", "http://x@127.0.0.1:{port}/",
        "file:///etc/passwd", "ftp://127.0.0.1:{port}/", "http://[::1]:{port}/",
        "\\\\127.0.0.1:{port}/", "/\\127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://[", "http://localhost:{port}/", "data:,x",
    ],
)  # fmt: skip
async def test_a_redirect_to_a_forbidden_place_is_refused(serve, location: str) -> None:
    victim = await serve(picture)

    async def redirect(path: str, writer: asyncio.StreamWriter) -> None:
        target = location.format(port=victim.port)
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\n\r\n".encode())

    server = await serve(redirect)
    guard = Guard(allow=[Place("127.0.0.1", server.port)], ports=ANY_PORT)

    with pytest.raises(ForbiddenSource):
        await fetch(guard, server.url)

    assert (server.accepts, victim.accepts) == (1, 0)


async def test_cookies_are_not_carried_from_hop_to_hop(serve) -> None:
    async def once(path: str, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nSet-Cookie: a=b; Path=/\r\n\r\n"
        writer.write(head if path == "/" else PICTURE)

    server = await serve(once)
    guard = Guard(allow=[Place("images.internal", server.port)])

    await fetch(guard, f"http://images.internal:{server.port}/")

    assert server.accepts == 2
    assert "cookie" not in server.requests[1].lower()


# Everything at once -----------------------------------------------------------------------------


def _address(drawn: random.Random) -> str:
    """An address in a spelling that some resolver reads as 127.0.0.1 or 0.0.0.0."""
    number = drawn.choice([0x7F000001, 0x7F000001, 0, 0x7F000000 + drawn.randrange(1, 255)])
    parts = number.to_bytes(4, "big")
    radix = drawn.choice(["{}", "{:#x}", "0{:o}", "{:#010x}", "00{:o}"])
    keep = drawn.randrange(1, 5)
    tail = int.from_bytes(parts[keep - 1 :], "big")
    short = ".".join(radix.format(part) for part in [*parts[: keep - 1], tail])
    dotted = ".".join(map(str, parts))
    return drawn.choice(
        [
            short, short, short, dotted, dotted.translate(FULL_WIDTH), dotted.translate(CIRCLED),
            short.translate(FULL_WIDTH), dotted.replace(".", drawn.choice("。．｡")),
            f"[::ffff:{dotted}]", f"[::{dotted}]", "[::1]", f"[64:ff9b::{dotted}]",
            f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::1]", f"[::ffff:{number >> 16:x}:1]",
            f"[{':'.join(['0' * drawn.randrange(1, 5)] * 7)}:1]", dotted + ".",
            "".join(f"%{ord(c):02x}" if drawn.random() < 0.5 else c for c in dotted),
            drawn.choice(["localhost", "LOCALHOST", "a.localtest.example", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"]),
        ]
    )  # fmt: skip


def _hostile(drawn: random.Random, *, victim: int, server: int) -> str:
    """A URL that some parser reads as leading to the victim."""
    bad, good = f"{_address(drawn)}:{victim}", f"127.0.0.1:{server}"
    authority = drawn.choice([
        bad, bad, bad, bad, f"{good}@{bad}", f"user:pass@{bad}", f"{good}\\@{bad}",
        f"{bad}\\@{good}",
        f"{good}%20@{bad}", f"{bad}#@{good}", f"{bad}?@{good}", f"{good} {bad}", f"{good}\t@{bad}",
        f"@{bad}", f"{good},{bad}", f"{bad}\x00.example",
    ])  # fmt: skip
    scheme = drawn.choice(
        ["http://"] * 12 + ["HTTP://", "//", "http:", "http:\\\\", "http:/", "ftp://"]
    )
    url = f"{scheme}{authority}/{drawn.choice(['', 'a.png', '?a=b', '#f'])}"
    if drawn.random() < 0.1:
        at = drawn.randrange(len(url))
        url = url[:at] + drawn.choice("\t\r\n \x0b\u00a0\u200b\u2028") + url[at:]
    return url


async def test_300_hostile_spellings_reach_nobody_directly_or_by_redirect(serve) -> None:
    drawn = random.Random(20_240)
    victim = await serve(picture)
    location = ""

    async def redirect(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + location.encode() + b"\r\n\r\n")

    server = await serve(redirect)
    guard = Guard(allow=[Place("127.0.0.1", server.port)], ports=ANY_PORT)
    fetcher = Fetcher(guard, LIMITS, resolver=Names(["127.0.0.1"], ["::1"], ["127.0.0.1"]))
    await fetcher.open()
    hostile = {_hostile(drawn, victim=victim.port, server=server.port) for _ in range(600)}
    assert len(hostile) >= 300

    for url in sorted(hostile):
        with pytest.raises(ForbiddenSource):
            await fetcher.fetch(url, whole)
        location = url
        # A header cannot carry these.
        if not {"\r", "\n", "\x00"} & set(url):
            with pytest.raises(ForbiddenSource):
                await fetcher.fetch(server.url, whole)

    assert victim.accepts == 0
    assert server.accepts > 250
    await fetcher.close()
