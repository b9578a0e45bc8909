"""What the doctor tells of a machine without asking anybody, and how it is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from unified_api.deploy.comfyui.__main__ import main
from unified_api.deploy.comfyui.doctor import variables_in
from unified_api.deploy.comfyui.report import Failure
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.aws import AwsFailed
from unified_api.sqs_bridge.doctor.__main__ import examine
from unified_api.sqs_bridge.doctor.examination import Examination
from unified_api.sqs_bridge.doctor.finding import (
    Finding,
    Level,
    as_json,
    as_text,
    failed,
    ok,
    skipped,
    warning,
    worst,
)
from unified_api.sqs_bridge.doctor.machine import (
    comfyui,
    disk,
    python,
    settings_given,
    workflows,
)
from unified_api.sqs_bridge.doctor.probe import Probe
from unified_api.workflows import LIBRARY, Catalog

TOLD = "User: x is not authorized to perform: {} on resource: {} because no policy allows it"
#: As much of ComfyUI as tells where it looks for models.
HOST = {
    "comfy/options.py": "def enable_args_parsing(): pass",
    "folder_paths.py": "folder_names_and_paths = {}",
    "utils/extra_config.py": """
import folder_paths, pathlib
def load_extra_path_config(file):
    for folder in pathlib.Path(pathlib.Path(file).read_text()).iterdir():
        folder_paths.folder_names_and_paths[folder.name] = ([str(folder)], set())
