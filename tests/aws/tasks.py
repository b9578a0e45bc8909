"""A queue and a table for a test, and what lies in them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from emulators import Emulator
from unified_api.deploy.aws.create import create_table
from unified_api.jobs.engine import Engine
from unified_api.jobs.job import Job
from unified_api.sqs_bridge.listener import SqsListener

PATH = "/api/v1/draw/jobs"
DAY = 86400
#: For a worker whose messages come again only when it lets go of them, however slow it is.
HELD = {"UNIFIED_API_VISIBILITY_SECONDS": "10"}
# Longer than a task may wait, but not so long that its item has expired: a table lets go of those.
LONG_AGO = float(int(time.time()) - 15 * DAY)


@dataclass(frozen=True)
class Deployment:
    """What an operator makes: a queue, with a dead-letter queue or without, and a table."""

    emulator: Emulator
    queue_url: str
    table: str
    dead_letters_url: str | None = None

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

    def send(self, body: Any = None, task_id: str | None = None, **more: Any) -> str:
        """A task as other programs send it; its id."""
        task_id = task_id or str(uuid4())
        body = {} if body is None else body
        self.send_text(
            json.dumps({"task_id": task_id, "api_path": PATH, "request_body": body, **more})
        )
        return task_id

    def send_text(self, text: str) -> None:
        self.emulator.sqs.send_message(QueueUrl=self.queue_url, MessageBody=text)

    def receive_and_release(self) -> None:
        """As a worker does that ends before it begins."""
        sqs = self.emulator.sqs
        (message,) = sqs.receive_message(QueueUrl=self.queue_url)["Messages"]
        sqs.change_message_visibility(
            QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )

    def waiting(self) -> tuple[int, int]:
        """How many messages anybody can get, and how many are held."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.emulator.sqs.get_queue_attributes(
            QueueUrl=self.queue_url, AttributeNames=names
        )["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    @property
    def is_empty(self) -> bool:
        """Whether two looks find no message.

        Moto counts one kind after the other: a message whose hold ends in between is in neither.
        """
        return all(self.waiting() == (0, 0) for _ in range(2))

    def accept(self, task_id: str, **more: Any) -> None:
        """The item that the running orchestrator makes of a task before it sends it."""
        then = int(time.time()) - 5
        item = {"status": "pending", "job_type": PATH, "created_at": then, "updated_at": then}
        self.put(task_id=task_id, **{**item, **more})

    def change(self, task_id: str, **attributes: Any) -> None:
        """As another program does that has no say in it."""
        self.emulator.dynamodb.update_item(
            TableName=self.table,
            Key={"task_id": {"S": task_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={
                f":{name}": TypeSerializer().serialize(value) for name, value in attributes.items()
            },
        )

    def dead_letters(self) -> list[tuple[str, str]]:
        """(body, reason) of the messages that were found to be bad; they are taken out."""
        letters = []
        while found := self._receive(self.dead_letters_url):
            letters += [(letter["Body"], _reason(letter)) for letter in found]
        return letters

    def count(self) -> int:
        return int(self.emulator.dynamodb.scan(TableName=self.table, Select="COUNT")["Count"])

    def messages(self) -> list[dict[str, Any]]:
        """The bodies of all messages that wait; they are taken out."""
        bodies = []
        while found := self._receive(self.queue_url):
            bodies += [json.loads(message["Body"]) for message in found]
        return bodies

    def _receive(self, url: str | None) -> list[dict[str, Any]]:
        sqs = self.emulator.sqs
        found: list[dict[str, Any]] = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found


def _reason(letter: dict[str, Any]) -> str:
    return str(letter.get("MessageAttributes", {}).get("reason", {}).get("StringValue"))


@dataclass(frozen=True)
class Worker:
    """A process that takes tasks, as far as a test can have one. `home` is its disk."""

    home: Any
    host: Any
    engine: Engine
    listener: SqsListener

    @property
    def runs(self) -> int:
        return len(self.host.prompts)

    async def crash(self) -> None:
        await self.listener.stop()
        await self.home.crash(self.engine)


def deploy(emulator: Emulator, most_receives: int | None = 10) -> Deployment:
    """With None there is no dead-letter queue."""
    name = f"tasks-{uuid4().hex}"
    dead_letters_url, policy = None, {}
    if most_receives is not None:
        dead_letters_url = emulator.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = emulator.sqs.get_queue_attributes(
            QueueUrl=dead_letters_url, AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": most_receives}
        policy = {"RedrivePolicy": json.dumps(redrive)}
    url = emulator.sqs.create_queue(QueueName=name, Attributes=policy)["QueueUrl"]
    create_table(emulator.dynamodb, name)
    return Deployment(emulator, url, name, dead_letters_url)


def make_old_table(emulator: Emulator) -> str:
    """As versions before the index by owner made it; its name."""
    name = f"old-{uuid4().hex}"
    keys = {"status": "HASH", "created_at": "RANGE"}
    emulator.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "task_id", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"},
            {"AttributeName": "created_at", "AttributeType": "N"},
        ],
        KeySchema=[{"AttributeName": "task_id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "status-created_at-index",
                "KeySchema": [{"AttributeName": n, "KeyType": k} for n, k in keys.items()],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    ends = {"Enabled": True, "AttributeName": "expires_at"}
    emulator.dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ends)
    return name


def new_job(job_id: str | None = None, **given: Any) -> Job:
    values = {"workflow": "draw", "parameters": {"seed": 2**64 - 1}, "created_at": time.time()}
    return Job(job_id=job_id or str(uuid4()), **{**values, **given})
