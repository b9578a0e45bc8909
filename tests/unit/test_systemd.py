"""The services, as `./install.sh systemd` writes them, and the ways to other versions and back."""

from __future__ import annotations

import os
import re
import shutil
import signal
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
from unified_api.deploy.systemd.installed import our_units, restart
from unified_api.deploy.systemd.uninstall import remove
from unified_api.deploy.systemd.units import orchestrator_unit, worker_unit
from unified_api.jobs.drain import HAND_BACK_SECONDS, LEAVE_SECONDS
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.orchestrator import SHUTDOWN_SECONDS

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("install.sh", "requirements.txt", "README.md")
STUB = """\
echo "$*" >> "{record}"
case "$*" in {fails}) {end};; esac
"""
#: What its Python is asked.
ACCELERATOR, PIP = "*is_available*", "*pip*"
NEVER = "'never'"
#: What lies below `unified_api` in ComfyUI's user folder.
USERS = ("jobs.sqlite3", "keys.json", "workflows/mine/workflow.json", "results/1/0.png")
OLDEST_ANALYZE = 250
#: An exposure from 0 to 100, as `systemd-analyze security` reckons it; 50 and more is "medium".
MOST_EXPOSED = {"comfyui": 55, "unified-api-orchestrator": 20}


class Machine:
    """A pretended machine with a ComfyUI of somebody's, and a clone of ours beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.comfyui = folder / "Comfy UI"
        self.clone = folder / "our clone"
        self.record = folder / "called.txt"
        self.systemctl = folder / "bin" / "systemctl"
        self.told = folder / "told.txt"
        self.units = self.root / "etc" / "systemd" / "system"
        self.settings = self.root / "etc" / "unified-api"
        self.python_folder = self.comfyui / "venv" / "bin"
        self.link = self.comfyui / "custom_nodes" / "unified-api"
        self.link.parent.mkdir(parents=True)
        for name in ("main.py", "nodes.py"):
            (self.comfyui / name).touch()
        self.python(fails=NEVER)
        write_stub(self.systemctl, f'echo "$*" $(/bin/ls "{self.units}") >>"{self.told}"\n')
        self._ship()

    def _ship(self) -> None:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "deploy", self.clone / "deploy", ignore=ignored)
        for name in SHIPPED:
            shutil.copy(ROOT / name, self.clone)

    def python(self, *, fails: str, end: str = "exit 1") -> None:
        stub = STUB.format(record=self.record, fails=fails, end=end)
        write_stub(self.python_folder / "python", stub)

    def install(self, *arguments: str, **environment: str) -> str:
        """What is said, also when it fails."""
        return self.run(*arguments, "--into", str(self.root), **environment).stdout

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        named = {"COMFYUI_PATH": str(self.comfyui), "PWD": str(self.clone)}
        # Services of the machine that the tests run on are none of their business.
        named["PATH"] = f"{self.systemctl.parent}:{os.environ['PATH']}"
        return subprocess.run(
            [self.clone / "install.sh", *arguments],
            env={**os.environ, **named, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def called(self) -> str:
        return self.record.read_text() if self.record.exists() else ""

    def git(self, *arguments: str, at: Path | None = None) -> str:
        me = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgSign=false"]
        call = ["git", *me, "-C", str(at or self.clone), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


def write_stub(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}")
    file.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


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


def test_systemd_waits_for_the_answers_of_an_orchestrator(units: dict[str, Path]) -> None:
    unit = units["unified-api-orchestrator"].read_text()

    assert seconds(unit, "TimeoutStopSec") > SHUTDOWN_SECONDS


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


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: what root leaves to a user")
SOMEBODY, NAMELESS = 65534, 4242424


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


@pytest.fixture
def released(machine: Machine) -> Machine:
    """The clone is of a repository with two releases, and stands at the first."""
    if shutil.which("git") is None:
        pytest.skip("NOT TESTED: upgrade and rollback; install git")
    upstream = machine.clone.with_name("upstream")
    (machine.clone / ".gitignore").write_text(".comfyui/\n__pycache__/\n")
    machine.git("init", "--quiet", "--initial-branch=main")
    machine.git("add", "--all")
    machine.git("commit", "--quiet", "--message=one")
    machine.git("tag", "v1.9.0")
    machine.git("clone", "--quiet", str(machine.clone), str(upstream), at=machine.root.parent)
    machine.git("remote", "add", "origin", str(upstream))
    for version in ("v1.10.0", "v2.0.0-rc1"):
        (upstream / "news.txt").write_text(version)
        machine.git("add", "--all", at=upstream)
        machine.git("commit", "--quiet", f"--message={version}", at=upstream)
        machine.git("tag", version, at=upstream)
    return machine


def version(machine: Machine) -> str:
    return machine.git("describe", "--tags")


def publish(machine: Machine, file: str) -> None:
    """Somebody changes that file of the project."""
    upstream = machine.clone.with_name("upstream")
    with (upstream / file).open("a") as opened:
        opened.write("# newer")
    machine.git("add", "--all", at=upstream)
    machine.git("commit", "--quiet", f"--message={file}", at=upstream)


def test_an_upgrade_takes_the_newest_release_and_its_requirements(released: Machine) -> None:
    done = released.run("upgrade")

    assert done.returncode == 0, done.stdout
    assert version(released) == "v1.10.0"
    assert "pip install" in released.called()
    assert "./install.sh rollback" in done.stdout


def test_an_upgrade_goes_to_any_tag_or_branch(released: Machine) -> None:
    released.run("upgrade", "v1.10.0")
    assert version(released) == "v1.10.0"

    released.run("upgrade", "main")
    assert version(released) == "v2.0.0-rc1"


def test_a_shallow_clone_of_one_branch_goes_to_another(released: Machine) -> None:
    upstream = clone_anew(released)
    released.git("branch", "other", "v1.10.0", at=upstream)

    done = released.run("upgrade", "other")

    assert done.returncode == 0, done.stdout
    assert version(released) == "v1.10.0"


def clone_anew(machine: Machine) -> Path:
    """As a worker's machine does; where from."""
    upstream = machine.clone.with_name("upstream")
    shutil.rmtree(machine.clone)
    shallow = ["clone", "--quiet", "--depth=1", "--branch=main"]
    machine.git(*shallow, upstream.as_uri(), str(machine.clone), at=upstream)
    return upstream


