"""The template: an emulator makes its resources, and jobs go through them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bucket_objects import keys
from cloudformation_machine import GUARD
from cloudformation_stack import FILE, UNKNOWN, Stack, create, properties, template
from emulators import REGION, Emulator
from tasks import PATH, Deployment
from unified_api.deploy.aws.create import create_queues, create_table
from unified_api.jobs.readable import INPUTS
from unified_api.jobs.s3.results import S3Results
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.deposit import REQUESTS
from unified_api.sqs_bridge.orchestrator import PORT, host_of

from ..unit.fake_host import until

IAM, DOCS = FILE.parent / "iam", FILE.parents[1] / "docs"
LINT = "from cfnlint.runner import main; raise SystemExit(main())"
#: What CloudFormation takes in a request.
MOST_BYTES = 51_200
QUEUES = {"Tasks": "", "HighTasks": "-high"}
KEY = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="session")
def stack(moto: Emulator) -> Stack:
    return create(moto)


@pytest.fixture
def bucket_name(stack: Stack) -> str:
    return stack.worker["S3_BUCKET"]


@pytest.fixture
def deployment(stack: Stack) -> Deployment:
    settings = stack.worker
    dead = stack.made["DeadTasks"]
    return Deployment(stack.emulator, settings["SQS_QUEUE_URL"], settings["DYNAMODB_TABLE"], dead)


def test_cfn_lint_finds_nothing_and_cloudformation_takes_it_as_it_is() -> None:
    call = [sys.executable, "-c", LINT, "--format", "parseable", str(FILE)]
    lint = subprocess.run(call, capture_output=True, text=True, check=False)

    assert (lint.returncode, lint.stdout) == (0, ""), lint.stderr
    assert FILE.stat().st_size < MOST_BYTES


def test_the_code_that_workers_run_as_root_is_named_by_whoever_makes_the_stack() -> None:
    for name in ("SourceUrl", "SourceRef", "WorkerImage", "OrchestratorImage"):
        assert "Default" not in template()["Parameters"][name]


@pytest.mark.parametrize("kind", ["commit", "tag", "branch"])
def test_a_machine_takes_the_source_by_commit_tag_or_branch(tmp_path: Path, kind: str) -> None:
    """The lines of its first script, on a repository that has gone on since."""
    here = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
    for call in (
        "init --quiet --initial-branch main",
        "commit --quiet --allow-empty --message wanted",
        "tag v1",
        "branch other",
        "commit --quiet --allow-empty --message later",
    ):
        subprocess.run([*here, *call.split()], check=True)
    wanted = subprocess.check_output([*here, "rev-parse", "v1"], text=True).strip()
    script = json.dumps(properties("WorkerTemplate")["LaunchTemplateData"]["UserData"])
    lines = re.findall(r"(git clone .*?|git checkout .*?)\\n", script)
    values = {"commit": wanted, "tag": "v1", "branch": "other"}
    text = "\n".join([lines[0], "cd clone", lines[1]])
    text = text.replace("${SourceUrl} /opt/unified-api", f"{tmp_path} clone")

    call = ["bash", "-ec", text.replace("${SourceRef}", values[kind])]
    subprocess.run(call, cwd=tmp_path, check=True)

    clone = [*here[:-1], str(tmp_path / "clone")]
    assert subprocess.check_output([*clone, "rev-parse", "HEAD"], text=True).strip() == wanted


def test_the_guide_tells_each_parameter_with_its_default() -> None:
    rows = re.findall(r"^\| (`.+?`) \| (.*?) \|", (DOCS / "fleet.md").read_text(), re.MULTILINE)

    told = {name: default for names, default in rows for name in re.findall(r"\w+", names)}

    parameters = template()["Parameters"].items()
    defaults = {name: str(each.get("Default", "required")) for name, each in parameters}
    assert told == {name: default or "none" for name, default in defaults.items()}


def test_each_alarm_is_told_to_those_who_subscribe() -> None:
    alarms = [one for one in template()["Resources"].values() if one["Type"].endswith("::Alarm")]

    assert len(alarms) >= 4
    assert all(one["Properties"]["AlarmActions"] == [{"Ref": "AlarmTopic"}] for one in alarms)


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
    client = await orchestrate(**stack.orchestrator)
    body = {"text": "a", "priority": priority}
    job = await (await client.post(PATH, json=body, headers=KEY)).json()
    high = Deployment(
        stack.emulator, stack.worker["UNIFIED_API_SQS_HIGH_QUEUE_URL"], deployment.table
    )
    way, other = (high, deployment) if priority == "high" else (deployment, high)
    assert (way.waiting(), other.is_empty) == ((1, 0), True)

    await hire(**stack.worker)
    await until(lambda: deployment.item(job["job_id"])["status"] == "completed" and way.is_empty)

    done = await (await client.get(job["urls"]["self"], headers=KEY)).json()
    assert done["status"] == "completed"
    assert any(job["job_id"] in key for key in keys(aws, stack.worker["S3_BUCKET"]))
    assert deployment.dead_letters() == []


def test_all_is_made_but_what_the_emulator_does_not_know(stack: Stack) -> None:
    resources = template()["Resources"]

    left_out = {name for name in resources if name not in stack.made}

    assert {resources[name]["Type"] for name in left_out} == UNKNOWN


def test_all_are_told_the_same_settings(stack: Stack) -> None:
    orchestrator = {n: v for n, v in stack.orchestrator.items() if n != "UNIFIED_API_KEYS"}

    assert orchestrator == stack.worker
    assert Settings.from_env(stack.orchestrator).problems == ()
    # Who runs one elsewhere finds them among the outputs.
    assert stack.worker.items() <= stack.outputs.items()


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

    assert schema(moto, stack.worker["DYNAMODB_TABLE"]) == schema(moto, f"{stack.name}-by-hand")
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
        "TABLE": stack.worker["DYNAMODB_TABLE"],
        "BUCKET": stack.worker["S3_BUCKET"],
    }
    for word, name in words.items():
        text = re.sub(rf"\b{word}\b", name, text)
    expected = json.loads(text)["Statement"]

    granted = stack.policy(f"{role.title()}Role", "tasks")

    # A fleet's machines are started by its Auto Scaling group.
    assert granted == [one for one in expected if one["Sid"] != "OptionalForGpuInstanceId"]


def test_a_worker_has_a_hand_in_its_own_group_metrics_and_log_alone(stack: Stack) -> None:
    group, metrics, log = stack.policy("WorkerRole", "machine")

    assert group["Resource"].endswith(f":autoScalingGroupName/{stack.made['Workers']}")
    assert metrics["Condition"] == {"StringEquals": {"cloudwatch:namespace": stack.name}}
    assert f":log-group:{stack.name}" in log["Resource"]
    used = re.findall(r"aws (autoscaling|cloudwatch) ([a-z-]+)", GUARD.read_text())
    assert {f"{service}:{action.title().replace('-', '')}" for service, action in used} == {
        *group["Action"],
        metrics["Action"],
    }


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
    path = properties("Orchestrators")["HealthCheckPath"]

    client = await orchestrate(**stack.orchestrator)

    async def is_ready() -> bool:
        return bool((await client.get(path)).status == 200)

    assert await until(is_ready)
    assert host_of(Settings.from_env(stack.orchestrator)) == "0.0.0.0"
    assert properties("Orchestrators")["Port"] == PORT
