"""What the doctor tells of a deployment: all in order, and each thing broken in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from itertools import chain
from math import inf
from pathlib import Path
from uuid import uuid4

import pytest
from emulators import CREDENTIALS, REGION, Emulator
from fault_proxy import Exchange, FaultProxy, answer, operation, refuse_operation
from marks import on_each_emulator
from tasks import Deployment, make_old_table
from unified_api.deploy.aws.create import create_queues, create_table
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.doctor.__main__ import ORCHESTRATOR, WORKER, examine, main
from unified_api.sqs_bridge.doctor.examination import Examination
from unified_api.sqs_bridge.doctor.finding import LEVELS, Finding, Level, as_text, ok

IAM = Path(__file__).resolve().parents[2] / "deploy" / "iam"
ROLES = {"worker": WORKER, "orchestrator": ORCHESTRATOR}
QUEUE = "arn:aws:sqs:us-east-1:123456789012:{q}"
DEAD = f"{QUEUE}-dead"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/{q}"
INDEX = f"{TABLE}/index/status-created_at-index"
OWNER_INDEX = f"{TABLE}/index/owner-created_at-index"
BUCKET, RESULTS = "arn:aws:s3:::{b}", "arn:aws:s3:::{b}/images/comfyui-results/*"
OURS = "arn:aws:s3:::{b}/unified-api/*"
INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0"
PROBE = "images/comfyui-results/unified-api-doctor.txt"
REFUSAL = "<Response><Errors><Error><Code>{}</Code></Error></Errors></Response>"

#: What is denied to whom -> the level of that, and the resources to be named.
DENIALS: dict[tuple[str, str], tuple[Level, set[str]]] = {
    ("worker", "sqs:GetQueueAttributes"): (Level.FAILED, {QUEUE}),
    ("worker", "sqs:ReceiveMessage"): (Level.FAILED, {QUEUE}),
    ("worker", "sqs:ChangeMessageVisibility"): (Level.FAILED, {QUEUE}),
    ("worker", "sqs:DeleteMessage"): (Level.FAILED, {QUEUE}),
    ("worker", "sqs:SendMessage"): (Level.FAILED, {QUEUE, DEAD}),
    ("worker", "dynamodb:GetItem"): (Level.FAILED, {TABLE}),
    ("worker", "dynamodb:UpdateItem"): (Level.FAILED, {TABLE}),
    ("worker", "s3:PutObject"): (Level.FAILED, {RESULTS}),
    ("worker", "s3:GetObject"): (Level.FAILED, {f"{BUCKET}/*", RESULTS}),
    ("worker", "s3:ListBucket"): (Level.FAILED, {BUCKET}),
    ("orchestrator", "sqs:GetQueueAttributes"): (Level.FAILED, {QUEUE}),
    ("orchestrator", "sqs:SendMessage"): (Level.FAILED, {QUEUE}),
    ("orchestrator", "dynamodb:GetItem"): (Level.FAILED, {TABLE}),
    ("orchestrator", "dynamodb:UpdateItem"): (Level.FAILED, {TABLE}),
    ("orchestrator", "dynamodb:PutItem"): (Level.FAILED, {TABLE}),
    ("orchestrator", "dynamodb:Query"): (Level.FAILED, {INDEX, OWNER_INDEX}),
    ("orchestrator", "s3:PutObject"): (Level.FAILED, {OURS}),
    ("orchestrator", "s3:GetObject"): (Level.WARNING, {RESULTS}),
    ("orchestrator", "s3:DeleteObject"): (Level.WARNING, {RESULTS}),
    ("orchestrator", "ec2:StartInstances"): (Level.WARNING, {INSTANCE}),
}
CHECKS = {"sqs": "queue", "dynamodb": "table", "s3": "bucket", "ec2": "GPU instance"}
METHODS = {"PutObject": "PUT", "GetObject": "GET", "ListBucket": "HEAD", "DeleteObject": "DELETE"}

Visit = Callable[..., Awaitable[list[Finding]]]


def deny(proxy: FaultProxy, action: str) -> None:
    """As IAM does it to a role without the permission."""
    service, _, name = action.partition(":")
    if service == "s3":
        proxy.spoil(answer(403, "AccessDenied"), method=METHODS[name], times=inf)
    elif service == "ec2":
        denial = refuse("UnauthorizedOperation")
        proxy.spoil(denial, method="POST", times=inf, when=is_for("ec2"))
    else:
        denial = refuse_operation("AccessDeniedException")
        proxy.spoil(denial, method="POST", times=inf, when=operation(name))


def refuse(code: str) -> Callable[[Exchange], Awaitable[None]]:
    """As a service does it that speaks XML."""
    body = REFUSAL.format(code)
    head = f"HTTP/1.1 403 Injected\r\nConnection: close\r\nContent-Length: {len(body)}"

    async def reply(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(f"{head}\r\n\r\n{body}".encode())

    return reply


def is_for(service: str) -> Callable[[Exchange], bool]:
    """By the signature of a request."""
    return lambda exchange: f"/{service}/aws4_request" in exchange.header("authorization")


def troubles(findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.level in {Level.WARNING, Level.FAILED}]


@pytest.fixture
def deployment(emulator: Emulator, bucket_name: str) -> Deployment:
    """As `deploy.aws.create` makes it."""
    name = f"tasks-{uuid4().hex}"
    url = create_queues(emulator.sqs, name)
    create_table(emulator.dynamodb, name)
    return Deployment(emulator, url, name, f"{url}-dead")


@pytest.fixture
def variables(
    proxy: FaultProxy,
    deployment: Deployment,
    bucket_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    for service in ("STS", "EC2"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", proxy.url)
    return {
        "SQS_QUEUE_URL": deployment.queue_url,
        "DYNAMODB_TABLE": deployment.table,
        "S3_BUCKET": bucket_name,
        "GPU_INSTANCE_ID": "i-0123456789abcdef0",
    }


@pytest.fixture
def visit(variables: dict[str, str]) -> Visit:
    """`await visit("worker")` is what the doctor finds with these settings, or some of it."""

    async def find(role: str, *only: str, ahead: float = 0, **given: str) -> list[Finding]:
        settings = Settings.from_env({**variables, **given})
        examination = Examination(settings, clock=lambda: time.time() + ahead)
        checks = ROLES[role]
        return await examine(examination, {name: checks[name] for name in only or checks})

    return find


@pytest.mark.parametrize("role", ROLES)
async def test_of_a_deployment_in_order_there_is_nothing_to_tell(visit: Visit, role: str) -> None:
    findings = await visit(role)

    assert troubles(findings) == [], as_text(findings)
    assert {"credentials", "queue", "table", "links", "clock"} <= {f.subject for f in findings}
    assert len(set(findings)) == len(findings)


@pytest.mark.parametrize(("role", "action"), DENIALS)
async def test_what_is_denied_is_named_and_nothing_else(
    visit: Visit,
    proxy: FaultProxy,
    deployment: Deployment,
    bucket_name: str,
    role: str,
    action: str,
) -> None:
    deny(proxy, action)

    findings = await visit(role, "credentials", CHECKS[action.partition(":")[0]])

    level, resources = DENIALS[role, action]
    denied = troubles(findings)
    assert {each.action for each in denied} == {action}, as_text(findings)
    names = {name.format(q=deployment.table, b=bucket_name) for name in resources}
    assert {each.resource for each in denied} == names
    assert max(denied, key=lambda each: LEVELS.index(each.level)).level is level
    for each in denied:
        assert f"Allow {action} on {each.resource} " in (each.cure or "")


@pytest.mark.parametrize("role", ROLES)
def test_all_that_the_policy_of_a_role_allows_is_examined(role: str) -> None:
    policy = json.loads((IAM / f"{role}.json").read_text())

    allowed = [statement["Action"] for statement in policy["Statement"]]

    examined = {action for of, action in DENIALS if of == role}
    assert {*chain.from_iterable([a] if isinstance(a, str) else a for a in allowed)} == examined


def messages(emulator: Emulator, queue_url: str | None) -> dict[str, int]:
    """How many there are of each kind, by what SQS calls it."""
    kinds = {kind: f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")}
    told = emulator.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return {kind: int(told["Attributes"][name]) for kind, name in kinds.items()}


@on_each_emulator
@pytest.mark.parametrize("role", ROLES)
async def test_a_visit_leaves_tasks_queues_table_and_bucket_as_they_were(
    visit: Visit, deployment: Deployment, emulator: Emulator, bucket_name: str, role: str
) -> None:
    task_id = deployment.send()
    deployment.accept(task_id)
    before = deployment.item(task_id)

    await visit(role)

    (message,) = emulator.sqs.receive_message(
        QueueUrl=deployment.queue_url, AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert messages(emulator, deployment.queue_url) == {"": 0, "NotVisible": 1, "Delayed": 0}
    assert messages(emulator, deployment.dead_letters_url) == {"": 0, "NotVisible": 0, "Delayed": 0}
    assert deployment.item(task_id) == before
    assert deployment.count() == 1
    assert "Contents" not in emulator.s3.list_objects_v2(Bucket=bucket_name)


async def test_a_worker_that_may_not_delete_leaves_one_object_and_says_so(
    visit: Visit, proxy: FaultProxy, emulator: Emulator, bucket_name: str
) -> None:
    deny(proxy, "s3:DeleteObject")

    findings = [*await visit("worker", "bucket"), *await visit("worker", "bucket")]

    assert troubles(findings) == []
    assert f"s3://{bucket_name}/{PROBE} stays" in as_text(findings)
    left = emulator.s3.list_objects_v2(Bucket=bucket_name)["Contents"]
    assert [each["Key"] for each in left] == [PROBE]


async def test_an_orchestrator_signs_for_what_a_workers_doctor_has_left(
    visit: Visit, proxy: FaultProxy
) -> None:
    before = await visit("orchestrator", "bucket")
    deny(proxy, "s3:DeleteObject")
    await visit("worker", "bucket")

    after = await visit("orchestrator", "bucket")

    assert "a worker's doctor leaves an object" in as_text(before)
    assert ok("links", "a signed URL gives the object") in after


async def test_where_results_stay_on_the_machine_only_inputs_are_read(
    visit: Visit, proxy: FaultProxy, bucket_name: str
) -> None:
    deny(proxy, "s3:PutObject")
    deny(proxy, "s3:GetObject")

    (trouble,) = troubles(await visit("worker", "bucket", UNIFIED_API_URL_MODE="local"))

    assert trouble.resource == f"arn:aws:s3:::{bucket_name}/*"
    assert "s3:ListBucket" in trouble.text


async def test_a_bucket_that_only_inputs_come_from_is_asked(
    visit: Visit, emulator: Emulator
) -> None:
    name = f"inputs-{uuid4().hex}"
    absent = f"none-{uuid4().hex}"
    emulator.s3.create_bucket(Bucket=name)

    findings = await visit("worker", "bucket", UNIFIED_API_S3_READ_BUCKETS=f"{name},{absent}")

    (trouble,) = troubles(findings)
    assert absent in trouble.text
    assert ok("s3:GetObject", f"allowed on arn:aws:s3:::{name}/*") in findings


async def test_the_results_are_fetched_through_the_cdn(
    visit: Visit, proxy: FaultProxy, emulator: Emulator, bucket_name: str
) -> None:
    cdn = f"{proxy.url}/{bucket_name}"

    closed = await visit("worker", "bucket", CLOUDFRONT_DOMAIN=cdn)
    allow_everybody(emulator, bucket_name)
    opened = await visit("worker", "bucket", CLOUDFRONT_DOMAIN=cdn)

    (trouble,) = troubles(closed)
    assert "status 403" in trouble.text
    assert trouble.action == "s3:GetObject"
    assert "cloudfront.amazonaws.com" in (trouble.cure or "")
    assert troubles(opened) == []
    assert "the CDN gives the object" in as_text(opened)


def allow_everybody(emulator: Emulator, bucket: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    emulator.s3.put_bucket_policy(Bucket=bucket, Policy=policy)


@pytest.mark.parametrize(
    ("check", "variable", "value", "action"),
    [
        ("queue", "SQS_QUEUE_URL", "{url}-other", "sqs:GetQueueAttributes"),
        ("table", "DYNAMODB_TABLE", "no-such-table", "dynamodb:GetItem"),
        ("bucket", "S3_BUCKET", "no-such-bucket", "s3:PutObject"),
    ],
)
async def test_what_does_not_exist_is_told_once_and_is_no_missing_permission(
    visit: Visit,
    deployment: Deployment,
    check: str,
    variable: str,
    value: str,
    action: str,
) -> None:
    wrong = {variable: value.format(url=deployment.queue_url)}
    findings = await visit("worker", check, **wrong)

    (trouble,) = troubles(findings)
    assert trouble.subject == action
    assert trouble.action is None
    assert "does not exist" in trouble.text


@pytest.mark.parametrize("role", ROLES)
async def test_without_a_network_no_permission_is_blamed(
    visit: Visit, proxy: FaultProxy, role: str
) -> None:
    proxy.refuse()

    findings = await visit(role)

    found = troubles(findings)
    assert all("cannot be reached" in each.text for each in found), as_text(findings)
    assert {each.action for each in found} <= {None}
    assert len(found) == (4 if role == "worker" else 5)


async def test_without_credentials_that_is_said_and_nothing_else(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)

    (only,) = await visit("worker")

    assert only.level is Level.FAILED
    assert "there are no credentials" in only.text
    assert "AWS_ACCESS_KEY_ID" in (only.cure or "")


async def test_a_bucket_that_is_not_of_aws_needs_no_credentials_of_aws(
    visit: Visit, proxy: FaultProxy
) -> None:
    proxy.spoil(refuse("InvalidClientTokenId"), method="POST", times=inf, when=is_for("sts"))

    (trouble,) = troubles(await visit("worker"))

    assert trouble.level is Level.WARNING
    assert trouble.text == "asking STS: the credentials do not count"


async def test_credentials_that_do_not_count_are_told_apart(
    visit: Visit, proxy: FaultProxy
) -> None:
    refusal = refuse_operation("UnrecognizedClientException")
    proxy.spoil(refusal, method="POST", times=inf, when=operation("GetItem"))

    (trouble,) = troubles(await visit("worker", "table"))

    assert trouble.action is None
    assert "credentials do not count" in trouble.text


@pytest.mark.parametrize("role", ROLES)
async def test_the_queue_for_high_priority_is_examined_too(
    visit: Visit, deployment: Deployment, role: str
) -> None:
    high = f"{deployment.queue_url}-high"

    (trouble,) = troubles(await visit(role, "queue", UNIFIED_API_SQS_HIGH_QUEUE_URL=high))

    assert trouble.subject == "sqs:GetQueueAttributes"
    assert f"{deployment.table}-high" in trouble.text


async def test_a_queue_of_another_region_is_told_from_its_name(visit: Visit) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks"

    (trouble,) = troubles(await visit("worker", "queue", SQS_QUEUE_URL=url))

    assert trouble.cure == "Set AWS_REGION=eu-west-1."


async def test_a_bucket_of_another_region_is_told(visit: Visit, emulator: Emulator) -> None:
    name = f"far-{uuid4().hex}"
    place = {"LocationConstraint": "eu-west-1"}
    emulator.s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)

    findings = await visit("worker", "bucket", S3_BUCKET=name)

    assert "Set AWS_REGION=eu-west-1." in {each.cure for each in troubles(findings)}


async def test_a_queue_without_dead_letters_that_forgets_soon_is_warned_of(
    visit: Visit, emulator: Emulator
) -> None:
    url = emulator.sqs.create_queue(QueueName=f"bare-{uuid4().hex}")["QueueUrl"]

    findings = troubles(await visit("worker", "queue", SQS_QUEUE_URL=url))

    assert [each.level for each in findings] == [Level.WARNING] * 2
    assert "no dead-letter queue" in findings[0].text
    assert "4.0 days" in findings[1].text


async def test_the_key_of_a_queue_is_said_not_to_be_tried(visit: Visit, emulator: Emulator) -> None:
    name, attributes = f"secret-{uuid4().hex}", {"KmsMasterKeyId": "alias/ours"}
    url = emulator.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    findings = await visit("worker", "queue", SQS_QUEUE_URL=url)

    (key,) = (each for each in findings if each.level is Level.SKIPPED)
    assert "alias/ours" in key.text


@pytest.fixture
def bare_table(emulator: Emulator) -> str:
    name = f"bare-{uuid4().hex}"
    emulator.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "task_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "task_id", "KeyType": "HASH"}],
    )
    return name


async def test_a_table_without_index_or_end_is_told(visit: Visit, bare_table: str) -> None:
    no_index, no_end = troubles(await visit("orchestrator", "table", DYNAMODB_TABLE=bare_table))

    assert no_index.level is Level.FAILED
    assert "Add a global secondary index" in (no_index.cure or "")
    assert no_end.level is Level.WARNING
    assert "expires_at" in (no_end.cure or "")


@on_each_emulator
async def test_a_table_without_the_index_by_owner_gets_advice(
    visit: Visit, emulator: Emulator
) -> None:
    table = make_old_table(emulator)

    (advice,) = troubles(await visit("orchestrator", "table", DYNAMODB_TABLE=table))
    create_table(emulator.dynamodb, table)

    assert advice.level is Level.WARNING
    assert "owner-created_at-index" in advice.text
    assert "python -m deploy.aws.create" in (advice.cure or "")
    assert troubles(await visit("orchestrator", "table", DYNAMODB_TABLE=table)) == []


async def test_a_table_with_another_key_is_told(visit: Visit, emulator: Emulator) -> None:
    name = f"other-{uuid4().hex}"
    emulator.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )

    trouble, _no_end = troubles(await visit("worker", "table", DYNAMODB_TABLE=name))

    assert "another key" in trouble.text


async def test_who_may_not_look_at_the_end_of_items_is_not_blamed(
    visit: Visit, proxy: FaultProxy
) -> None:
    deny(proxy, "dynamodb:DescribeTimeToLive")

    findings = await visit("worker", "table")

    assert troubles(findings) == []
    assert Level.SKIPPED in {each.level for each in findings if each.subject == "table"}


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, Level.OK), (-60, Level.WARNING), (400, Level.FAILED)]
)
async def test_a_clock_that_is_wrong_is_told(visit: Visit, ahead: float, level: Level) -> None:
    findings = await visit("worker", "credentials", "clock", ahead=ahead)

    assert findings[-1].subject == "clock"
    assert findings[-1].level is level


@pytest.fixture
def environment(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator's."""
    for name, value in {**variables, "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)


def test_the_command_tells_programs_and_ends_with_status_1_if_something_failed(
    environment: None, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    deny(proxy, "dynamodb:Query")

    status = main(["--json"])

    told = json.loads(capsys.readouterr().out)
    assert (status, told["status"]) == (1, "failed")
    (failed,) = (each for each in told["findings"] if each["level"] == "failed")
    assert failed["action"] == "dynamodb:Query"


def test_the_command_tells_people_in_lines(
    environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([])

    assert status == 0
    assert " allowed on arn:aws:sqs:" in capsys.readouterr().out
