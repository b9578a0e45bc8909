"""The environment files: every setting, commented out, as the README's table tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..comfyui.places import ROOT

SECTION = re.compile(r"^## Settings$(.*?)^\| \*\*`install\.sh`\*\*", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (.+?) \|(.*?)\|(.*?)\|$", re.MULTILINE)
HEADING = re.compile(r"\*\*(.+)\*\*")
NAME = re.compile(r"`([A-Z0-9_]+)`")
LINK = re.compile(r"\[(.+?)\]\(.+?\)")
#: A default that can be written down; others are words about one.
VALUE = re.compile(r"(?!(?:off|none)$)([\w./-]+)(?: \(off\))?")
INTRODUCTION = """\
# The settings of {who}. Take away the # of a line to change it; then
# systemctl restart {unit}
# AWS credentials come from the role of the machine, or from AWS_ACCESS_KEY_ID and
# AWS_SECRET_ACCESS_KEY in this file.
"""
#: What AWS's own documentation describes, and the README does not.
BESIDE = """
# -- AWS's own
# where EC2's metadata service answers
#AWS_EC2_METADATA_SERVICE_ENDPOINT=http://169.254.169.254
"""


def settings_file(who: str, unit: str, *, first: str = "") -> str:
    """What it says on the day it is made; from then on it is the user's."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    introduction = INTRODUCTION.format(who=who, unit=unit)
    return "".join([introduction, first, "\n", *entries(readme), BESIDE])


def entries(readme: str) -> Iterator[str]:
    """The table's rows: a heading, or a setting with its meaning and its default."""
    table = SECTION.search(readme)
    assert table, "README.md has a table of settings"
    for first, default, meaning in ROW.findall(table[1]):
        if heading := HEADING.fullmatch(first):
            yield f"\n# -- {heading[1]}\n"
        names = NAME.findall(first)
        each = default.split(",") if len(names) > 1 else [default]
        yield from (entry(name, own, meaning) for name, own in zip(names, each, strict=False))


def entry(name: str, default: str, meaning: str) -> str:
    meaning, default = plain(meaning), plain(default)
    if value := VALUE.fullmatch(default):
        return f"# {meaning}\n#{name}={value[1]}\n"
    return f"# {meaning} (default: {default})\n#{name}=\n"


def plain(markdown: str) -> str:
    return LINK.sub(r"\1", markdown).replace("`", "").strip()
