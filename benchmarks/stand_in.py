"""A stand-in for SQS and DynamoDB: takes everything, keeps nothing, answers in 10 ms.

`python -m benchmarks.stand_in PORT`. It is there to be fast; whether calls are right, the tests
find out on emulators.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"
ANSWER_SECONDS = 0.01
LENGTH = b"content-length:"
TARGET = b"x-amz-target:"


class StandIn(asyncio.Protocol):
    """One connection, which may be used for many requests."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        length = int(header(head, LENGTH) or 0)
        if not found or len(rest) < length:
            return
        self._received = rest[length:]
        answer = answer_to(header(head, TARGET).rpartition(b".")[2].decode(), rest[:length])
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._transport.write, answer)


def header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(name):
            return line[len(name) :].strip()
    return b""


def answer_to(operation: str, body: bytes) -> bytes:
    text = json.dumps(ANSWERS.get(operation, nothing)(json.loads(body))).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: "
    return f"{head}{len(text)}\r\n\r\n".encode() + text


def nothing(_: Any) -> Any:
    return {}


def nothing_found(_: Any) -> Any:
    return {"Items": [], "Count": 0, "ScannedCount": 0}


def sent(_: Any) -> Any:
    return {"MessageId": "m", "MD5OfMessageBody": "0" * 32}


def all_sent(request: Any) -> Any:
    return {
        "Successful": [{"Id": entry["Id"], **sent(entry)} for entry in request["Entries"]],
        "Failed": [],
    }


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "Query": nothing_found,
    "SendMessage": sent,
    "SendMessageBatch": all_sent,
}


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(StandIn, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
