"""Makes what a fleet needs in AWS: a bucket, a queue with its dead-letter queue, the task table.

`python -m deploy.aws.create --bucket NAME` does it in AWS_REGION, with boto3's default credentials.
What is there already is left as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from typing import Any

import boto3

VISIBILITY_SECONDS = 120
#: The longest there is: a message in the dead-letter queue waits for a person.
RETENTION_SECONDS = 14 * 24 * 3600
#: Handing a message back costs a receive; attempts that count are counted by the workers.
MAX_RECEIVES = 10
HOME_OF_S3 = "us-east-1"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m deploy.aws.create")
    options.add_argument("--bucket", required=True)
    options.add_argument("--queue", default="comfyui-tasks")
    options.add_argument("--high-queue", help="a queue of its own for tasks of high priority")
    options.add_argument("--table", default="task_store")
    chosen = options.parse_args()
    settings = create(
        chosen.bucket, queue=chosen.queue, table=chosen.table, high_queue=chosen.high_queue
    )
    for name, value in settings.items():
        print(f"{name}={value}")


def create(bucket: str, *, queue: str, table: str, high_queue: str | None = None) -> dict[str, str]:
    """The settings of workers and orchestrators that use them."""
    session = boto3.Session(region_name=os.environ.get("AWS_REGION", HOME_OF_S3))
    create_bucket(session.client("s3"), bucket)
    create_table(session.client("dynamodb"), table)
    sqs = session.client("sqs")
    queues = {"SQS_QUEUE_URL": queue, "UNIFIED_API_SQS_HIGH_QUEUE_URL": high_queue}
    urls = {setting: create_queues(sqs, name) for setting, name in queues.items() if name}
    return {"S3_BUCKET": bucket, **urls, "DYNAMODB_TABLE": table}


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
    """With the index that lists are read from; items go by themselves at `expires_at`."""
    with contextlib.suppress(dynamodb.exceptions.ResourceInUseException):
        dynamodb.create_table(
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
                    "KeySchema": [
                        {"AttributeName": "status", "KeyType": "HASH"},
                        {"AttributeName": "created_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        dynamodb.get_waiter("table_exists").wait(TableName=name)
        ends = {"Enabled": True, "AttributeName": "expires_at"}
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ends)


if __name__ == "__main__":
    main()
