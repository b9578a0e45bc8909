"""Posting to strangers: what is dialled, and what an answer means."""

import socket
import time

import pytest
from aiohttp.abc import AbstractResolver
from hypothesis import given
from hypothesis import strategies as st
from unified_api.jobs.egress.guard import Guard, Place
from unified_api.jobs.egress.sender import Answer, Sender
from unified_api.jobs.notify.retries import seconds_until


class Names(AbstractResolver):
    """Every name leads to loopback."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        known = {"family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}
        return [{"hostname": host, "host": "127.0.0.1", "port": port, **known}]

    async def close(self):
        """Nothing is held."""


@pytest.fixture
async def sender_with():
    opened = []

    async def start(*, timeout_seconds=15.0, **rules):
        sender = Sender(Guard(**rules), resolver=Names(), timeout_seconds=timeout_seconds)
        opened.append(sender)
        await sender.open()
        return sender

    yield start
    for sender in opened:
        await sender.close()


async def test_a_name_is_judged_by_where_it_leads_when_it_is_dialled(sender_with, receiver):
    port = receiver.server.port
    sender = await sender_with(ports=[port])

    answer = await sender.post(f"http://public.example:{port}/", b"{}", {})

    assert (answer, receiver.told) == (Answer(error="forbidden_source"), [])


async def test_a_place_that_is_allowed_is_told_wherever_it_leads(sender_with, receiver):
    port = receiver.server.port
    sender = await sender_with(allow=[Place("inside.example", port)])

    answer = await sender.post(f"http://inside.example:{port}/", b"{}", {"webhook-id": "a"})

    assert answer == Answer(status=204)
    assert receiver.told[0].headers["content-type"] == "application/json"
    assert (receiver.told[0].body, receiver.told[0].webhook_id) == (b"{}", "a")


@pytest.mark.parametrize("url", ["ftp://a.example/", "http://[", "a.example", "http://a b/", ""])
async def test_what_is_no_url_is_refused(sender_with, url):
    sender = await sender_with()

    assert await sender.post(url, b"{}", {}) == Answer(error="forbidden_source")


async def test_who_takes_too_long_is_not_waited_for(sender_with, receiver):
    receiver.gate.clear()
    sender = await sender_with(
        allow=[Place("127.0.0.1", receiver.server.port)], timeout_seconds=0.05
    )

    assert await sender.post(receiver.url, b"{}", {}) == Answer(error="timed_out")


async def test_who_speaks_no_tls_is_named_so(sender_with, receiver):
    sender = await sender_with(allow=[Place("127.0.0.1", receiver.server.port)])

    answer = await sender.post(receiver.url.replace("http:", "https:"), b"{}", {})

    assert answer == Answer(error="tls_failed")


async def test_who_speaks_no_http_is_not_reached(sender_with, serve):
    async def answer(path, writer):
        writer.write(b"220 mail.example ready\r\n\r\n")

    other = await serve(answer)
    sender = await sender_with(allow=[Place("127.0.0.1", other.port)])

    assert await sender.post(other.url, b"{}", {}) == Answer(error="unreachable")


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("120", 120),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:02:00", 20),
        ("-1", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_a_wish_is_seconds_or_a_date(wish, seconds):
    assert seconds_until(wish, now=100.0) == seconds


@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [+-]?\d*"))
def test_no_wish_is_too_strange(wish):
    assert isinstance(seconds_until(wish, now=time.time()), float)
