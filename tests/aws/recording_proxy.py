"""What a role must be allowed, read from the calls that pass a proxy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from emulators import REGION
from fault_proxy import Exchange, FaultProxy

METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
ACCOUNT = f"{REGION}:123456789012"


class Use(NamedTuple):
    """An action and the ARN that it was done to."""

    action: str
    resource: str


class Grant(NamedTuple):
    """What a statement allows, one action on one kind of resource."""

    sid: str
    action: str
    resource: str

    def covers(self, use: Use) -> bool:
        return use.action == self.action and fnmatchcase(use.resource, self.resource)


def record(proxy: FaultProxy) -> list[Use]:
    """What passes from now on: the list goes on growing."""
    used: list[Use] = []

    async def note(exchange: Exchange) -> None:
        body = await exchange.body()
        answer = await exchange.forward(body)
        used.extend(uses(exchange, body, answer))
        await exchange.reply(answer)

    for method in METHODS:
        proxy.spoil(note, method=method, times=math.inf)
    return used


def uses(exchange: Exchange, body: bytes, answer: bytes) -> Iterator[Use]:
    service, _, operation = exchange.header("x-amz-target").partition(".")
    if not service:
        return of_s3(exchange.line, is_absent=answer.split(b" ", 2)[1] == b"404")
    if service == "AmazonSQS":
        return of_sqs(operation, json.loads(body))
    return of_dynamodb(operation, json.loads(body))


def of_s3(line: str, *, is_absent: bool) -> Iterator[Use]:
    method, _, target = line.partition(" ")
    _, bucket, *key = unquote(urlsplit(target).path).split("/", 2)
    bucket = f"arn:aws:s3:::{bucket}"
    if not any(key):
        yield Use("s3:ListBucket", bucket)
        return
    actions = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject"}
    yield Use(f"s3:{actions.get(method, 'DeleteObject')}", f"{bucket}/{key[0]}")
    # Others are told 403.
    if is_absent:
        yield Use("s3:ListBucket", bucket)


def of_sqs(operation: str, asked: dict[str, Any]) -> Iterator[Use]:
    queue = asked["QueueUrl"].rpartition("/")[2]
    yield Use(f"sqs:{operation.removesuffix('Batch')}", f"arn:aws:sqs:{ACCOUNT}:{queue}")


def of_dynamodb(operation: str, asked: dict[str, Any]) -> Iterator[Use]:
    """A transaction needs what its parts need."""
    for part in asked.get("TransactItems", ()):
        ((verb, inner),) = part.items()
        yield from of_dynamodb(f"{verb}Item", inner)
    if "TransactItems" not in asked:
        index = f"/index/{asked['IndexName']}" if "IndexName" in asked else ""
        table = f"arn:aws:dynamodb:{ACCOUNT}:table/{asked['TableName']}"
        yield Use(f"dynamodb:{operation}", f"{table}{index}")


def grants(statements: Iterable[dict[str, Any]]) -> list[Grant]:
    return [
        Grant(one["Sid"], action, resource)
        for one in statements
        for action in listed(one["Action"])
        for resource in listed(one["Resource"])
    ]


def listed(one_or_many: str | list[str]) -> list[str]:
    return [one_or_many] if isinstance(one_or_many, str) else one_or_many
