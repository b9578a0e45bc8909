"""What README.md names is there, and what is there it names."""

from __future__ import annotations

import re
from pathlib import Path

from unified_api.jobs.settings import Settings
from unified_api.routes.api import API

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
#: Of AWS's own tools, which describe it.
NOT_OURS = {"AWS_EC2_METADATA_SERVICE_ENDPOINT"}


def test_every_setting_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?`) \|", README, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row)}

    settings = {field.alias for field in Settings.model_fields.values() if field.alias}

    assert listed - {"COMFYUI_PATH", "COMFYUI_PYTHON"} == settings - NOT_OURS


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
