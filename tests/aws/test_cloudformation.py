"""The template: its resources are made by an emulator and used, its rules are worked out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bucket_objects import keys
from cloudformation_machine import embedded, guard, held, user_data
from cloudformation_stack import (
    FILE,
    PARAMETERS,
    Stack,
    create,
    properties,
    settings_told,
    template,
)
from emulators import REGION, Emulator
from tasks import PATH, Deployment
from unified_api.deploy.aws.create import create_queues, create_table
from unified_api.jobs.s3_results import S3Results
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.deposit import INPUTS, REQUESTS
from unified_api.sqs_bridge.orchestrator import PORT, host_of

from ..unit.fake_host import until

IAM = FILE.parent / "iam"
LINT = "from cfnlint.runner import main; raise SystemExit(main())"
#: What CloudFormation takes in a request.
MOST_BYTES = 51_200
QUEUES = {"Tasks": "", "HighTasks": "-high"}
NOBODY_WAITS = {"waiting": 0, "held": 0, "highWaiting": 0, "highHeld": 0}


@pytest.fixture(scope="session")
def stack(moto: Emulator) -> Stack:
    return create(moto)


@pytest.fixture
def bucket_name(stack: Stack) -> str:
    return stack.settings["S3_BUCKET"]


@pytest.fixture
def deployment(stack: Stack) -> Deployment:
    settings = stack.settings
    dead = stack.made["DeadTasks"]
    return Deployment(stack.emulator, settings["SQS_QUEUE_URL"], settings["DYNAMODB_TABLE"], dead)


def test_cfn_lint_finds_nothing_and_cloudformation_takes_it_as_it_is() -> None:
    call = [sys.executable, "-c", LINT, "--format", "parseable", str(FILE)]
    lint = subprocess.run(call, capture_output=True, text=True, check=False)

    assert (lint.returncode, lint.stdout) == (0, ""), lint.stderr
    assert FILE.stat().st_size < MOST_BYTES


# What is made


@pytest.mark.parametrize("priority", ["normal", "high"])
async def test_a_job_goes_all_the_way_through_what_the_template_makes(
    priority: str,
    stack: Stack,
    orchestrate: Any,
    hire: Any,
    results: S3Results,
    deployment: Deployment,
    aws: Any,
) -> None:
    client = await orchestrate(**stack.settings)
    job = await (await client.post(PATH, json={"text": "a", "priority": priority})).json()
    high = Deployment(
        stack.emulator, stack.settings["UNIFIED_API_SQS_HIGH_QUEUE_URL"], deployment.table
    )
    way, other = (high, deployment) if priority == "high" else (deployment, high)
    assert (way.waiting(), other.is_empty) == ((1, 0), True)

    await hire(**stack.settings)
    await until(lambda: deployment.item(job["job_id"])["status"] == "completed" and way.is_empty)

    done = await (await client.get(job["urls"]["self"])).json()
    assert done["status"] == "completed"
    assert any(job["job_id"] in key for key in keys(aws, stack.settings["S3_BUCKET"]))
    assert deployment.dead_letters() == []


@pytest.mark.parametrize("queue", QUEUES)
def test_queues_are_those_that_deploy_aws_makes(moto: Emulator, stack: Stack, queue: str) -> None:
    name = f"{stack.name}-by-hand{QUEUES[queue]}"
    by_hand = create_queues(moto.sqs, name)
    dead_by_hand = by_hand.replace(name, f"{name}-dead")

    ours, theirs = attributes(moto, stack.made[queue]), attributes(moto, by_hand)
    dead = attributes(moto, stack.made[f"Dead{queue}"])

    assert ours == theirs
    assert dead == attributes(moto, dead_by_hand)


def attributes(emulator: Emulator, url: str) -> dict[str, Any]:
    """Of a queue, without what is its own alone."""
    found = emulator.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    redrive = json.loads(found.pop("RedrivePolicy", "{}"))
    target = redrive.get("deadLetterTargetArn", "")
    own = {"QueueArn", "CreatedTimestamp", "LastModifiedTimestamp", "SqsManagedSseEnabled"}
    return {
        **{name: value for name, value in found.items() if name not in own},
        "receives": redrive.get("maxReceiveCount"),
        "dead letters": target == f"{found['QueueArn']}-dead",
    }


def test_the_table_is_the_one_that_deploy_aws_makes(moto: Emulator, stack: Stack) -> None:
    create_table(moto.dynamodb, f"{stack.name}-by-hand")
    ends = moto.dynamodb.describe_time_to_live(TableName=f"{stack.name}-by-hand")

    assert schema(moto, stack.settings["DYNAMODB_TABLE"]) == schema(moto, f"{stack.name}-by-hand")
    # The emulator does not make it from templates.
    ours = properties("Table")["TimeToLiveSpecification"]
    assert ours["Enabled"] is True
    assert ours["AttributeName"] == ends["TimeToLiveDescription"]["AttributeName"]


def schema(emulator: Emulator, table: str) -> dict[str, Any]:
    told = emulator.dynamodb.describe_table(TableName=table)["Table"]
    indexes = [
        (index["IndexName"], index["KeySchema"], index["Projection"])
        for index in told["GlobalSecondaryIndexes"]
    ]
    types = {one["AttributeName"]: one["AttributeType"] for one in told["AttributeDefinitions"]}
    return {
        "keys": told["KeySchema"],
        "indexes": indexes,
        "types": types,
        "billing": told["BillingModeSummary"]["BillingMode"],
    }


@pytest.mark.parametrize("role", ["worker", "orchestrator"])
def test_a_role_may_do_what_deploy_iam_says_and_no_more(stack: Stack, role: str) -> None:
    text = (IAM / f"{role}.json").read_text()
    words = {
        "REGION": REGION,
        "ACCOUNT": "123456789012",
        "QUEUE": f"{stack.name}-tasks",
        "TABLE": stack.settings["DYNAMODB_TABLE"],
        "BUCKET": stack.settings["S3_BUCKET"],
    }
    for word, name in words.items():
        text = re.sub(rf"\b{word}\b", name, text)
    expected = json.loads(text)["Statement"]

    granted = stack.policy(f"{role.title()}Role", "tasks")

    # A fleet's machines are started by its Auto Scaling group.
    assert granted == [one for one in expected if one["Sid"] != "OptionalForGpuInstanceId"]


def test_a_worker_has_a_hand_in_its_own_group_metrics_and_log_alone(stack: Stack) -> None:
    group, metrics, log = stack.policy("WorkerRole", "machine")

    assert group["Resource"].endswith(f":autoScalingGroupName/{stack.name}-workers")
    assert metrics["Condition"] == {"StringEquals": {"cloudwatch:namespace": stack.name}}
    assert f":log-group:/{stack.name}/workers" in log["Resource"]
    used = re.findall(r"aws (autoscaling|cloudwatch) ([a-z-]+)", embedded("GUARD"))
    assert {f"{service}:{action.title().replace('-', '')}" for service, action in used} == {
        *group["Action"],
        metrics["Action"],
    }


def test_all_are_told_the_same_settings() -> None:
    told = settings_told(template()["Outputs"])
    task = properties("OrchestratorTask")["ContainerDefinitions"][0]["Environment"]
    orchestrator = {one["Name"]: one["Value"] for one in task}
    worker = dict(line.split("=", 1) for line in embedded("SETTINGS").splitlines())

    assert {name: output["Value"] for name, output in told.items()} == {
        name: value for name, value in orchestrator.items() if name != "UNIFIED_API_KEYS"
    }
    assert worker == {name: spelt(output["Value"]) for name, output in told.items()}


def spelt(value: dict[str, Any]) -> str:
    """As Fn::Sub writes it."""
    ((kind, what),) = value.items()
    return f"${{{what if kind == 'Ref' else '.'.join(what)}}}"


def test_the_cdn_shows_results_and_nothing_else() -> None:
    serves, refuses = properties("BucketPolicy")["PolicyDocument"]["Statement"]

    assert serves["Resource"] == {"Fn::Sub": "${Bucket.Arn}/images/comfyui-results/*"}
    assert serves["Principal"] == {"Service": "cloudfront.amazonaws.com"}
    assert refuses["Effect"] == "Deny"
    assert set(properties("Bucket")["PublicAccessBlockConfiguration"].values()) == {True}


def test_storage_and_table_outlive_the_stack() -> None:
    for name in ("Bucket", "Table"):
        resource = template()["Resources"][name]
        assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"


def test_nothing_is_deleted_that_a_task_may_still_need() -> None:
    rules = {one["Id"]: one for one in properties("Bucket")["LifecycleConfiguration"]["Rules"]}
    least_days = template()["Parameters"]["ResultDays"]["MinValue"]
    settings = Settings()

    assert rules["results"]["Prefix"] == f"{settings.prefix}/"
    assert least_days >= settings.retention_days
    spool = rules["uploads-and-large-requests"]["Prefix"]
    assert INPUTS.startswith(spool)
    assert REQUESTS.startswith(spool)
    assert rules["uploads-and-large-requests"]["ExpirationInDays"] > settings.task_days


async def test_the_load_balancer_learns_without_a_key_that_an_orchestrator_is_ready(
    stack: Stack, orchestrate: Any
) -> None:
    keys = PARAMETERS["ApiKeys"]
    path = properties("Orchestrators")["HealthCheckPath"]

    client = await orchestrate(**stack.settings, UNIFIED_API_KEYS=keys)

    async def is_ready() -> bool:
        return bool((await client.get(path)).status == 200)

    assert await until(is_ready)
    assert host_of(Settings.from_env({"UNIFIED_API_KEYS": keys})) == "0.0.0.0"
    assert properties("Orchestrators")["Port"] == PORT


# How many workers


def worked_out(name: str, **metrics: float | None) -> float:
    """The last expression of a policy or an alarm. None: CloudWatch has no such number."""
    found = properties(name)
    if name == "KeepUp":
        found = found["TargetTrackingConfiguration"]["CustomizedMetricSpecification"]
    words: dict[str, Any] = {
        "FILL": lambda value, other: other if value is None else value,
        "IF": lambda condition, one, other: one if condition else other,
        "MAX": max,
        **metrics,
    }
    for query in found["Metrics"]:
        if "Expression" in query:
            # Metric math, as far as it is used there, is spelt as Python is.
            words[query["Id"]] = eval(query["Expression"], {}, words)
    return float(words[found["Metrics"][-1]["Id"]])


@pytest.mark.parametrize(
    ("wanted", "per_worker"), [(0, 12.0), (None, 12.0), (1, 12.0), (3, 4.0), (12, 1.0)]
)
def test_jobs_of_both_queues_that_wait_or_run_are_shared_among_the_workers_wanted(
    wanted: int | None, per_worker: float
) -> None:
    jobs = {"waiting": 5, "held": 3, "highWaiting": 4, "highHeld": None}

    assert worked_out("KeepUp", workers=wanted, **jobs) == per_worker


@pytest.mark.parametrize(
    ("wanted", "waiting", "stranded"),
    [(0, {"waiting": 2}, 2), (0, {"highWaiting": 1}, 1), (None, {"waiting": 1}, 1)],
)
def test_the_first_job_of_either_queue_wakes_a_worker(
    wanted: int | None, waiting: dict[str, int], stranded: int
) -> None:
    jobs = {"waiting": None, "highWaiting": None, **waiting}

    assert worked_out("WorkWithoutWorkers", workers=wanted, **jobs) == stranded
    assert properties("WorkWithoutWorkers")["AlarmActions"] == [{"Ref": "Wake"}]
    assert properties("Wake")["StepAdjustments"][0]["ScalingAdjustment"] == 1


def test_nobody_is_woken_while_a_worker_is_on_its_way() -> None:
    assert worked_out("WorkWithoutWorkers", workers=1, waiting=1000, highWaiting=1000) == 0


@pytest.mark.parametrize("queue", NOBODY_WAITS)
def test_workers_end_when_no_queue_has_a_job_waiting_or_held(queue: str) -> None:
    alarm = properties("NothingToDo")

    assert worked_out("NothingToDo", **NOBODY_WAITS) < alarm["Threshold"]
    assert worked_out("NothingToDo", **{**NOBODY_WAITS, queue: 1}) >= alarm["Threshold"]
    assert alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["TreatMissingData"] == "notBreaching"
    assert properties("Sleep")["AdjustmentType"] == "ExactCapacity"


# A worker's machine


def test_what_a_machine_does_first_is_bash() -> None:
    for script in (user_data(), embedded("GUARD")):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def protection(calls: list[str]) -> list[str]:
    asked = [re.findall(r"--(no-protected|protected)-from-scale-in", call) for call in calls]
    return [word for words in asked for word in words]


def test_a_worker_is_kept_while_it_holds_jobs(tmp_path: Path) -> None:
    calls = guard(tmp_path, [held(0), held(2), held(1), held(0)])

    assert protection(calls) == ["no-protected", "protected", "no-protected"]
    assert all("--instance-ids i-1" in call for call in calls if "protected" in call)


def test_a_worker_that_does_not_answer_is_not_kept(tmp_path: Path) -> None:
    calls = guard(tmp_path, [held(1), {"metrics": None}])

    assert protection(calls) == ["protected", "no-protected"]


@pytest.mark.parametrize(
    ("health", "unhealthy"), [("{}", 0), (None, 1)], ids=["healthy", "unhealthy"]
)
def test_how_a_worker_is_is_told_once_a_minute(
    tmp_path: Path, health: str | None, unhealthy: int
) -> None:
    calls = guard(tmp_path, [{"health": health}] * 13)

    told = [call for call in calls if "put-metric-data" in call]
    alarm = properties("UnhealthyWorker")
    assert len(told) == 2
    assert all(call.endswith(f"--value {unhealthy}") for call in told)
    assert all(f"--metric-name {alarm['MetricName']} " in call for call in told)
    assert alarm["Namespace"] == {"Ref": "AWS::StackName"}


@pytest.mark.parametrize(
    "moments", [[], [{"instance-action": '{"action": "terminate"}'}]], ids=["scale-in", "spot"]
)
def test_a_machine_that_must_go_lets_its_worker_drain_at_once(
    tmp_path: Path, moments: list[dict[str, str]]
) -> None:
    stop, complete = guard(tmp_path, moments)

    hook = properties("Drain")["LifecycleHookName"]
    assert stop == "systemctl stop comfyui"
    assert "complete-lifecycle-action" in complete
    assert f"--lifecycle-hook-name {hook} " in complete
