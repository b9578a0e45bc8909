"""`python -m unified_api.sqs_bridge.doctor`: status 1 if something failed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ...jobs.settings import Settings
from ...jobs.threads import off_loop
from ...workflows import LIBRARY, Catalog
from . import machine
from .account import clock, gpu_instance, identity
from .bucket import orchestrator_bucket, worker_bucket
from .examination import Examination
from .finding import Finding, Level, as_json, as_text, failed, warning, worst
from .machine import Folders
from .queues import orchestrator_queues, worker_queues
from .table import orchestrator_table, worker_table

log = logging.getLogger(__name__)

Check = Callable[[Examination], Awaitable[None]]
#: By what a check is about.
WORKER: dict[str, Check] = {
    "credentials": identity,
    "queue": worker_queues,
    "table": worker_table,
    "bucket": worker_bucket,
    "clock": clock,
}
ORCHESTRATOR: dict[str, Check] = {
    "credentials": identity,
    "queue": orchestrator_queues,
    "table": orchestrator_table,
    "bucket": orchestrator_bucket,
    "GPU instance": gpu_instance,
    "clock": clock,
}


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    # What others log meanwhile the findings tell in better words.
    logging.basicConfig(level=logging.CRITICAL)
    log.setLevel(logging.ERROR)
    checks = {"machine": this_machine, **ORCHESTRATOR}
    if tree := chosen.worker:
        comfyui = partial(this_comfyui, tree, chosen.folders)
        checks = {"machine": this_machine, "ComfyUI": comfyui, **WORKER}
    findings = asyncio.run(examine(Examination(Settings.from_env()), checks))
    sys.stdout.write(as_json(findings) if chosen.json else as_text(findings))
    return int(worst(findings) is Level.FAILED)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m unified_api.sqs_bridge.doctor")
    options.add_argument("--json", action="store_true", help="for programs")
    worker = "the folder of its ComfyUI, to examine a worker instead of an orchestrator"
    options.add_argument("--worker", metavar="FOLDER", type=Path, help=worker)
    told = "where it keeps what, as deploy/comfyui/folders.py prints it"
    options.add_argument("--folders", metavar="JSON", type=Folders.told, help=told)
    return options


async def this_machine(examination: Examination) -> None:
    examination.tell(machine.python(), *machine.settings_given(examination.settings))


async def this_comfyui(tree: Path, told: Folders | None, examination: Examination) -> None:
    if told is None:
        text = f"does not tell its folders, so those in {tree} are looked at"
        examination.tell(warning("ComfyUI", text))
    at = told or Folders.usual(tree)
    examination.tell(*await off_loop(comfyui_findings, tree, at, examination.settings))


def comfyui_findings(tree: Path, at: Folders, settings: Settings) -> list[Finding]:
    own = settings.workflows_dir or at.user / "unified_api" / "workflows"
    of_workflows = machine.workflows(Catalog([LIBRARY, own], settings.models), at)
    return [*machine.comfyui(tree), machine.disk(at, settings), *of_workflows]


async def examine(examination: Examination, checks: Mapping[str, Check]) -> list[Finding]:
    """What all checks find. That one cannot be made is a finding as well."""
    for name, check in checks.items():
        try:
            await check(examination)
        except Exception as error:
            log.exception("a check could not be made")
            examination.tell(failed(name, f"could not be examined: {type(error).__name__}"))
        if examination.is_over:
            break
    return examination.findings


if __name__ == "__main__":
    raise SystemExit(main())
