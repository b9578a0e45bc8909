"""Finding: what is told of one thing that was looked at, to people and to programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum


class Level(str, Enum):
    OK = "ok"
    #: It could not be looked at, or there is nothing to look at. No fault.
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"


LEVELS = list(Level)
LEVEL_WIDTH = max(len(level.value) for level in LEVELS)


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do, a line each. A missing permission names
    itself."""

    level: Level
    subject: str
    text: str
    cure: str | None = None
    action: str | None = None
    resource: str | None = None

    @property
    def is_general(self) -> bool:
        """Whether it would be the same whatever else were asked of the same thing."""
        return self.level is Level.FAILED and self.action is None


def ok(subject: str, text: str) -> Finding:
    return Finding(Level.OK, subject, text)


def skipped(subject: str, text: str) -> Finding:
    return Finding(Level.SKIPPED, subject, text)


def warning(subject: str, text: str, cure: str | None = None) -> Finding:
    return Finding(Level.WARNING, subject, text, cure)


def failed(subject: str, text: str, cure: str | None = None) -> Finding:
    return Finding(Level.FAILED, subject, text, cure)


def worst(findings: Iterable[Finding]) -> Level:
    return max((each.level for each in findings), key=LEVELS.index, default=Level.OK)


def as_json(findings: Sequence[Finding]) -> str:
    told = [{name: value for name, value in asdict(each).items() if value} for each in findings]
    body = {"status": worst(findings).value, "findings": told}
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def as_text(findings: Sequence[Finding]) -> str:
    """In columns, each cure below what it cures, and how many there are of each level."""
    width = max((len(each.subject) for each in findings), default=0)
    counts = Counter(each.level for each in findings)
    total = ", ".join(f"{counts[level]} {level.value}" for level in LEVELS if counts[level])
    return "\n".join([*(_lines(each, width) for each in findings), "", total, ""])


def _lines(finding: Finding, width: int) -> str:
    first = f"{finding.level.value:<{LEVEL_WIDTH}}  {finding.subject:<{width}}  {finding.text}"
    return f"\n{'':<{LEVEL_WIDTH}}  -> ".join([first, *(finding.cure or "").splitlines()])