def test_a_shallow_clone_of_what_is_newer_than_all_releases_stays(released: Machine) -> None:
    clone_anew(released)

    said = released.run("upgrade").stdout

    assert "v2.0.0-rc1 already" in said


def test_a_rollback_leads_back_once(released: Machine) -> None:
    released.run("upgrade")

    back, again = released.run("rollback"), released.run("rollback")

    assert back.returncode == 0, back.stdout
    assert version(released) == "v1.9.0"
    assert again.returncode == 1
    assert "nothing to go back to" in again.stdout


def test_what_is_the_users_outlives_upgrade_and_rollback(released: Machine) -> None:
    folders = (released.comfyui / "user", released.clone / ".comfyui" / "base" / "user")
    files = [folder / "unified_api" / name for folder in folders for name in USERS]
    files.append(released.clone / "notes.txt")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file))

    for verb in ("upgrade", "rollback"):
        assert released.run(verb).returncode == 0
        assert all(file.read_text() == str(file) for file in files)


def test_an_upgrade_that_was_killed_goes_on_or_back(released: Machine) -> None:
    released.python(fails=PIP, end="kill -9 $PPID")
    killed = released.run("upgrade")
    released.python(fails=NEVER)
    released.record.unlink()

    on = released.run("upgrade")
    called = released.called()
    back = released.run("rollback")

    assert killed.returncode == -signal.SIGKILL
    assert "v1.10.0 already" in on.stdout
    assert "pip install" in called
    assert back.returncode == 0, back.stdout
    assert version(released) == "v1.9.0"


def test_an_upgrade_to_what_is_there_keeps_the_way_back(released: Machine) -> None:
    released.run("upgrade")

    said = released.run("upgrade").stdout
    released.run("rollback")

    assert "v1.10.0 already" in said
    assert version(released) == "v1.9.0"


def test_an_upgrade_without_its_packages_is_none(released: Machine) -> None:
    released.python(fails=PIP)

    done = released.run("upgrade")

    assert done.returncode == 1
    assert version(released) == "v1.9.0"
    assert "nothing to go back to" in released.run("rollback").stdout


@pytest.mark.parametrize("reason", ["Installing the requirements", "git checkout failed"])
def test_an_upgrade_that_fails_leaves_the_way_back_of_the_last(
    released: Machine, reason: str
) -> None:
    released.run("upgrade")
    publish(released, "more.txt")
    if "git" in reason:
        (released.clone / "more.txt").write_text("of the user's, and in git's way")
    else:
        released.python(fails=PIP)

    failed = released.run("upgrade", "main")
    released.python(fails=NEVER)
    back = released.run("rollback")

    assert failed.returncode == 1
    assert reason in failed.stdout
    assert back.returncode == 0, back.stdout
    assert version(released) == "v1.9.0"


@pytest.mark.parametrize(
    ("file", "is_told"), [("deploy/systemd/comfyui.service", True), ("README.md", False)]
)
def test_units_that_changed_are_told_of(released: Machine, file: str, is_told: bool) -> None:
    publish(released, file)

    there, back = released.run("upgrade", "main"), released.run("rollback")

    assert ["The units changed" in done.stdout for done in (there, back)] == [is_told] * 2


def test_services_of_this_machine_are_told_by_nobody_but_the_stub(released: Machine) -> None:
    here = [unit.stem for unit in our_units(Path("/"))]
    expected = ["try-restart", *here] if here and os.geteuid() == 0 else []

    released.run("upgrade")

    told = released.told.read_text() if released.told.exists() else ""
    assert told.split() == expected


@pytest.mark.parametrize("verb", ["upgrade", "rollback"])
def test_local_changes_are_not_lost(released: Machine, verb: str) -> None:
    changed = released.clone / "README.md"
    changed.write_text("mine")

    done = released.run(verb)

    assert done.returncode == 1
    assert "local changes" in done.stdout
    assert changed.read_text() == "mine"


@needs_root
def test_root_leaves_a_users_clone_alone(released: Machine) -> None:
    os.chown(released.clone, SOMEBODY, SOMEBODY)

    done = released.run("upgrade")

    assert done.returncode == 1
    assert "run this as that user" in done.stdout


@pytest.mark.parametrize("verb", ["upgrade", "rollback"])
def test_without_git_the_way_is_by_hand(machine: Machine, verb: str) -> None:
    done = machine.run(verb)

    assert done.returncode == 1
    assert "no git clone" in done.stdout


def test_an_upgrade_to_nowhere_changes_nothing(released: Machine) -> None:
    done = released.run("upgrade", "v9")

    assert done.returncode == 1
    assert "no tag, branch or commit v9" in done.stdout
    assert version(released) == "v1.9.0"
