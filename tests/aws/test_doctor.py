"""What the doctor tells of a deployment: all in order, and each thing broken in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from math import inf
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from emulators import CREDENTIALS, REGION, Emulator
from fault_proxy import Exchange, FaultProxy, answer, operation, refuse_operation
from tasks import Deployment
from unified_api.deploy.aws.create import create_queues, create_table
from unified_api.jobs.doctor import Finding, Level
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.bucket_check import orchestrator_bucket, worker_bucket
from unified_api.sqs_bridge.doctor import clock, examine, gpu_instance, identity
from unified_api.sqs_bridge.patient import Patient
from unified_api.sqs_bridge.probe import Examiner
from unified_api.sqs_bridge.queue_check import orchestrator_queues, worker_queues
from unified_api.sqs_bridge.table_check import orchestrator_table, worker_table

ROOT = Path(__file__).resolve().parents[2]
EVERYWHERE = pytest.mark.parametrize("emulator", ["moto", "ministack"], indirect=True)
OF_WORKER = (identity, worker_queues, worker_table, worker_bucket)
OF_ORCHESTRATOR = (
    identity,
    orchestrator_queues,
    orchestrator_table,
    orchestrator_bucket,
    gpu_instance,
)
ROLES = {"worker": OF_WORKER, "orchestrator": OF_ORCHESTRATOR}
QUEUE, DEAD = (
    "arn:aws:sqs:us-east-1:123456789012:{q}",
    "arn:aws:sqs:us-east-1:123456789012:{q}-dead",
)
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/{q}"
INDEX = f"{TABLE}/index/status-created_at-index"
BUCKET, RESULTS = "arn:aws:s3:::{b}", "arn:aws:s3:::{b}/images/comfyui-results/*"
OURS = "arn:aws:s3:::{b}/unified-api/*"
INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0"
PROBE = "images/comfyui-results/unified-api-doctor.txt"
UNAUTHORIZED = (
    "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error>"
    "</Errors></Response>"
)

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
    ("orchestrator", "dynamodb:Query"): (Level.FAILED, {INDEX}),
    ("orchestrator", "s3:PutObject"): (Level.FAILED, {OURS}),
    ("orchestrator", "s3:GetObject"): (
        Level.FAILED,
        {OURS, RESULTS, f"{BUCKET}/unified-api/inputs/*"},
    ),
    ("orchestrator", "s3:DeleteObject"): (Level.WARNING, {RESULTS}),
    ("orchestrator", "ec2:StartInstances"): (Level.WARNING, {INSTANCE}),
}
METHODS = {"PutObject": "PUT", "GetObject": "GET", "ListBucket": "HEAD", "DeleteObject": "DELETE"}

Visit = Callable[..., Awaitable[list[Finding]]]


def deny(proxy: FaultProxy, action: str) -> None:
    """As IAM does it to a role without the permission."""
    service, _, name = action.partition(":")
    if service == "s3":
        proxy.spoil(answer(403, "AccessDenied"), method=METHODS[name], times=inf)
    elif service == "ec2":
        proxy.spoil(refuse_start, method="POST", times=inf, when=is_for("ec2"))
    else:
        denial = refuse_operation("AccessDeniedException")
        proxy.spoil(denial, method="POST", times=inf, when=operation(name))


async def refuse_start(exchange: Exchange) -> None:
    await exchange.body()
    head = f"HTTP/1.1 403 Injected\r\nConnection: close\r\nContent-Length: {len(UNAUTHORIZED)}"
    await exchange.reply(f"{head}\r\n\r\n{UNAUTHORIZED}".encode())


def is_for(service: str) -> Callable[[Exchange], bool]:
    """By the signature of a request."""
    return lambda exchange: f"/{service}/aws4_request" in exchange.header("authorization")


def troubles(findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.level in {Level.WARNING, Level.FAILED}]


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


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
    """`await visit("worker")` is what the doctor finds with these settings."""

    async def find(role: str, *, examiner: Examiner | None = None, **given: str) -> list[Finding]:
        settings = Settings.from_env({**variables, **given})
        patient = Patient(settings, examiner=examiner or Examiner())
        return await examine(patient, (*ROLES[role], clock))

    return find


@pytest.mark.parametrize("role", ROLES)
async def test_of_a_deployment_in_order_there_is_nothing_to_tell(visit: Visit, role: str) -> None:
    findings = await visit(role)

    assert troubles(findings) == [], told(findings)
    assert {"credentials", "queue", "table", "links", "clock"} <= {f.subject for f in findings}


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

    findings = await visit(role)

    level, resources = DENIALS[role, action]
    denied = troubles(findings)
    assert {each.action for each in denied} == {action}, told(findings)
    names = {name.format(q=deployment.table, b=bucket_name) for name in resources}
    assert {each.resource for each in denied} == names
    assert max(denied, key=lambda each: list(Level).index(each.level)).level is level
    for each in denied:
        assert f"Allow {action} on {each.resource} " in (each.cure or "")


@EVERYWHERE
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
    assert deployment.waiting() == (0, 1)
    assert deployment.dead_letters() == []
    assert deployment.item(task_id) == before
    assert deployment.count() == 1
    assert "Contents" not in emulator.s3.list_objects_v2(Bucket=bucket_name)


async def test_a_worker_that_may_not_delete_leaves_one_object_and_says_so(
    visit: Visit, proxy: FaultProxy, emulator: Emulator, bucket_name: str
) -> None:
    deny(proxy, "s3:DeleteObject")

    findings = [*await visit("worker"), *await visit("worker")]

    assert troubles(findings) == []
    assert f"s3://{bucket_name}/{PROBE} stays" in told(findings)
    left = emulator.s3.list_objects_v2(Bucket=bucket_name)["Contents"]
    assert [each["Key"] for each in left] == [PROBE]


async def test_where_results_stay_on_the_machine_only_inputs_are_read(
    visit: Visit, proxy: FaultProxy, bucket_name: str
) -> None:
    deny(proxy, "s3:PutObject")
    deny(proxy, "s3:GetObject")

    (trouble,) = troubles(await visit("worker", UNIFIED_API_URL_MODE="local"))

    assert trouble.resource == f"arn:aws:s3:::{bucket_name}/*"
    assert "s3:ListBucket" in trouble.text


async def test_a_bucket_that_only_inputs_come_from_is_asked(
    visit: Visit, emulator: Emulator
) -> None:
    name = f"inputs-{uuid4().hex}"
    absent = f"none-{uuid4().hex}"
    emulator.s3.create_bucket(Bucket=name)

    findings = await visit("worker", UNIFIED_API_S3_READ_BUCKETS=f"{name},{absent}")

    (trouble,) = troubles(findings)
    assert absent in trouble.text
    assert f"s3:GetObject: allowed on arn:aws:s3:::{name}/*" in told(findings)


async def test_the_results_are_fetched_through_the_cdn(
    visit: Visit, proxy: FaultProxy, emulator: Emulator, bucket_name: str
) -> None:
    cdn = f"{proxy.url}/{bucket_name}"

    closed = await visit("worker", CLOUDFRONT_DOMAIN=cdn)
    allow_everybody(emulator, bucket_name)
    opened = await visit("worker", CLOUDFRONT_DOMAIN=cdn)

    (trouble,) = troubles(closed)
    assert "status 403" in trouble.text
    assert trouble.action == "s3:GetObject"
    assert "cloudfront.amazonaws.com" in (trouble.cure or "")
    assert troubles(opened) == []
    assert "the CDN gives the object" in told(opened)


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
    ("variable", "value", "actions"),
    [
        ("SQS_QUEUE_URL", "{url}-other", {"sqs:GetQueueAttributes"}),
        ("DYNAMODB_TABLE", "no-such-table", {"dynamodb:GetItem"}),
        ("S3_BUCKET", "no-such-bucket", {"s3:PutObject"}),
    ],
)
async def test_what_does_not_exist_is_told_once_and_is_no_missing_permission(
    visit: Visit,
    deployment: Deployment,
    variable: str,
    value: str,
    actions: set[str],
) -> None:
    findings = await visit("worker", **{variable: value.format(url=deployment.queue_url)})

    (trouble,) = troubles(findings)
    assert {trouble.subject} == actions
    assert trouble.action is None
    assert "does not exist" in trouble.text


@pytest.mark.parametrize("role", ROLES)
async def test_without_a_network_no_permission_is_blamed(
    visit: Visit, proxy: FaultProxy, role: str
) -> None:
    proxy.refuse()

    findings = await visit(role)

    found = troubles(findings)
    assert all("cannot be reached" in each.text for each in found), told(findings)
    assert {each.action for each in found} <= {None}
    assert len(found) == (4 if role == "worker" else 5)


async def test_without_credentials_that_is_said(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)

    findings = troubles(await visit("worker"))

    assert {each.text.rpartition(": ")[2] for each in findings} == {"there are no credentials"}
    assert all("AWS_ACCESS_KEY_ID" in (each.cure or "") for each in findings)


async def test_credentials_that_do_not_count_are_told_apart(
    visit: Visit, proxy: FaultProxy
) -> None:
    refusal = refuse_operation("UnrecognizedClientException")
    proxy.spoil(refusal, method="POST", times=inf, when=operation("GetItem"))

    (trouble,) = troubles(await visit("worker"))

    assert trouble.action is None
    assert "credentials do not count" in trouble.text


async def test_a_queue_of_another_region_is_told_from_its_name(visit: Visit) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks"

    (trouble,) = troubles(await visit("worker", SQS_QUEUE_URL=url))

    assert trouble.cure == "Set AWS_REGION=eu-west-1."


async def test_a_bucket_of_another_region_is_told(visit: Visit, emulator: Emulator) -> None:
    name = f"far-{uuid4().hex}"
    place = {"LocationConstraint": "eu-west-1"}
    emulator.s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)

    findings = await visit("worker", S3_BUCKET=name)

    assert "Set AWS_REGION=eu-west-1." in {each.cure for each in troubles(findings)}


async def test_a_queue_without_dead_letters_that_forgets_soon_is_warned_of(
    visit: Visit, emulator: Emulator
) -> None:
    url = emulator.sqs.create_queue(QueueName=f"bare-{uuid4().hex}")["QueueUrl"]

    findings = troubles(await visit("worker", SQS_QUEUE_URL=url))

    assert [each.level for each in findings] == [Level.WARNING] * 2
    assert "no dead-letter queue" in findings[0].text
    assert "4.0 days" in findings[1].text


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
    no_index, no_end = troubles(await visit("orchestrator", DYNAMODB_TABLE=bare_table))

    assert no_index.level is Level.FAILED
    assert "Add a global secondary index" in (no_index.cure or "")
    assert no_end.level is Level.WARNING
    assert "expires_at" in (no_end.cure or "")


async def test_a_table_with_another_key_is_told(visit: Visit, emulator: Emulator) -> None:
    name = f"other-{uuid4().hex}"
    emulator.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )

    trouble, _no_end = troubles(await visit("worker", DYNAMODB_TABLE=name))

    assert "another key" in trouble.text


async def test_who_may_not_look_at_the_end_of_items_is_not_blamed(
    visit: Visit, proxy: FaultProxy
) -> None:
    deny(proxy, "dynamodb:DescribeTimeToLive")

    findings = await visit("worker")

    assert troubles(findings) == []
    assert Level.SKIPPED in {each.level for each in findings if each.subject == "table"}


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, Level.OK), (-60, Level.WARNING), (400, Level.FAILED)]
)
async def test_a_clock_that_is_wrong_is_told(visit: Visit, ahead: float, level: Level) -> None:
    findings = await visit("worker", examiner=Examiner(clock=lambda: time.time() + ahead))

    assert findings[-1].subject == "clock"
    assert findings[-1].level is level


@pytest.fixture
def command(variables: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Calls it as an operator does."""
    (tmp_path / "unified_api").symlink_to(ROOT, target_is_directory=True)
    environment = {**os.environ, **variables, "PYTHONPATH": str(tmp_path), "AWS_REGION": REGION}

    def call(*options: str, **given: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "unified_api.sqs_bridge.doctor", *options],
            env={**environment, **given},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_the_command_tells_programs_and_ends_with_status_1_if_something_failed(
    command: Callable[..., Any], proxy: FaultProxy
) -> None:
    deny(proxy, "dynamodb:Query")
    secret = "wJalrXUtnFEMI"

    done = command("--json", AWS_SECRET_ACCESS_KEY=secret)

    told = json.loads(done.stdout)
    assert (done.returncode, told["status"], done.stderr) == (1, "failed", "")
    (failed,) = (each for each in told["findings"] if each["level"] == "failed")
    assert failed["action"] == "dynamodb:Query"
    assert secret not in done.stdout


def test_the_command_tells_people_in_lines_and_never_a_trace(
    command: Callable[..., Any],
) -> None:
    done = command()
    broken = command(AWS_ENDPOINT_URL_SQS="nonsense")

    assert done.returncode == 0, done.stdout
    assert "ok        sqs:SendMessage: allowed on arn:aws:sqs:" in done.stdout
    assert broken.returncode == 1
    assert "Traceback" not in broken.stdout + broken.stderr
