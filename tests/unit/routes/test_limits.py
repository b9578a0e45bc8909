"""Whoever asks too much, or too slowly, and what it costs."""

import asyncio

import pytest
from unified_api.routes.auth import Keyring
from unified_api.routes.limits import Limits, Quota, Rate

from .door import ANN, DRAW, bearer, code_of, key, status_for, submitted


async def test_a_flood_is_stopped_by_key_and_told_when_to_come_back(door):
    now = [1000.0]
    limits = Limits(rate=Rate(6, clock=lambda: now[0]))
    client = await door(limits=limits, keyring=Keyring([key("ann"), key("bob")]))

    flood = [await client.post(DRAW, json={}, headers=bearer("ann")) for _ in range(8)]

    assert [reply.status for reply in flood] == [202] * 6 + [429] * 2
    assert await code_of(flood[-1]) == (429, "rate_limited")
    assert flood[-1].headers["Retry-After"] == "10"
    assert await status_for(client, "ann") == 200
    await submitted(client, "bob")

    now[0] += 10
    await submitted(client, "ann")
    assert (await client.post(DRAW, json={}, headers=bearer("ann"))).status == 429


async def test_a_long_rest_earns_no_more_than_a_minute_of_jobs(door):
    now = [1000.0]
    client = await door(limits=Limits(rate=Rate(2, clock=lambda: now[0])))
    await submitted(client)

    now[0] += 86_400
    flood = [await client.post(DRAW, json={}, headers=bearer()) for _ in range(3)]

    assert [reply.status for reply in flood] == [202, 202, 429]


async def test_a_refused_request_costs_no_picture_and_no_body(door):
    limits = Limits(rate=Rate(1, clock=lambda: 0.0))
    client = await door(limits=limits)
    await submitted(client)

    reply = await client.post(DRAW, data=b"not json at all", headers=bearer())

    assert await code_of(reply) == (429, "rate_limited")


async def test_a_key_has_only_so_many_jobs_under_way(door, bench):
    bench.host.gate.clear()
    client = await door(
        limits=Limits(quota=Quota(3)), keyring=Keyring([key("ann"), key("bob"), key("eve")])
    )

    posts = (client.post(DRAW, json={}, headers=bearer("ann")) for _ in range(20))
    replies = await asyncio.gather(*posts)

    assert sorted(reply.status for reply in replies) == [202] * 3 + [429] * 17
    refused = next(reply for reply in replies if reply.status == 429)
    assert await code_of(refused) == (429, "too_many_jobs")
    assert int(refused.headers["Retry-After"]) >= 1
    await submitted(client, "bob")

    bench.host.gate.set()

    async def has_room():
        return (await client.post(DRAW, json={}, headers=bearer("ann"))).status == 202

    await bench.until(has_room)


async def test_a_key_does_not_wait_while_the_jobs_of_another_are_counted():
    quota, counting = Quota(3), asyncio.Event()

    async def count(name):
        if name == "ann":
            counting.set()
            await asyncio.Event().wait()
        return 0

    async def place(name):
        async with quota.place(name, count):
            return name

    slow = asyncio.ensure_future(place("ann"))
    await counting.wait()

    assert await asyncio.wait_for(place("bob"), 5) == "bob"
    slow.cancel()


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=b"])
async def test_a_body_that_does_not_end_is_given_up(door, content_type):
    client = await door(limits=Limits(body_seconds=0.05))
    reader, writer = await asyncio.open_connection(client.host, client.port)

    head = f"POST {DRAW} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n"
    head += f"Authorization: Bearer {ANN}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b"--b\r\n")
    told = await reader.readuntil(b"}")
    writer.close()

    assert told.startswith(b"HTTP/1.1 408")
    assert b'"code": "body_timeout"' in told


async def test_a_caller_who_leaves_in_the_middle_leaves_no_trace_of_a_fault(door, bench, caplog):
    client = await door()
    _, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST {DRAW} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {ANN}\r\nContent-Length: 100\r\n\r\n"

    writer.write(head.encode() + b'{"te')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await client.get("/health")).status == 200
    assert "fault of this service" not in caplog.text
    assert "Traceback" not in caplog.text
