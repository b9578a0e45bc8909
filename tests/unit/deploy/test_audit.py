"""The look for known vulnerabilities: what it finds, and what it says when it can find nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from unified_api.deploy.comfyui.audit import Verdict, audited, installed_with, verdict_on
from unified_api.deploy.comfyui.checks import Result, beside_pytest, report
from unified_api.deploy.comfyui.report import Failure

HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"], "description": "..."}
CLEAN: dict[str, Any] = {"name": "aiohttp", "version": "3.0", "vulns": []}
BROKEN = {"name": "pillow", "version": "1.0", "vulns": [HOLE]}
UNKNOWN = {"name": "isal", "skip_reason": "Dependency not found"}


def judged(*dependencies: dict[str, Any]) -> Verdict:
    return verdict_on(json.dumps({"dependencies": dependencies, "fixes": []}))


def test_packages_without_a_known_vulnerability_are_clean() -> None:
    assert judged(CLEAN) == Verdict(())


def test_a_vulnerability_is_a_failure_that_says_what_to_take() -> None:
    verdict = judged(CLEAN, BROKEN)

    assert verdict == Verdict(("pillow 1.0: PYSEC-1, fixed in 2.0",), is_failed=True)


@pytest.mark.parametrize("output", ["", "no connection", "[]", "{}", "null"])
def test_a_service_out_of_reach_is_said_and_is_no_failure(output: str) -> None:
    verdict = verdict_on(output)

    (line,) = verdict.lines
    assert line.startswith("NOT TESTED: known vulnerabilities")
    assert not verdict.is_failed


def test_a_service_that_knows_no_package_has_tested_nothing() -> None:
    (line,) = judged(UNKNOWN, {**UNKNOWN, "name": "boto3"}).lines

    assert line.startswith("NOT TESTED: known vulnerabilities of the packages")


def test_packages_that_the_service_does_not_know_are_named_beside_the_others() -> None:
    verdict = judged(BROKEN, UNKNOWN)

    assert verdict.is_failed
    assert "of isal:" in verdict.lines[-1]


def test_a_tool_that_cannot_be_installed_is_said_and_is_no_failure() -> None:
    def tool() -> Path:
        raise Failure("Check the network.")

    (line,) = audited({"aiohttp": "3.0"}, tool=tool).lines

    assert line.startswith("NOT TESTED")
    assert "Check the network." in line


def test_a_tool_that_breaks_is_said_and_is_no_failure() -> None:
    """This Python has no pip-audit."""
    verdict = audited({"aiohttp": "3.0"}, tool=lambda: Path(sys.executable))

    assert verdict.lines[0].startswith("NOT TESTED")
    assert not verdict.is_failed


def test_what_requirements_lead_to_is_looked_at_too() -> None:
    found = installed_with(["boto3>=1.36", "no-such-package>=1"])

    assert {"boto3", "botocore", "urllib3"} <= found.keys()
    assert "no-such-package" not in found


@pytest.mark.parametrize(
    ("arguments", "is_there"),
    [([], False), (["--full"], True), (["--full", "--part", "2/4"], False)],
)
def test_it_is_in_the_full_run_once(arguments: list[str], is_there: bool) -> None:
    python = Path(sys.executable)
    beside = beside_pytest(python, arguments, oldest=lambda: python, tools=lambda: None)

    assert ("pip-audit" in {check.name for check in beside}) == is_there


def test_the_report_repeats_what_could_not_be_tested(capsys: pytest.CaptureFixture[str]) -> None:
    status = report([Result("pip-audit", 1.0, output="NOT TESTED: holes: no service.\n")], 1.0)

    assert status == 0
    assert "NOT TESTED: holes: no service." in capsys.readouterr().out.splitlines()
