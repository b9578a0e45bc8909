"""The services, as `./install.sh systemd` writes them, and how they are removed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from unified_api.deploy.comfyui.places import ComfyUI
from unified_api.deploy.comfyui.report import Failure
from unified_api.deploy.systemd.environment import settings_file
from unified_api.deploy.systemd.installed import restart
from unified_api.deploy.systemd.uninstall import remove
from unified_api.deploy.systemd.units import orchestrator_unit, worker_unit
from unified_api.jobs.drain import HAND_BACK_SECONDS, LEAVE_SECONDS
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.orchestrator import SHUTDOWN_SECONDS

from .machine import ACCELERATOR, ROOT, SOMEBODY, Machine, needs_root

OLDEST_ANALYZE = 250
#: An exposure from 0 to 100, as `systemd-analyze security` reckons it; 50 and more is "medium".
MOST_EXPOSED = {"comfyui": 55, "unified-api-orchestrator": 20}


def lines_of(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def seconds(unit: str, key: str) -> float:
    return float(lines_of(unit, key)[0])


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """Both, for what is on this machine."""
    tree = tmp_path / "Comfy UI"
    (tree / "output").mkdir(parents=True)
    python = Path(sys.executable)
    texts = {
        "comfyui": worker_unit(ComfyUI(tree, python)),
        "unified-api-orchestrator": orchestrator_unit(python),
    }
    files = {name: tmp_path / f"{name}.service" for name in texts}
    for name, file in files.items():
        file.write_text(texts[name])
    return files


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None or version_of(found) < OLDEST_ANALYZE:
        pytest.skip(f"NOT TESTED: the units; they need systemd-analyze {OLDEST_ANALYZE} or newer")
    return found


def version_of(analyze: str) -> int:
    """It says `systemd 252 (...)`."""
    said = subprocess.run([analyze, "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[1])


def test_systemd_understands_every_line_of_the_units(analyze: str, units: dict[str, Path]) -> None:
    for file in units.values():
        call = [analyze, "verify", "--recursive-errors=no", "--man=no", str(file)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)

        assert (done.returncode, done.stderr) == (0, "")


def test_the_services_are_shut_in(analyze: str, units: dict[str, Path]) -> None:
    for name, file in units.items():
        limit = f"--threshold={MOST_EXPOSED[name]}"
        call = [analyze, "security", "--offline=yes", "--no-pager", limit, str(file)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout[-1000:] + done.stderr


def test_systemd_waits_for_a_drain(units: dict[str, Path]) -> None:
    unit = units["comfyui"].read_text()
    longest = Settings().drain_seconds + HAND_BACK_SECONDS + LEAVE_SECONDS

    assert seconds(unit, "TimeoutStopSec") > longest
    assert lines_of(unit, "KillMode") == ["mixed"]
    assert lines_of(unit, "Restart") == ["always"]


def test_systemd_gives_up_on_what_cannot_start_but_not_on_what_jobs_kill(
    units: dict[str, Path],
) -> None:
    unit = units["comfyui"].read_text()
    cannot_start_seconds, killed_seconds = 10, 30

    starts, within = seconds(unit, "StartLimitBurst"), seconds(unit, "StartLimitIntervalSec")

    assert seconds(unit, "RestartSec") < cannot_start_seconds < within / starts <= killed_seconds


def test_systemd_waits_for_the_answers_of_an_orchestrator(units: dict[str, Path]) -> None:
    unit = units["unified-api-orchestrator"].read_text()

    assert seconds(unit, "TimeoutStopSec") > SHUTDOWN_SECONDS


def test_what_the_services_write_is_for_their_user_alone(units: dict[str, Path]) -> None:
    guard = ROOT / "deploy" / "aws" / "worker-guard.service"

    for file in (*units.values(), guard):
        assert lines_of(file.read_text(), "UMask") == ["0077"], file.name


def test_the_gpu_stays_within_reach_of_comfyui(units: dict[str, Path]) -> None:
    unit = units["comfyui"].read_text()

    for closed in ("PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDeny"):
        assert f"\n{closed}" not in unit


def test_what_the_units_set_are_settings_and_logs_go_to_the_journal(units: dict[str, Path]) -> None:
    known = {field.alias for field in Settings.model_fields.values()}

    for file in units.values():
        lines = " ".join(lines_of(file.read_text(), "Environment"))
        given = dict(re.findall(r"(UNIFIED_API_\w+)=(\S+)", lines))
        settings = Settings.from_env(given)

        assert given.keys() <= known
        assert (settings.log, settings.problems) == ("journal", ())


def test_results_may_go_to_another_disk(tmp_path: Path) -> None:
    disk, tree = tmp_path / "disk", tmp_path / "ComfyUI"
    for folder in (disk, tree / "models"):
        folder.mkdir(parents=True)
    (tree / "output").symlink_to(disk)

    unit = worker_unit(ComfyUI(tree, Path("/venv/bin/python")))

    assert lines_of(unit, "ReadWritePaths") == [f'"{tree}" "{disk}"']


def test_the_environment_file_has_every_setting_and_nothing_of_it_counts() -> None:
    text = settings_file("ComfyUI", "comfyui")

    commented = re.findall(r"^#([A-Z]\w+)=", text, re.MULTILINE)

    assert sorted(commented) == sorted(f.alias for f in Settings.model_fields.values() if f.alias)
    assert all(line.startswith("#") for line in text.splitlines() if line)


def test_the_environment_file_tells_the_defaults() -> None:
    text = settings_file("ComfyUI", "comfyui")
    told = dict(re.findall(r"^#([A-Z]\w+)=(.*)$", text, re.MULTILINE))

    read = Settings.from_env(told)

    assert read.model_dump() == Settings().model_dump()
    numbers = (int, float)
    for name, field in Settings.model_fields.items():
        if field.alias and isinstance(getattr(read, name), numbers):
            assert told[field.alias], f"{field.alias} has a default that can be written"


def test_the_environment_file_says_one_line_on_each_setting() -> None:
    lines = settings_file("ComfyUI", "comfyui").splitlines()

    for above, line in pairwise(lines):
        if re.match(r"#[A-Z]\w+=", line):
            assert above.startswith("# ")
            assert len(above) > len("# x")


def test_one_command_writes_the_services_and_says_how_they_are_started(machine: Machine) -> None:
    said = machine.install("--systemd", "--only", "worker")

    unit = (machine.units / "comfyui.service").read_text()
    python, tree = machine.comfyui / "venv" / "bin" / "python", machine.comfyui
    launcher = machine.clone / "deploy" / "comfyui" / "launch.py"
    assert lines_of(unit, "ExecStart") == [
        f'"{python}" "{launcher}" "{tree}" --listen 127.0.0.1 $COMFYUI_OPTIONS'
    ]
    assert lines_of(unit, "User") == [tree.owner()]
    assert machine.link.resolve() == machine.clone
    assert "systemctl daemon-reload && systemctl enable --now comfyui" in said


def test_settings_that_are_there_stay_as_they_are(machine: Machine) -> None:
    machine.install("systemd", "--only", "worker")
    file = machine.settings / "worker.env"
    file.write_text("S3_BUCKET=mine\n")

    said = machine.install("systemd", "--only", "worker")

    assert file.read_text() == "S3_BUCKET=mine\n"
    assert f"{file} (there already" in said


def test_settings_are_for_their_owner_alone(machine: Machine) -> None:
    machine.install("systemd", "--only", "worker")

    assert (machine.settings / "worker.env").stat().st_mode & 0o077 == 0


def test_a_machine_without_a_gpu_is_told_to_comfyui(machine: Machine) -> None:
    machine.python(fails=ACCELERATOR)

    machine.install("systemd", "--only", "worker")

    settings = (machine.settings / "worker.env").read_text()
    assert "\nCOMFYUI_OPTIONS=--cpu --use-pytorch-cross-attention\n" in settings


#: There is no such user.
NAMELESS = 4242424


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Everybody can look in, and somebody may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.chown(folder, SOMEBODY, SOMEBODY)
        yield folder


@needs_root
def test_root_fills_a_users_python_as_that_user(open_folder: Path) -> None:
    machine = Machine(open_folder)
    os.chown(machine.python_folder, SOMEBODY, SOMEBODY)

    said = machine.install("systemd", "--only", "worker")

    assert "pip install" in machine.called(), said
    assert machine.record.stat().st_uid == SOMEBODY


@needs_root
def test_a_user_whom_pip_is_closed_to_is_told(machine: Machine) -> None:
    os.chown(machine.python_folder, SOMEBODY, SOMEBODY)

    done = machine.run()

    assert done.returncode == 1
    assert "Permission denied" in done.stdout
    assert "Traceback" not in done.stdout


@needs_root
def test_root_leaves_the_packages_to_the_user_of_a_clone(machine: Machine) -> None:
    os.chown(machine.clone, SOMEBODY, SOMEBODY)

    said = machine.install("systemd", "--only", "worker")

    assert "pip install" not in machine.called()
    assert "who runs ./install.sh" in said


@needs_root
def test_a_user_without_a_name_starts_no_service(tmp_path: Path) -> None:
    os.chown(tmp_path, NAMELESS, NAMELESS)

    with pytest.raises(Failure, match=f"belongs to user {NAMELESS}, who has no name"):
        worker_unit(ComfyUI(tmp_path, Path("/venv/bin/python")))


def test_a_service_of_somebody_elses_is_not_overwritten(machine: Machine) -> None:
    machine.units.mkdir(parents=True)
    theirs = machine.units / "comfyui.service"
    theirs.write_text("[Service]\nExecStart=/theirs\n")

    done = machine.run("systemd", "--only", "worker", "--into", str(machine.root))

    assert done.returncode == 1
    assert "move it away" in done.stdout
    assert theirs.read_text() == "[Service]\nExecStart=/theirs\n"


def test_an_orchestrator_that_could_not_read_its_code_is_not_written(machine: Machine) -> None:
    machine.clone.chmod(0o700)

    done = machine.run("systemd", "--only", "orchestrator", "--into", str(machine.root))

    assert done.returncode == 1
    assert f"to whom {machine.clone} is closed" in done.stdout
    assert not machine.units.exists()


def test_a_name_that_systemd_would_read_otherwise_is_refused(machine: Machine) -> None:
    machine.clone = machine.clone.rename(machine.clone.with_name("100% ours"))

    said = machine.install("systemd", "--only", "worker")

    assert "systemd cannot be told of" in said
    assert not machine.units.exists()


def test_uninstalling_leaves_comfyui_as_it_was_and_the_users_data(machine: Machine) -> None:
    before = sorted(machine.comfyui.rglob("*"))
    machine.install("systemd", "--only", "worker")
    data = machine.comfyui / "user" / "unified_api"
    data.mkdir(parents=True)

    said = machine.install("uninstall")

    assert sorted(machine.comfyui.rglob("*")) == sorted([*before, data.parent, data])
    assert list(machine.units.iterdir()) == []
    for stays in (machine.settings / "worker.env").parent, data, machine.clone:
        assert f"\n  {stays}  (" in said


def test_uninstalling_finds_comfyui_by_the_service(machine: Machine) -> None:
    machine.install("systemd", "--only", "worker")

    machine.install("uninstall", COMFYUI_PATH="")

    assert not machine.link.is_symlink()


def test_uninstalling_needs_no_comfyui(machine: Machine) -> None:
    machine.install("systemd", "--only", "worker")
    shutil.rmtree(machine.comfyui)

    said = machine.install("uninstall", COMFYUI_PATH="")

    assert list(machine.units.iterdir()) == []
    assert "Traceback" not in said


def test_uninstalling_leaves_a_service_of_somebody_elses(machine: Machine) -> None:
    machine.units.mkdir(parents=True)
    theirs = machine.units / "comfyui.service"
    theirs.write_text("[Service]\nExecStart=/theirs\n")

    machine.install("uninstall")

    assert theirs.exists()


@pytest.fixture
def unit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that is written, on a machine whose systemctl records what units there are."""
    machine.install("systemd", "--only", "worker")
    monkeypatch.setenv("PATH", str(machine.systemctl.parent))
    return machine.units / "comfyui.service"


def test_services_are_ended_before_they_are_removed(machine: Machine, unit: Path) -> None:
    remove([unit], is_running=True)

    ended, reloaded = machine.told.read_text().splitlines()
    assert ended == "disable --now comfyui.service comfyui.service"
    assert reloaded == "daemon-reload"


@pytest.mark.usefixtures("unit")
def test_whoever_may_starts_the_services_with_another_version(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for who in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda who=who: who)
        restart(machine.root)

    assert machine.told.read_text() == "try-restart comfyui comfyui.service\n"
    assert "sudo systemctl restart comfyui" in capsys.readouterr().out
