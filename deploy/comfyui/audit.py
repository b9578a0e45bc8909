"""`python -m deploy.comfyui.audit`: known vulnerabilities of what the plugin installs.

The exit status is 1 if there are any. What cannot be found out, for want of the tool or of its
data, is said in a line that begins with NOT TESTED, and is no failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from .places import AUDIT_VENV, REQUIREMENTS
from .provide import install_once, own_python, package
from .report import Failure, say

PIP_AUDIT = "pip-audit==2.10.1"
#: One request for each package, with pauses where the service wants them.
AUDIT_SECONDS = 180
UNTESTED = "NOT TESTED: known vulnerabilities of {what}: {why}."
#: What a requirement says of itself for its extras, which nobody asked for.
OF_EXTRAS = re.compile(r"extra\s*==")


class Verdict(NamedTuple):
    """What is said, line by line, and whether something is wrong."""

    lines: tuple[str, ...]
    is_failed: bool = False

    @classmethod
    def untested(cls, why: str, what: str = "the packages") -> Verdict:
        return cls((UNTESTED.format(what=what, why=why),))


def main() -> int:
    verdict = audited(installed_with(REQUIREMENTS.read_text(encoding="utf-8").splitlines()))
    for line in verdict.lines:
        say(line)
    return int(verdict.is_failed)


def installed_with(requirements: Sequence[str]) -> dict[str, str]:
    """Package -> version of these and of all that they need, as they are installed here."""
    found: dict[str, str] = {}
    waiting = [package(line) for line in requirements]
    while waiting:
        name = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            # For another platform or Python.
            continue
        if name not in found:
            found[name] = distribution.version
            needed = distribution.requires or ()
            waiting += [package(line) for line in needed if not OF_EXTRAS.search(line)]
    return found


def audited(packages: dict[str, str], *, tool: Callable[[], Path] | None = None) -> Verdict:
    try:
        python = (tool or pip_audit)()
    except Failure as failure:
        return Verdict.untested(f"pip-audit cannot be installed ({failure})")
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "packages.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        call = [str(python), "-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json"]
        call += ["--progress-spinner", "off", "--requirement", str(listed)]
        try:
            done = subprocess.run(
                call, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Verdict.untested("the vulnerability service does not answer")
    return verdict_on(done.stdout)


def pip_audit() -> Path:
    """The Python that has it: one of its own, since it must not change what it looks at."""
    python = own_python(AUDIT_VENV)
    install_once(python, "pip-audit", PIP_AUDIT)
    return python


def verdict_on(output: str) -> Verdict:
    """Of what pip-audit prints; without a service it prints nothing."""
    try:
        audited = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict.untested("the vulnerability service cannot be reached")
    lines = tuple(line for each in audited for line in vulnerabilities(each))
    # A registry that only mirrors packages knows nothing of them: that is no clean bill of health.
    unknown = [each["name"] for each in audited if "skip_reason" in each]
    if unknown:
        what = "the packages" if len(unknown) == len(audited) else ", ".join(unknown)
        lines += Verdict.untested("the vulnerability service does not know them", what).lines
    return Verdict(lines, any("vulns" in each and each["vulns"] for each in audited))


def vulnerabilities(audited: dict[str, Any]) -> list[str]:
    return [
        f"{audited['name']} {audited['version']}: {each['id']}, fixed in"
        f" {', '.join(each['fix_versions']) or 'no version yet'}"
        for each in audited.get("vulns", ())
    ]


if __name__ == "__main__":
    sys.exit(main())
