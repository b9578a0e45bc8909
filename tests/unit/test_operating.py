"""What docs/operating.md names is there, and what an operator can meet it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from unified_api.deploy.comfyui.__main__ import HELP
from unified_api.jobs.errors import JobFailed
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge import holding, reaper

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
TEMPLATE = (ROOT / "deploy" / "cloudformation.yaml").read_text(encoding="utf-8")
METRICS = (ROOT / "jobs" / "metrics.py").read_text(encoding="utf-8")
#: What a reader would set. COMFYUI_PATH and COMFYUI_PYTHON are install.sh's own.
VARIABLE = re.compile(r"\b(?!COMFYUI_P)[A-Z0-9]+(?:_[A-Z0-9]+)+\b")
#: Words in capitals for what is the reader's own.
STAND_INS = {"URL_OF_THIS_REPOSITORY", "ARN_OF_DEAD", "ARN_OF_QUEUE", "IMPORT_FAILED"}


def test_every_code_of_a_failed_job_is_explained() -> None:
    # What is imported here is what there is.
    assert {reaper.Lost, holding.NoTask} < set(kinds_of(JobFailed))
    ours = [kind for kind in kinds_of(JobFailed) if kind.__module__.startswith("unified_api.")]
    codes = {kind.code for kind in ours} - {JobFailed.code}

    explained = CHAPTER.partition("## Codes")[2]
    assert {code for code in codes if f"`{code}`" not in explained} == set()


def test_every_alarm_of_the_template_is_explained() -> None:
    alarm = re.compile(r"^  (\w+):\n    Type: AWS::CloudWatch::Alarm$", re.MULTILINE)

    alarms = alarm.findall(TEMPLATE)

    assert alarms
    assert [name for name in alarms if f"\n| `{name}` |" not in CHAPTER] == []


def test_every_setting_it_names_is_one() -> None:
    settings = {field.alias for field in Settings.model_fields.values()}

    assert set(VARIABLE.findall(CHAPTER)) - settings <= STAND_INS


def test_every_metric_it_names_is_one() -> None:
    named = set(re.findall(r"`(?:\w+\()?(unified_api_\w+)", CHAPTER))

    assert named
    assert {name for name in named if name.removesuffix("_total") not in METRICS} == set()


def test_every_command_it_names_is_one() -> None:
    named = set(re.findall(r"\./install\.sh ([a-z]+)", CHAPTER))

    assert {verb for verb in named if f"./install.sh {verb} " not in HELP} == set()


def test_every_place_it_links_to_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", CHAPTER)

    for name, heading in linked:
        file = ROOT / "docs" / (name or "operating.md")
        assert file.is_file()
        assert not heading or heading in map(anchor, headings(file))


def kinds_of(kind: type[JobFailed]) -> Iterator[type[JobFailed]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from kinds_of(narrower)


def headings(file: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