print("something else is printed before")
""",
}
KEY = "arn:aws:kms:us-east-1:1:key/2"


def comfyui_of(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    for name in ("main.py", "nodes.py"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("0.3.63", Level.FAILED),
        ("0.3.64", Level.OK),
        ("0.16.3", Level.OK),
        ("0.30.0", Level.OK),
        ("0.31.0", Level.WARNING),
    ],
)
def test_the_version_of_comfyui_is_judged(tmp_path: Path, version: str, level: Level) -> None:
    first, *_ = comfyui(comfyui_of(tmp_path, version))

    assert first.level is level
    assert version in first.text


@pytest.mark.parametrize(("version", "is_limited"), [("0.26.0", True), ("0.30.0", False)])
def test_what_is_known_of_a_version_is_told(tmp_path: Path, version: str, is_limited: bool) -> None:
    findings = list(comfyui(comfyui_of(tmp_path, version)))

    assert any("LoadImage reads any picture" in each.text for each in findings) is is_limited


def test_a_folder_that_is_no_comfyui_is_told(tmp_path: Path) -> None:
    (only,) = comfyui(tmp_path)

    assert only.level is Level.FAILED
    assert "COMFYUI_PATH" in (only.cure or "")


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_code_of_comfyui_that_was_changed_is_told(tmp_path: Path) -> None:
    tree = comfyui_of(tmp_path, "0.30.0")
    me = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for call in (["init", "-q"], ["add", "."], [*me, "commit", "-qm", "all"]):
        subprocess.run(["git", *call], cwd=tree, check=True)

    *_, untouched = comfyui(tree)
    (tree / "nodes.py").write_text("patched = True\n")
    *_, changed = comfyui(tree)

    assert untouched.level is Level.OK
    assert changed.level is Level.WARNING
    assert changed.text.endswith("nodes.py")


def test_the_python_that_this_runs_on_will_do() -> None:
    assert python().level is Level.OK


def test_a_setting_that_cannot_be_used_is_told() -> None:
    (only,) = settings_given(Settings.from_env({"UNIFIED_API_PORT": "many"}))

    assert only.level is Level.FAILED
    assert only.text.startswith("UNIFIED_API_PORT")


@pytest.mark.parametrize(("wanted", "level"), [("1", Level.OK), (str(2**60), Level.FAILED)])
def test_room_on_the_disk_is_looked_for(tmp_path: Path, wanted: str, level: Level) -> None:
    settings = Settings.from_env({"UNIFIED_API_MIN_FREE_BYTES": wanted})

    assert disk(tmp_path, settings).level is level


def of_workflow(slug: str, tree: Path) -> Finding:
    findings = workflows(Catalog([LIBRARY]), tree, tree)
    (found,) = (each for each in findings if each.subject == f"workflow {slug}")
    return found


def test_missing_models_are_told_with_the_folder_they_go_to(tmp_path: Path) -> None:
    found = of_workflow("qwen-image-edit", tmp_path)

    assert found.level is Level.WARNING
    assert found.text.endswith(str(tmp_path / "models"))
    assert (found.cure or "").startswith("Add checkpoints/")


def put_models(slug: str, folder: Path) -> None:
    workflow = Catalog([LIBRARY]).workflows[slug]
    for slot in workflow.models.values():
        name = workflow.graph[slot.binding.node]["inputs"][slot.binding.input]
        file = folder / slot.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_models_that_are_there_are_found(tmp_path: Path) -> None:
    put_models("camera-angle", tmp_path / "models")

    assert of_workflow("camera-angle", tmp_path).level is Level.OK


def test_models_are_looked_for_where_comfyui_looks(tmp_path: Path) -> None:
    elsewhere = tmp_path / "shared"
    put_models("camera-angle", elsewhere)
    tree = comfyui_of(tmp_path / "ComfyUI", "0.30.0")
    for name, text in HOST.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    (tree / "extra_model_paths.yaml").write_text(str(elsewhere))

    assert of_workflow("camera-angle", tree).level is Level.OK


def test_a_definition_that_is_broken_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "workflow.json").write_text("{")

    findings = workflows(Catalog([tmp_path]), tmp_path, tmp_path)

    assert (Level.FAILED, "workflow mine") in {(each.level, each.subject) for each in findings}


def refusal(code: str, message: str = "", status: int = 403) -> AwsFailed:
    metadata = {"HTTPStatusCode": status}
    error = ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "PutObject"
    )
    return AwsFailed("s3", error)


def found_for(failure: AwsFailed) -> Finding:
    async def never() -> None: ...

    return Probe("s3:PutObject", "arn:aws:s3:::b/*", never).judged(failure)


def test_a_key_that_may_not_be_used_is_named_instead() -> None:
    found = found_for(refusal("AccessDenied", TOLD.format("kms:GenerateDataKey", KEY)))

    assert (found.action, found.resource) == ("kms:GenerateDataKey", KEY)
    assert found.cure == f"Allow kms:GenerateDataKey on {KEY} in the policy of this role."


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (refusal("NoSuchBucket", status=404), "does not exist"),
        (refusal("PermanentRedirect", status=301), "another region"),
        (refusal("ExpiredToken", status=400), "credentials do not count"),
        (refusal("RequestTimeTooSkewed"), "clock"),
        (refusal("Unheard-of", "and secret"), "Unheard-of"),
        (AwsFailed("s3", EndpointConnectionError(endpoint_url="http://s3")), "cannot be reached"),
    ],
)
def test_what_is_no_missing_permission_is_told_apart(failure: AwsFailed, words: str) -> None:
    found = found_for(failure)

    assert found.level is Level.FAILED
    assert found.action is None
    assert words in found.text
    assert "secret" not in f"{found}"


async def test_a_check_that_breaks_is_a_finding_and_stops_no_other() -> None:
    async def breaks(examination: Examination) -> None:
        examination.tell(ok("first", "found"))
        raise ZeroDivisionError("with a secret")

    async def goes_on(examination: Examination) -> None:
        examination.tell(ok("last", "found"))

    checks = {"queue": breaks, "table": goes_on}
    findings = await examine(Examination(Settings.from_env({})), checks)

    assert [each.subject for each in findings] == ["first", "queue", "last"]
    assert findings[1].text == "could not be examined: ZeroDivisionError"


def test_the_worst_finding_is_the_state_of_all() -> None:
    assert worst([]) is Level.OK
    assert worst([ok("a", ""), warning("b", ""), skipped("c", "")]) is Level.WARNING
    assert worst([failed("a", ""), warning("b", "")]) is Level.FAILED


def test_people_get_lines_and_programs_the_same_as_data() -> None:
    findings = [ok("one", "fine"), failed("b", "bad", "Do this.\nAnd that.")]

    assert as_text(findings).splitlines() == [
        "ok       one  fine",
        "failed   b    bad",
        "         -> Do this.",
        "         -> And that.",
        "",
        "1 ok, 1 failed",
    ]
    assert json.loads(as_json(findings)) == {
        "status": "failed",
        "findings": [
            {"level": "ok", "subject": "one", "text": "fine"},
            {"level": "failed", "subject": "b", "text": "bad", "cure": "Do this.\nAnd that."},
        ],
    }


def test_settings_are_read_from_a_file_as_systemd_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text(
        "# one\n; two\n\nS3_BUCKET=b\n UNIFIED_API_MODELS=\"a.b=c d, e\"\nEMPTY=\nX='y'\n"
    )

    assert variables_in(str(file)) == {
        "S3_BUCKET": "b",
        "UNIFIED_API_MODELS": "a.b=c d, e",
        "EMPTY": "",
        "X": "y",
    }


def test_a_file_of_settings_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.env cannot be read"):
        variables_in(str(tmp_path / "none.env"))


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ComfyUI that runs on this Python, without queue and bucket."""
    tree = comfyui_of(tmp_path / "ComfyUI", "0.30.0")
    for name in [name for name in os.environ if name.startswith(("AWS_", "SQS_", "S3_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COMFYUI_PATH", str(tree))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    return tree


def test_a_worker_is_examined_on_the_python_of_its_comfyui(
    worker: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = main(["doctor", "--json"])

    told = json.loads(capfd.readouterr().out)
    found = {each["subject"]: each["level"] for each in told["findings"]}
    assert status == 0
    assert found["ComfyUI"] == "ok"
    assert found["workflow image-resize"] == "ok"
    assert found["bucket"] == found["queue"] == "skipped"


def test_the_settings_of_a_file_count(
    worker: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "worker.env"
    file.write_text("UNIFIED_API_PORT=many\n")

    status = main(["doctor", "--env-file", str(file)])

    assert status == 1
    assert re.search(r"failed +settings +UNIFIED_API_PORT", capfd.readouterr().out)


def test_a_python_without_our_packages_is_told(
    worker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho boto3\n")
    bare.chmod(0o755)
    monkeypatch.setenv("COMFYUI_PYTHON", str(bare))

    with pytest.raises(Failure, match=r"lacks boto3: run \./install\.sh"):
        main(["doctor"])


def test_an_option_that_is_unknown_is_told_in_a_sentence() -> None:
    with pytest.raises(Failure, match="--fast"):
        main(["doctor", "--fast"])
