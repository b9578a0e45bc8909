"""The template's workers: how many there are, and what their machines do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cloudformation_machine import GUARD, ROUNDS_A_MINUTE, guard, held, install
from cloudformation_stack import Stack, client, create, properties, variables
from emulators import CREDENTIALS, REGION, Emulator
from unified_api.deploy.simulation.world import Policy


@pytest.fixture(scope="session")
def stack(moto: Emulator) -> Stack:
    return create(moto)


# How many workers


def scaled(stack: Stack, **given: int) -> int:
    """How many workers there shall be, after the scaler has looked."""
    with client(stack.emulator, "lambda") as functions:
        told = functions.get_function_configuration(FunctionName=stack.made["Scaler"])
    settings = {**told["Environment"]["Variables"], **given}
    environment = {
        **os.environ,
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": stack.emulator.url,
        "AWS_DEFAULT_REGION": REGION,
        **{name: str(value) for name, value in settings.items()},
    }
    code = f"{properties('Scaler')['Code']['ZipFile']}\nscale({{}}, None)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    with client(stack.emulator, "autoscaling") as groups:
        found = groups.describe_auto_scaling_groups(AutoScalingGroupNames=[stack.made["Workers"]])
    return int(found["AutoScalingGroups"][0]["DesiredCapacity"])


@pytest.mark.parametrize(
    "limits",
    [{}, {"jobs_per_worker": 11}, {"jobs_per_worker": 1, "max_workers": 2}, {"min_workers": 3}],
    ids=["one for ten", "one for all", "no more than the most", "no fewer than the fewest"],
)
def test_there_are_as_many_workers_as_the_simulation_has(
    moto: Emulator, limits: dict[str, int]
) -> None:
    stack = create(moto)
    for queue, jobs in {"Tasks": 7, "HighTasks": 4}.items():
        for _ in range(jobs):
            moto.sqs.send_message(QueueUrl=stack.made[queue], MessageBody="{}")
        moto.sqs.receive_message(QueueUrl=stack.made[queue], MaxNumberOfMessages=3)

    workers = scaled(stack, **{name.upper(): number for name, number in limits.items()})

    assert workers == Policy(**limits).needed(11)


def test_without_jobs_there_are_no_workers(stack: Stack) -> None:
    assert scaled(stack) == 0


def test_the_scaler_may_do_what_it_does(stack: Stack) -> None:
    count, set_number, _ = stack.policy("ScalerRole", "scale")

    queues = [stack.made[queue].rpartition("/")[2] for queue in ("Tasks", "HighTasks")]
    assert [arn.rpartition(":")[2] for arn in count["Resource"]] == queues
    assert set_number["Resource"].endswith(f":autoScalingGroupName/{stack.made['Workers']}")
    called = re.findall(r"\.((?:get|set)_\w+)\(", properties("Scaler")["Code"]["ZipFile"])
    assert {action.title().replace("_", "") for action in called} == {
        one["Action"].partition(":")[2] for one in (count, set_number)
    }


# A worker's machine


def test_a_machine_has_its_guard_before_the_worker_is_installed(
    stack: Stack, tmp_path: Path
) -> None:
    done = install(tmp_path, stack.user_data)

    steps = ["systemctl enable --now worker-guard", "install.sh systemd", "enable --now comfyui"]
    assert [step for call in done for step in steps if step in call] == steps
    unit = (tmp_path / "etc/systemd/system/worker-guard.service").read_text()
    assert f"ExecStart=/opt/unified-api/deploy/aws/{GUARD.name}\n" in unit
    assert os.access(GUARD, os.X_OK)
    assert variables((tmp_path / "etc/unified-api/worker.env").read_text()) == stack.worker


def test_the_guard_is_told_what_it_asks_for(stack: Stack, tmp_path: Path) -> None:
    install(tmp_path, stack.user_data)

    told = variables((tmp_path / "etc/unified-api/guard.env").read_text())
    asked = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b(?=\"| \*)", GUARD.read_text()))
    assert told == {
        "AWS_DEFAULT_REGION": REGION,
        "STACK": stack.name,
        "GROUP": stack.made["Workers"],
        "IDLE_MINUTES": "5",
    }
    assert asked <= told.keys()


def test_the_log_of_a_machine_goes_to_that_of_the_stack(stack: Stack, tmp_path: Path) -> None:
    install(tmp_path, stack.user_data)

    told = (tmp_path / "opt/aws/amazon-cloudwatch-agent/etc/worker.json").read_text()
    (file,) = json.loads(told)["logs"]["logs_collected"]["files"]["collect_list"]
    assert file["log_group_name"] == stack.made["Logs"]


def protection(calls: list[str]) -> list[str]:
    asked = [re.findall(r"--(no-protected|protected)-from-scale-in", call) for call in calls]
    return [word for words in asked for word in words]


def test_a_worker_is_kept_until_it_has_had_no_job_for_a_while(tmp_path: Path) -> None:
    idle = [held(0)] * (ROUNDS_A_MINUTE - 1)

    calls = guard(tmp_path, [held(2), *idle, held(1), *idle, held(0), held(1)])

    assert protection(calls) == ["protected", "no-protected", "protected"]
    assert all("--instance-ids i-1" in call for call in calls if "protected" in call)


def test_a_worker_that_starts_is_kept_as_long(tmp_path: Path) -> None:
    silent = {"metrics": None}

    assert protection(guard(tmp_path, [silent] * ROUNDS_A_MINUTE)) == ["protected"]


def test_a_worker_that_never_answers_is_not_kept(tmp_path: Path) -> None:
    calls = guard(tmp_path, [{"metrics": None}] * (ROUNDS_A_MINUTE + 1))

    assert protection(calls) == ["protected", "no-protected"]


@pytest.mark.parametrize(
    ("moment", "unhealthy"),
    [({}, 0), ({"health": None}, 1), ({"metrics": None}, 1)],
    ids=["healthy", "unhealthy", "guard not let in"],
)
def test_how_a_worker_is_is_told_once_a_minute(
    tmp_path: Path, moment: dict[str, None], unhealthy: int
) -> None:
    calls = guard(tmp_path, [moment] * (ROUNDS_A_MINUTE + 1))

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
    *_, stop, complete = guard(tmp_path, moments)

    hook = properties("Drain")["LifecycleHookName"]
    assert stop == "systemctl stop comfyui"
    assert "complete-lifecycle-action" in complete
    assert f"--lifecycle-hook-name {hook} " in complete
