"""deploy/cloudformation.yaml as data, and the part of it that an emulator can create."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from cfnlint.decode import decode
from emulators import CREDENTIALS, REGION, Emulator
from unified_api.jobs.settings import Settings

FILE = Path(__file__).parents[2] / "deploy" / "cloudformation.yaml"
#: What jobs travel through. The emulator knows no CDN, no scaling policy and no lifecycle hook.
DATA_PLANE = ("Bucket", "Tasks", "HighTasks", "Table", "WorkerRole", "OrchestratorRole")
#: What has no default, as far as it can be made up.
PARAMETERS = {
    "OrchestratorImage": "registry.example/orchestrator:1",
    "ApiKeys": f"ci:submit+read:{'0' * 64}",
    "WorkerImage": "ami-0123456789abcdef0",
    "VpcId": "vpc-0123456789abcdef0",
    "SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
}
VARIABLES = {field.alias for field in Settings.model_fields.values() if field.alias}


@cache
def template() -> dict[str, Any]:
    """With each short form, as !Ref, in its long one."""
    found, problems = decode(str(FILE))
    assert not problems
    return dict(json.loads(json.dumps(found)))


def properties(name: str) -> dict[str, Any]:
    """Of a resource."""
    return dict(template()["Resources"][name]["Properties"])


def settings_told(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Variable -> what stands for its value, of the outputs that are settings."""
    told = {output["Description"]: output for output in outputs.values()}
    return {name: told[name] for name in told if name in VARIABLES}


@dataclass(frozen=True)
class Stack:
    """What CloudFormation has made. `made` tells its names by those in the template."""

    name: str
    settings: dict[str, str]
    made: dict[str, str]
    emulator: Emulator

    def policy(self, role: str, name: str) -> list[dict[str, Any]]:
        """The statements of one of a role's own policies."""
        with client(self.emulator, "iam") as iam:
            found = iam.get_role_policy(RoleName=self.made[role], PolicyName=name)
        # The emulator gives back what it was given, as Python spells it.
        return list(literal_eval(found["PolicyDocument"])["Statement"])


def create(emulator: Emulator) -> Stack:
    """A stack of the data plane, and of what it refers to."""
    name = f"fleet-{uuid4().hex[:8]}"
    with client(emulator, "cloudformation") as cloudformation:
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=json.dumps(part(template(), DATA_PLANE)),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": PARAMETERS[key]} for key in PARAMETERS
            ],
            Capabilities=["CAPABILITY_IAM"],
        )
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        made = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = settings_told({output["OutputKey"]: output for output in stack["Outputs"]})
    return Stack(
        name,
        {variable: output["OutputValue"] for variable, output in outputs.items()},
        {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in made},
        emulator,
    )


def part(whole: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """The resources that are wanted, those they need, and the outputs that need no others."""
    resources, kept, todo = whole["Resources"], {}, list(wanted)
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = resources[name]
            todo += references(resources[name]) & resources.keys()
    left_out = resources.keys() - kept.keys()
    outputs = {k: v for k, v in whole["Outputs"].items() if not references(v) & left_out}
    return {**whole, "Resources": kept, "Outputs": outputs}


def references(value: Any) -> set[str]:
    """What it refers to: resources, parameters."""
    return set(re.findall(r'(?:"Ref": "|"Fn::GetAtt": \["|\$\{)(\w+)', json.dumps(value)))


@contextmanager
def client(emulator: Emulator, service: str) -> Iterator[Any]:
    names = {name.lower(): value for name, value in CREDENTIALS.items()}
    made = boto3.client(service, region_name=REGION, endpoint_url=emulator.url, **names)
    try:
        yield made
    finally:
        made.close()
