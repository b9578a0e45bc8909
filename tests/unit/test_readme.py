"""What README.md names is there, and what is there it names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from unified_api.jobs.settings import Settings
from unified_api.routes.api import API

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
#: What is the same in every language: the blocks of code, and prose without them.
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
#: Of AWS's own tools, which describe it.
NOT_OURS = {"AWS_EC2_METADATA_SERVICE_ENDPOINT"}
#: Read by install.sh, which has no package to judge settings with.
OF_INSTALL = {"COMFYUI_PATH", "COMFYUI_PYTHON", "UNIFIED_API_MAX_QUICK_DEATHS"}


def test_every_setting_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?`) \|", README, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row)}

    settings = {field.alias for field in Settings.model_fields.values() if field.alias}

    assert listed - OF_INSTALL == settings - NOT_OURS


def test_every_request_is_in_the_table() -> None:
    listed = set(re.findall(r"`((?:GET|POST|DELETE) /[^?`]*)", README))

    for route in API:
        path = re.sub(r"\{number:.*\}", "{n}", route.path)
        path = path.replace("{job_id}", "{id}").replace("{slug}", "{workflow}")
        assert f"{route.method} /api/v1{path}" in listed


def test_every_file_it_links_to_is_there() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", README)

    assert linked
    assert all((ROOT / name).is_file() for name in linked)


def test_both_languages_link_to_each_other() -> None:
    assert "](README.zh-CN.md)" in README[:200]
    assert "](README.md)" in CHINESE[:200]


def test_both_languages_have_the_same_blocks_of_code() -> None:
    assert BLOCK.findall(CHINESE) == BLOCK.findall(README)


def test_both_languages_have_the_same_headings() -> None:
    def levels(text: str) -> list[str]:
        return re.findall(r"^#+(?= )", BLOCK.sub("", text), re.MULTILINE)

    assert levels(CHINESE) == levels(README)


def test_both_languages_have_the_same_rows_in_every_table() -> None:
    assert [shape(row) for row in rows(CHINESE)] == [shape(row) for row in rows(README)]


def test_both_languages_name_the_same_things_in_every_section() -> None:
    """Fields, settings, codes, paths: whatever is set in code style."""
    for ours, theirs in zip(sections(CHINESE), sections(README), strict=True):
        assert Counter(CODE.findall(ours)) == Counter(CODE.findall(theirs)), theirs[:60]


def test_both_languages_link_to_the_same_pages() -> None:
    def pages(text: str) -> Counter[str]:
        return Counter(re.findall(r"\]\((?!#|README)([^)]+)\)", text))

    assert pages(CHINESE) == pages(README)


def test_every_link_to_a_section_leads_to_one() -> None:
    for text in (README, CHINESE):
        anchors = {anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def sections(text: str) -> list[str]:
    """The prose below each heading."""
    return re.split(r"^#+ ", BLOCK.sub("", text), flags=re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in BLOCK.sub("", text).splitlines() if line.startswith("|")]
    return [
        re.split(r"(?<!\\)\|", CODE.sub(lambda code: code[0].replace("|", "/"), line))
        for line in lines
    ]


def shape(row: list[str]) -> tuple[int, list[str]]:
    """How many cells, and what the first one names."""
    return len(row), CODE.findall(row[1])


def anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
