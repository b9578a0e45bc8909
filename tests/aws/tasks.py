"""A queue and a table for a test, and what lies in them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from emulators import Emulator
from unified_api.jobs.job import Job
from unified_api.sqs_bridge.task_index import INDEX

PATH = "/api/v1/draw/jobs"


@dataclass(frozen=True)
class Deployment:
    """What an operator makes: a queue and a table with its index."""

    emulator: Emulator
    queue_url: str
    table: str

    def item(self, task_id: str) -> dict[str, Any]:
        """As another program reads it; empty if there is none."""
        key = {"task_id": {"S": task_id}}
        found = self.emulator.dynamodb.get_item(TableName=self.table, Key=key, ConsistentRead=True)
        return {n: TypeDeserializer().deserialize(v) for n, v in found.get("Item", {}).items()}

    def types(self, task_id: str) -> dict[str, str]:
        """Attribute -> its type in DynamoDB."""
        key = {"task_id": {"S": task_id}}
        found = self.emulator.dynamodb.get_item(TableName=self.table, Key=key)["Item"]
        return {name: next(iter(value)) for name, value in found.items()}

    def put(self, **attributes: Any) -> None:
        """As another program writes it."""
        item = {name: TypeSerializer().serialize(value) for name, value in attributes.items()}
        self.emulator.dynamodb.put_item(TableName=self.table, Item=item)

    def count(self) -> int:
        return int(self.emulator.dynamodb.scan(TableName=self.table, Select="COUNT")["Count"])

    def messages(self) -> list[dict[str, Any]]:
        """The bodies of all messages that wait; they are taken out."""
        bodies = []
        while found := self._receive():
            bodies += [json.loads(message["Body"]) for message in found]
        return bodies

    def _receive(self) -> list[dict[str, Any]]:
        sqs = self.emulator.sqs
        found: list[dict[str, Any]] = sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10
        ).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found


def deploy(emulator: Emulator) -> Deployment:
    name = f"tasks-{uuid4().hex}"
    url = emulator.sqs.create_queue(QueueName=name)["QueueUrl"]
    emulator.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "task_id", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "task_id", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"},
            {"AttributeName": "created_at", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": INDEX,
                "KeySchema": [
                    {"AttributeName": "status", "KeyType": "HASH"},
                    {"AttributeName": "created_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    return Deployment(emulator, url, name)


def new_job(job_id: str | None = None, **given: Any) -> Job:
    values = {"workflow": "draw", "parameters": {"seed": 2**64 - 1}, "created_at": time.time()}
    return Job(job_id=job_id or str(uuid4()), **{**values, **given})
