"""deploy/cloudformation.yaml as data, and made by an emulator as far as that goes."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from cfnlint.decode import decode
from emulators import CREDENTIALS, REGION, Emulator

FILE = Path(__file__).parents[2] / "deploy" / "cloudformation.yaml"
#: What the emulator cannot make, and the name that it would give the CDN.
UNKNOWN = {
    "AWS::AutoScaling::LifecycleHook",
    "AWS::CloudFront::Distribution",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CloudWatch::Alarm",
    "AWS::S3::BucketPolicy",
}
CDN = "cdn.example"
#: What has no default, as far as it can be made up. The hash is that of "secret".
PARAMETERS = {
    "OrchestratorImage": "registry.example/orchestrator:1",
    "ApiKeys": "ci:submit+read:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
    "WorkerImage": "ami-0123456789abcdef0",
    "SourceUrl": "https://git.example/plugin",
    "SourceRef": "0123456789abcdef0123456789abcdef01234567",
}


@cache
def template() -> dict[str, Any]:
    """With each short form, as !Ref, in its long one."""
    found, problems = decode(str(FILE))
    assert not problems
    return dict(json.loads(json.dumps(found)))


def properties(name: str) -> dict[str, Any]:
    """Of a resource."""
    return dict(template()["Resources"][name]["Properties"])


@dataclass(frozen=True)
class Stack:
    """What CloudFormation has made. `made` tells its names by those in the template."""

    name: str
    outputs: dict[str, str]
    made: dict[str, str]
    emulator: Emulator

    @property
    def orchestrator(self) -> dict[str, str]:
        """The environment of an orchestrator."""
        family = self.made["OrchestratorTask"]
        with client(self.emulator, "ecs") as ecs:
            task = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        (container,) = task["containerDefinitions"]
        return {one["name"]: one["value"] for one in container["environment"]}

    @property
    def worker(self) -> dict[str, str]:
        """The environment that a worker's machine is told."""
        return variables(embedded("SETTINGS", self.user_data))

    @property
    def user_data(self) -> str:
        """What a worker's machine does first."""
        with client(self.emulator, "ec2") as ec2:
            told = ec2.describe_launch_template_versions(
                LaunchTemplateId=self.made["WorkerTemplate"]
            )
        (version,) = told["LaunchTemplateVersions"]
        return b64decode(version["LaunchTemplateData"]["UserData"]).decode()

    def policy(self, role: str, name: str) -> list[dict[str, Any]]:
        """The statements of one of a role's own policies."""
        with client(self.emulator, "iam") as iam:
            found = iam.get_role_policy(RoleName=self.made[role], PolicyName=name)
        # The emulator gives back what it was given, as Python spells it.
        return list(literal_eval(found["PolicyDocument"])["Statement"])


def embedded(name: str, text: str) -> str:
    """A file that a script writes, by the word that ends it."""
    (found,) = re.findall(rf"<<'{name}'\n(.*?)^{name}$", text, re.DOTALL | re.MULTILINE)
    return str(found)


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def create(emulator: Emulator) -> Stack:
    """A stack of all that the emulator can make."""
    name = f"fleet-{uuid4().hex[:8]}"
    given = {**PARAMETERS, **network(emulator)}
    with client(emulator, "cloudformation") as cloudformation:
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=json.dumps(known(template())),
            Parameters=[{"ParameterKey": key, "ParameterValue": given[key]} for key in given],
            Capabilities=["CAPABILITY_IAM"],
        )
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        made = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return Stack(
        name,
        {output["Description"]: output["OutputValue"] for output in stack["Outputs"]},
        {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in made},
        emulator,
    )


def known(whole: dict[str, Any]) -> dict[str, Any]:
    """Without what the emulator cannot make."""
    domain = json.dumps({"Fn::GetAtt": ["Cdn", "DomainName"]})
    text = json.dumps(whole).replace(domain, json.dumps(CDN)).replace("${Cdn.DomainName}", CDN)
    found: dict[str, Any] = json.loads(text)
    resources = found["Resources"].items()
    return {**found, "Resources": {n: one for n, one in resources if one["Type"] not in UNKNOWN}}


def network(emulator: Emulator) -> dict[str, str]:
    """The parameters that name one; it is made."""
    with client(emulator, "ec2") as ec2:
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"{REGION}{zone}"
            )["Subnet"]["SubnetId"]
            for number, zone in enumerate("ab")
        ]
    return {"VpcId": vpc, "SubnetIds": ",".join(subnets)}


@contextmanager
def client(emulator: Emulator, service: str) -> Iterator[Any]:
    names = {name.lower(): value for name, value in CREDENTIALS.items()}
    made = boto3.client(service, region_name=REGION, endpoint_url=emulator.url, **names)
    try:
        yield made
    finally:
        made.close()
