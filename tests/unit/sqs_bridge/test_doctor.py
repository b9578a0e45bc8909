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
from unified_api.deploy.comfyui.doctor import FOLDERS, variables_in
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
    Folders,
    comfyui,
    disk,
    python,
    settings_given,
    workflows,
)
from unified_api.sqs_bridge.doctor.probe import Probe
from unified_api.workflows import LIBRARY, Catalog

ROOT = Path(__file__).resolve().parents[3]
TOLD = "User: x is not authorized to perform: {} on resource: {} because no policy allows it"
#: As much of ComfyUI as tells where it keeps what.
HOST = {
    "comfy/options.py": "may_parse = []\ndef enable_args_parsing(): may_parse.append(True)",
    "comfy/cli_args.py": """
import argparse, comfy.options
parser = argparse.ArgumentParser()
for name in ("base", "output", "input", "user"):
    parser.add_argument(f"--{name}-directory")
parser.add_argument("--extra-model-paths-config", nargs="+", action="append")
args = parser.parse_args(None if comfy.options.may_parse else [])
""",
    "folder_paths.py": """
import os
from comfy.cli_args import args
base = args.base_directory or os.path.dirname(__file__)
models_dir = os.path.join(base, "models")
folder_names_and_paths = {}
def get_output_directory(): return os.path.join(base, "output")
def get_input_directory(): return os.path.join(base, "input")
def get_user_directory(): return os.path.join(base, "user")
try:
    os.makedirs(get_input_directory())
except OSError:
    print("something else is printed before")
""",
    "utils/extra_config.py": """
import folder_paths, pathlib
def load_extra_path_config(file):
    for folder in pathlib.Path(pathlib.Path(file).read_text()).iterdir():
        folder_paths.folder_names_and_paths[folder.name] = ([str(folder)], set())
""",
}
#: What of the clone the command needs.
NEEDED = ("__init__.py", "pyproject.toml", "requirements.txt", "install.sh")
ROOMS = ("deploy", "jobs", "routes", "sqs_bridge", "workflows")
KEY = "arn:aws:kms:us-east-1:1:key/2"


def comfyui_of(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    for name in ("main.py", "nodes.py"):
        (folder / name).touch()
    for name, text in HOST.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
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
    me = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgSign=false"]
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

    assert disk(Folders.usual(tmp_path), settings).level is level


def of_workflow(slug: str, at: Folders) -> Finding:
    findings = workflows(Catalog([LIBRARY]), at)
    (found,) = (each for each in findings if each.subject == f"workflow {slug}")
    return found


def test_missing_models_are_told_with_the_folder_they_go_to(tmp_path: Path) -> None:
    found = of_workflow("qwen-image-edit", Folders.usual(tmp_path))

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

    assert of_workflow("camera-angle", Folders.usual(tmp_path)).level is Level.OK


def told_folders(tree: Path, *options: str) -> Folders:
    """What the ComfyUI in a folder tells."""
    call = [sys.executable, "-B", str(FOLDERS), *options]
    done = subprocess.run(call, cwd=tree, capture_output=True, text=True, check=True)
    return Folders.told(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["unasked", "by an option"])
def test_models_are_looked_for_where_comfyui_looks(tmp_path: Path, way: str) -> None:
    elsewhere = tmp_path / "shared"
    put_models("camera-angle", elsewhere)
    tree = comfyui_of(tmp_path / "ComfyUI", "0.30.0")
    file = (tree if way == "unasked" else tmp_path) / "extra_model_paths.yaml"
    file.write_text(str(elsewhere))
    options = [] if way == "unasked" else ["--extra-model-paths-config", str(file)]

    assert of_workflow("camera-angle", told_folders(tree, *options)).level is Level.OK


def test_the_folders_that_comfyui_is_given_are_its_folders(tmp_path: Path) -> None:
    tree, base = comfyui_of(tmp_path / "ComfyUI", "0.30.0"), tmp_path / "base"

    at = told_folders(tree, "--base-directory", str(base), "--user-directory", "mine")

    assert at == Folders(base / "output", base / "input", tree / "mine", base / "models", {})


def test_comfyui_makes_no_folder_when_it_is_asked_for_them(tmp_path: Path) -> None:
    tree = comfyui_of(tmp_path, "0.30.0")

    told_folders(tree)

    assert not (tree / "input").exists()


def test_a_definition_that_is_broken_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "workflow.json").write_text("{")

    findings = workflows(Catalog([tmp_path]), Folders.usual(tmp_path))

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


def test_a_quote_that_is_not_closed_is_told_without_what_may_be_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text('S3_BUCKET=b\nUNIFIED_API_KEYS="secret\n')

    with pytest.raises(Failure, match=r"^UNIFIED_API_KEYS in .* No closing quotation") as failure:
        variables_in(str(file))

    assert "secret" not in str(failure.value)


