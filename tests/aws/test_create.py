"""What `deploy.aws.create` makes, on both emulators."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import boto3
import pytest
from emulators import CREDENTIALS, Emulator
from marks import on_each_emulator
from tasks import make_old_table
from unified_api.deploy.aws.create import create, create_bucket, create_queues, create_table, main
from unified_api.sqs_bridge.task_index import INDEX, OWNER_INDEX

ALL = {"ProjectionType": "ALL"}
BOTH = {INDEX: ["status", "created_at"], OWNER_INDEX: ["owner", "created_at"]}


@pytest.fixture
def name() -> str:
    return f"fleet-{uuid4().hex}"


def attributes(emulator: Emulator, url: str) -> dict[str, str]:
    found: dict[str, str] = emulator.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    return found


def indexes(table: dict[str, Any]) -> dict[str, list[str]]:
    """Of a table: the attributes of each, by its name."""
    return {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
        for index in table["GlobalSecondaryIndexes"]
    }


@on_each_emulator
def test_a_message_that_nobody_can_handle_ends_in_the_dead_letter_queue(
    emulator: Emulator, name: str
) -> None:
    url = create_queues(emulator.sqs, name)

    made = attributes(emulator, url)
    redrive = json.loads(made["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(f":{name}-dead")
    assert int(redrive["maxReceiveCount"]) == 10
    assert made["VisibilityTimeout"] == "120"


def test_a_second_queue_is_made_on_demand_with_dead_letters_of_its_own(
    moto: Emulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto.url}.items():
        monkeypatch.setenv(variable, value)

    one = create(name, queue=name, table=name)
    two = create(name, queue=name, table=name, high_queue=f"{name}-high")

    high_url = two["UNIFIED_API_SQS_HIGH_QUEUE_URL"]
    redrive = json.loads(attributes(moto, high_url)["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(f":{name}-high-dead")
    assert two == {**one, "UNIFIED_API_SQS_HIGH_QUEUE_URL": high_url}


@on_each_emulator
def test_the_table_has_what_lists_and_the_end_of_items_need(emulator: Emulator, name: str) -> None:
    create_table(emulator.dynamodb, name)

    table: Any = emulator.dynamodb.describe_table(TableName=name)["Table"]
    ends = emulator.dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["task_id"]
    assert indexes(table) == BOTH
    assert [index["Projection"] for index in table["GlobalSecondaryIndexes"]] == [ALL] * 2
    assert ends["AttributeName"] == "expires_at"
    assert ends["TimeToLiveStatus"] in {"ENABLED", "ENABLING"}


@on_each_emulator
def test_an_old_table_gets_the_index_that_it_lacks_and_its_items_are_in_it(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    name = make_old_table(emulator)
    items = [{"owner": {"S": "ci"}, "created_at": {"N": "7"}}, {"created_at": {"N": "8"}}, {}]
    for number, item in enumerate(items):
        emulator.dynamodb.put_item(TableName=name, Item={"task_id": {"S": f"t{number}"}, **item})

    create_table(emulator.dynamodb, name)
    told = capsys.readouterr()

    table = emulator.dynamodb.describe_table(TableName=name)["Table"]
    assert indexes(table) == BOTH
    assert (told.out, OWNER_INDEX in told.err) == ("", True)
    found = emulator.dynamodb.scan(TableName=name, IndexName=OWNER_INDEX)["Items"]
    assert [item["task_id"]["S"] for item in found] == ["t0"]
    create_table(emulator.dynamodb, name)
    assert capsys.readouterr().err == ""


def test_a_table_without_indexes_gets_them_one_after_the_other(moto: Emulator, name: str) -> None:
    moto.dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "task_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "task_id", "KeyType": "HASH"}],
        ProvisionedThroughput={"ReadCapacityUnits": 3, "WriteCapacityUnits": 4},
    )

    create_table(moto.dynamodb, name)

    table = moto.dynamodb.describe_table(TableName=name)["Table"]
    assert indexes(table) == BOTH
    for index in table["GlobalSecondaryIndexes"]:
        assert index["ProvisionedThroughput"]["ReadCapacityUnits"] == 3


@on_each_emulator
def test_what_is_there_already_is_left_as_it_is(emulator: Emulator, name: str) -> None:
    def create() -> str:
        create_bucket(emulator.s3, name)
        create_table(emulator.dynamodb, name)
        return create_queues(emulator.sqs, name)

    first = create()
    emulator.s3.put_object(Bucket=name, Key="kept", Body=b"kept")
    emulator.dynamodb.put_item(TableName=name, Item={"task_id": {"S": "kept"}})

    second = create()

    assert second == first
    assert emulator.s3.head_object(Bucket=name, Key="kept")["ContentLength"] == 4
    assert emulator.dynamodb.scan(TableName=name, Select="COUNT")["Count"] == 1


def test_the_command_can_leave_all_but_the_table_alone(
    moto: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto.url}.items():
        monkeypatch.setenv(variable, value)
    name = make_old_table(moto)
    buckets, queues = moto.s3.list_buckets()["Buckets"], moto.sqs.list_queues().get("QueueUrls")

    main(["--only-table", "--table", name])

    assert indexes(moto.dynamodb.describe_table(TableName=name)["Table"]) == BOTH
    assert moto.s3.list_buckets()["Buckets"] == buckets
    assert moto.sqs.list_queues().get("QueueUrls") == queues
    with pytest.raises(SystemExit):
        main(["--table", name])
    assert "--bucket NAME" in capsys.readouterr().err


def test_a_bucket_lies_in_the_region_of_its_client(moto: Emulator, name: str) -> None:
    names = {name.lower(): value for name, value in CREDENTIALS.items()}
    s3 = boto3.client("s3", region_name="eu-west-1", endpoint_url=moto.url, **names)

    create_bucket(s3, name)

    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"
    s3.close()
