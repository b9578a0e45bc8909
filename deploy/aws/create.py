"""Makes what a fleet needs in AWS: a bucket, a queue with its dead-letter queue, the task table.

`python -m deploy.aws.create --bucket NAME` does it in AWS_REGION, with boto3's default credentials.
What is there already is left as it is, but a table gets the indexes that it lacks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import boto3

VISIBILITY_SECONDS = 120
#: The longest there is: a message in the dead-letter queue waits for a person.
RETENTION_SECONDS = 14 * 24 * 3600
#: Handing a message back costs a receive; attempts that count are counted by the workers.
MAX_RECEIVES = 10
HOME_OF_S3 = "us-east-1"
#: What lists of tasks are read from, by its two attributes.
INDEXES = {
    "status-created_at-index": ("status", "created_at"),
    "owner-created_at-index": ("owner", "created_at"),
}
TYPES = {"task_id": "S", "status": "S", "owner": "S", "created_at": "N"}
POLL_SECONDS = 5.0
PER_REQUEST = "PAY_PER_REQUEST"


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(prog="python -m deploy.aws.create")
    options.add_argument("--bucket", help="required, but with --only-table")
    options.add_argument("--queue", default="comfyui-tasks")
    options.add_argument("--high-queue", help="a queue of its own for tasks of high priority")
    options.add_argument("--table", default="task_store")
    options.add_argument("--only-table", action="store_true", help="leave all else alone")
    chosen = options.parse_args(arguments)
    if chosen.only_table:
        create_table(session().client("dynamodb"), chosen.table)
        return
    if chosen.bucket is None:
        options.error("name the results bucket: --bucket NAME")
    settings = create(
        chosen.bucket, queue=chosen.queue, table=chosen.table, high_queue=chosen.high_queue
    )
    for name, value in settings.items():
        print(f"{name}={value}")


def create(bucket: str, *, queue: str, table: str, high_queue: str | None = None) -> dict[str, str]:
    """The settings of workers and orchestrators that use them."""
    aws = session()
    create_bucket(aws.client("s3"), bucket)
    create_table(aws.client("dynamodb"), table)
    sqs = aws.client("sqs")
    queues = {"SQS_QUEUE_URL": queue, "UNIFIED_API_SQS_HIGH_QUEUE_URL": high_queue}
    urls = {setting: create_queues(sqs, name) for setting, name in queues.items() if name}
    return {"S3_BUCKET": bucket, **urls, "DYNAMODB_TABLE": table}


def session() -> boto3.Session:
    return boto3.Session(region_name=os.environ.get("AWS_REGION", HOME_OF_S3))


def create_bucket(s3: Any, name: str) -> None:
    region = s3.meta.region_name
    place = {"LocationConstraint": region} if region != HOME_OF_S3 else None
    placed = {"CreateBucketConfiguration": place} if place else {}
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name, **placed)


def create_queues(sqs: Any, name: str) -> str:
    """The URL of a queue that tasks travel on. Behind it there is one for dead letters."""
    kept = {"MessageRetentionPeriod": str(RETENTION_SECONDS)}
    dead = sqs.create_queue(QueueName=f"{name}-dead", Attributes=kept)["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": told["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    attributes = {
        **kept,
        "VisibilityTimeout": str(VISIBILITY_SECONDS),
        "RedrivePolicy": json.dumps(redrive),
    }
    return str(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def create_table(dynamodb: Any, name: str) -> None:
    """With the indexes that lists are read from; items go by themselves at `expires_at`.

    One that is there gets the indexes that it lacks.
    """
    try:
        dynamodb.create_table(
            TableName=name,
            BillingMode=PER_REQUEST,
            AttributeDefinitions=_attributes(*TYPES),
            KeySchema=[{"AttributeName": "task_id", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[_index(index) for index in INDEXES],
        )
    except dynamodb.exceptions.ResourceInUseException:
        add_indexes(dynamodb, name)
        return
    dynamodb.get_waiter("table_exists").wait(TableName=name)
    ends = {"Enabled": True, "AttributeName": "expires_at"}
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ends)


def add_indexes(dynamodb: Any, name: str) -> None:
    """Add those that a table lacks. DynamoDB makes one at a time, and fills the last by itself."""
    table = _when_active(dynamodb, name)
    there = {index["IndexName"] for index in table.get("GlobalSecondaryIndexes", ())}
    for index in INDEXES.keys() - there:
        table = _when_active(dynamodb, name)
        # A table with a fixed capacity wants the same of its index.
        new = {**_index(index), **_throughput(table)}
        dynamodb.update_table(
            TableName=name,
            AttributeDefinitions=_attributes(*INDEXES[index]),
            GlobalSecondaryIndexUpdates=[{"Create": new}],
        )
        _note(f"{index} is added to {name}: DynamoDB fills it, and lists use it when that is done.")


def _when_active(dynamodb: Any, name: str) -> Mapping[str, Any]:
    """The table, when nothing of it is under construction any more."""
    while True:
        table: Mapping[str, Any] = dynamodb.describe_table(TableName=name)["Table"]
        indexes = table.get("GlobalSecondaryIndexes", ())
        parts = {name: table["TableStatus"], **{i["IndexName"]: i["IndexStatus"] for i in indexes}}
        waits = [part for part, status in parts.items() if status != "ACTIVE"]
        if not waits:
            return table
        _note(f"waiting for {', '.join(waits)} of {name}")
        time.sleep(POLL_SECONDS)


def _throughput(table: Mapping[str, Any]) -> dict[str, Any]:
    if table.get("BillingModeSummary", {}).get("BillingMode") == PER_REQUEST:
        return {}
    units = ("ReadCapacityUnits", "WriteCapacityUnits")
    told = {unit: table["ProvisionedThroughput"][unit] for unit in units}
    return {"ProvisionedThroughput": told} if all(told.values()) else {}


def _index(name: str) -> dict[str, Any]:
    partition, order = INDEXES[name]
    return {
        "IndexName": name,
        "KeySchema": [
            {"AttributeName": partition, "KeyType": "HASH"},
            {"AttributeName": order, "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "ALL"},
    }


def _attributes(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": TYPES[name]} for name in names]


def _note(text: str) -> None:
    """To people; programs read the settings."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