def test_a_file_of_settings_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.env cannot be read"):
        variables_in(str(tmp_path / "none.env"))


class Machine:
    """A clone of ours, and a ComfyUI that runs on this Python, without queue and bucket."""

    def __init__(self, folder: Path) -> None:
        self.tree = comfyui_of(folder / "ComfyUI", "0.30.0")
        self.clone = folder / "clone"
        self.env_file = folder / "machine.env"
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "SQS_", "S3_", "UNIFIED_API_"))
        }
        self.variables |= {"COMFYUI_PATH": str(self.tree), "COMFYUI_PYTHON": sys.executable}
        for name in ROOMS:
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / name, self.clone / name, ignore=ignored)
        for name in NEEDED:
            shutil.copy(ROOT / name, self.clone)

    def examine(self, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """With settings as systemd has them."""
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        call = [self.clone / "install.sh", "doctor", "--env-file", self.env_file, *options]
        return subprocess.run(
            call, env=self.variables, capture_output=True, text=True, check=False, timeout=60
        )

    def install_orchestrator(self) -> None:
        """As far as the doctor sees it."""
        (self.clone / ".comfyui").mkdir()
        (self.clone / ".comfyui" / "venv").symlink_to(sys.prefix)


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def levels(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {each["subject"]: each["level"] for each in json.loads(done.stdout)["findings"]}


def test_a_worker_is_examined_on_the_python_of_its_comfyui(box: Machine) -> None:
    done = box.examine("--json")

    found = levels(done)
    assert (done.returncode, done.stderr) == (0, "")
    assert found["ComfyUI"] == "ok"
    assert found["workflow image-resize"] == "ok"
    assert found["bucket"] == found["queue"] == "skipped"


def test_the_settings_of_a_file_count(box: Machine) -> None:
    done = box.examine(UNIFIED_API_PORT="many")

    assert done.returncode == 1
    assert re.search(r"failed +settings +UNIFIED_API_PORT", done.stdout)


def test_the_options_that_a_file_has_for_comfyui_count(box: Machine, tmp_path: Path) -> None:
    base = tmp_path / "the base"
    put_models("camera-angle", base / "models")

    without, done = (
        box.examine("--json"),
        box.examine("--json", COMFYUI_OPTIONS=f'--base-directory "{base}"'),
    )

    assert levels(without)["workflow camera-angle"] == "warning"
    assert levels(done)["workflow camera-angle"] == "ok"


def test_options_that_comfyui_does_not_know_are_told(box: Machine) -> None:
    done = box.examine(COMFYUI_OPTIONS="--fast-forward")

    assert re.search(r"warning +ComfyUI +does not tell its folders", done.stdout)
    assert "unrecognized arguments: --fast-forward" in done.stderr


def test_an_orchestrator_is_examined_on_its_own_python(box: Machine) -> None:
    box.install_orchestrator()
    box.variables |= {"COMFYUI_PATH": "/none", "COMFYUI_PYTHON": "/none"}

    found = levels(box.examine("--json", "--orchestrator"))

    assert found["Python"] == "ok"
    assert found["queue"] == "failed"
    assert "ComfyUI" not in found


def test_without_an_orchestrator_the_way_to_one_is_told(box: Machine) -> None:
    done = box.examine("--orchestrator")

    assert done.returncode == 1
    assert "./install.sh systemd --only orchestrator" in done.stderr


def test_why_a_check_could_not_be_made_is_told_beside_the_findings(box: Machine) -> None:
    no_url = {"AWS_ENDPOINT_URL_SQS": "nonsense", "AWS_ENDPOINT_URL_STS": "nonsense"}
    queue = {"SQS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/tasks"}

    done = box.examine("--json", **no_url, **queue)

    assert levels(done)["queue"] == "failed"
    assert "Invalid endpoint: nonsense" in done.stderr


def examined_with_python(
    box: Machine, folder: Path, script: str
) -> subprocess.CompletedProcess[str]:
    """Where ComfyUI's Python is a shell script, which prints the packages that it lacks."""
    python = folder / "bare"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    box.variables["COMFYUI_PYTHON"] = str(python)
    return box.examine()


def test_a_python_without_our_packages_is_told(box: Machine, tmp_path: Path) -> None:
    done = examined_with_python(box, tmp_path, "echo boto3")

    assert done.returncode == 1
    assert "lacks boto3: run ./install.sh to install them." in done.stderr


def test_a_package_that_can_be_done_without_is_not_missed(box: Machine, tmp_path: Path) -> None:
    echo_isal_if_asked = 'for name; do [ "$name" != isal ] || echo isal; done'

    done = examined_with_python(box, tmp_path, echo_isal_if_asked)

    assert "lacks" not in done.stderr


def test_an_option_that_is_unknown_is_told_in_a_sentence() -> None:
    with pytest.raises(Failure, match="--fast"):
        main(["doctor", "--fast"])
