"""The doctor: whether this machine has all that its role needs, and what to do where it has not.

`python -m unified_api.sqs_bridge.doctor` examines an orchestrator; `--worker FOLDER` a worker, by
the folder of its ComfyUI. Exits with status 1 if something failed. No task is touched.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from ..jobs import doctor as machine
from ..jobs.doctor import Finding, Level, failed, ok, warning
from ..jobs.settings import Settings
from ..workflows import LIBRARY, Catalog
from .aws import AwsFailed
from .bucket_check import orchestrator_bucket, worker_bucket
from .patient import Patient, call
from .probe import UNREACHABLE, Probe, trouble_of
from .queue_check import orchestrator_queues, worker_queues
from .table_check import orchestrator_table, worker_table

log = logging.getLogger(__name__)

Check = Callable[[Patient], AsyncIterator[Finding]]


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m unified_api.sqs_bridge.doctor")
    options.add_argument("--json", action="store_true", help="for programs")
    options.add_argument("--worker", metavar="FOLDER", type=Path, help="the folder of ComfyUI")
    options.add_argument("--base-directory", metavar="DIR", type=Path, help="as ComfyUI is given")
    chosen = options.parse_args()
    # What is logged meanwhile the findings tell in better words.
    logging.basicConfig(level=logging.CRITICAL)
    patient = Patient(Settings.from_env(), chosen.worker, chosen.base_directory or chosen.worker)
    findings = asyncio.run(examine(patient, WORKER if chosen.worker else ORCHESTRATOR))
    sys.stdout.write(as_json(findings) if chosen.json else as_text(findings))
    raise SystemExit(int(machine.worst(findings) is Level.FAILED))


async def examine(patient: Patient, checks: Sequence[Check]) -> list[Finding]:
    """What all checks find. That one cannot be made is a finding as well."""
    findings: list[Finding] = []
    for check in checks:
        try:
            async for finding in check(patient):
                findings.append(finding)
        except Exception as error:
            log.exception("a check could not be made")
            name = check.__name__.replace("_", " ")
            findings.append(failed(name, f"could not be examined: {type(error).__name__}"))
    return findings


def as_json(findings: Sequence[Finding]) -> str:
    status = machine.worst(findings).value
    body = {"status": status, "findings": [finding.as_json() for finding in findings]}
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def as_text(findings: Sequence[Finding]) -> str:
    counts = {level.value: sum(each.level is level for each in findings) for level in Level}
    total = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return "\n".join([*map(str, findings), "", total, ""])


async def machine_itself(patient: Patient) -> AsyncIterator[Finding]:
    yield machine.python()
    for finding in machine.settings_given(patient.settings):
        yield finding


async def comfyui(patient: Patient) -> AsyncIterator[Finding]:
    assert patient.tree is not None
    for finding in machine.comfyui(patient.tree):
        yield finding


async def disk_and_workflows(patient: Patient) -> AsyncIterator[Finding]:
    assert patient.tree is not None
    assert patient.base is not None
    folders = {name: patient.base / name for name in ("output", "input", "user")}
    yield machine.disk(folders, patient.settings)
    own = patient.settings.workflows_dir or folders["user"] / "unified_api" / "workflows"
    catalog = Catalog([LIBRARY, own], patient.settings.models)
    for finding in machine.workflows(catalog, patient.tree, patient.base / "models"):
        yield finding


async def identity(patient: Patient) -> AsyncIterator[Finding]:
    """Whom AWS takes us for. Everybody may ask that."""
    if not (patient.settings.queue_url or patient.settings.read_buckets):
        return
    async with patient.aws("sts") as sts:
        try:
            answer = await patient.examiner.ask(call(sts, "get_caller_identity"))
        except AwsFailed as failure:
            trouble = trouble_of(failure)
            # Without a way to STS all else may work.
            level = warning if trouble is UNREACHABLE else failed
            yield level("credentials", f"asking STS: {trouble.text}", trouble.cure)
            return
    patient.know(answer["Arn"])
    yield ok("credentials", f"are those of {answer['Arn']}")


async def gpu_instance(patient: Patient) -> AsyncIterator[Finding]:
    instance_id = patient.settings.gpu_instance_id
    if instance_id is None:
        return
    async with patient.aws("ec2") as ec2:
        use = call(ec2, "start_instances", InstanceIds=[instance_id], DryRun=True)
        probe = Probe(
            "ec2:StartInstances",
            patient.names.instance(instance_id),
            use,
            allowed_by=frozenset({"DryRunOperation"}),
            level=Level.WARNING,
            without="it has to be started by hand",
        )
        yield await patient.examiner.examine(probe)


async def clock(patient: Patient) -> AsyncIterator[Finding]:
    """Last, when somebody has told the time."""
    yield patient.examiner.clock


WORKER: tuple[Check, ...] = (
    machine_itself,
    comfyui,
    disk_and_workflows,
    identity,
    worker_queues,
    worker_table,
    worker_bucket,
    clock,
)
ORCHESTRATOR: tuple[Check, ...] = (
    machine_itself,
    identity,
    orchestrator_queues,
    orchestrator_table,
    orchestrator_bucket,
    gpu_instance,
    clock,
)


if __name__ == "__main__":
    main()
