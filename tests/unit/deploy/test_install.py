"""The install command, as a user calls it, on pretended installations of ComfyUI."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from unified_api.deploy.comfyui.node import OLDEST_NODE, PACKAGE_FILES

from tests.common.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
STUB = """#!/bin/sh
echo "$0 $*" >> "{record}"
"""


class Machine:
    """A ComfyUI with a clone of ours in its custom_nodes, and Pythons that only record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.comfyui = folder / "Comfy UI"
        self.clone = self.comfyui / "custom_nodes" / "our plugin-main"
        self.record = folder / "called.txt"
        self._copy_ourselves()
        for name in ("main.py", "nodes.py"):
            (self.comfyui / name).touch()

    def _copy_ourselves(self) -> None:
        self.clone.mkdir(parents=True)
        shutil.copytree(ROOT / "deploy", self.clone / "deploy")
        shutil.copy(ROOT / "install.sh", self.clone)
        shutil.copy(ROOT / "requirements.txt", self.clone)

    def python(self, place: str) -> Path:
        stub = self.folder / place
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(STUB.format(record=self.record))
        stub.chmod(0o755)
        return stub

    def run(
        self,
        *arguments: str,
        script: Path | None = None,
        cwd: Path | None = None,
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        ours = {"COMFYUI_PATH", "COMFYUI_PYTHON", "VIRTUAL_ENV"}
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return subprocess.run(
            [script or self.clone / "install.sh", *arguments],
            cwd=cwd or self.folder,
            env={**inherited, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> str:
        return self.record.read_text() if self.record.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_help_names_every_verb_and_variable(machine: Machine) -> None:
    done = machine.run("--help")

    assert done.returncode == 0
    for verb in ("demo", "demo --aws", "serve", "test", "help"):
        assert verb in done.stdout
    for variable in ("COMFYUI_PATH", "COMFYUI_PYTHON", "UNIFIED_API_MAX_QUICK_DEATHS"):
        assert variable in done.stdout


def test_an_unknown_verb_is_refused_with_a_way_on(machine: Machine) -> None:
    done = machine.run("instal")

    assert done.returncode == 1
    assert "'instal'" in done.stderr
    assert "--help" in done.stderr


def test_outside_a_comfyui_it_names_three_ways_on(machine: Machine) -> None:
    lonely = machine.folder / "a lonely-clone"
    machine.clone.rename(lonely)

    done = machine.run(script=lonely / "install.sh")

    assert done.returncode == 1
    for way in ("custom_nodes", "COMFYUI_PATH", "./install.sh demo"):
        assert way in done.stderr


def test_each_python_is_preferred_to_all_that_follow(machine: Machine) -> None:
    pythons = [
        machine.python("named/python"),
        machine.python("Comfy UI/venv/bin/python"),
        machine.python("Comfy UI/.venv/bin/python"),
        machine.python("python_embeded/python.exe"),
        machine.python("active/bin/python"),
    ]
    variables = {
        "COMFYUI_PYTHON": str(pythons[0]),
        "VIRTUAL_ENV": str(machine.folder / "active"),
    }

    for python in pythons:
        done = machine.run(variables=variables)
        variables.pop("COMFYUI_PYTHON", None)
        assert done.returncode == 0, done.stderr
        assert machine.called().startswith(f"{python} -m pip install")
        machine.record.unlink()
        python.unlink()


def test_requirements_go_into_that_python(machine: Machine) -> None:
    machine.python("Comfy UI/venv/bin/python")

    done = machine.run()

    assert machine.called().rstrip().endswith(f"--requirement {machine.clone}/requirements.txt")
    assert "Start ComfyUI again" in done.stdout


def test_serving_names_every_page_and_starts_comfyui(machine: Machine) -> None:
    machine.python("Comfy UI/venv/bin/python")

    done = machine.run("serve", "--port", str(free_port()))

    assert done.returncode == 0, done.stderr
    for path in ("/api/v1", "/api/v1/docs", "/api/v1/dashboard", "/health", "/"):
        assert re.search(rf"http://127\.0\.0\.1:\d+{path}$", done.stdout, re.MULTILINE)
    assert "--base-directory" in machine.called()


def test_a_comfyui_without_a_python_is_told_how_to_name_one(machine: Machine) -> None:
    done = machine.run()

    assert done.returncode == 1
    assert "COMFYUI_PYTHON" in done.stderr


def test_a_named_comfyui_may_be_relative_to_where_the_user_stands(machine: Machine) -> None:
    lonely = machine.folder / "lonely"
    machine.clone.rename(lonely)
    python = machine.python("Comfy UI/venv/bin/python")

    done = machine.run(script=lonely / "install.sh", variables={"COMFYUI_PATH": "Comfy UI"})

    assert done.returncode == 0, done.stderr
    assert machine.called().startswith(str(python))
    assert f'ln -s "{lonely}"' in done.stdout


def test_a_named_folder_that_is_no_comfyui_is_refused_by_name(machine: Machine) -> None:
    done = machine.run(variables={"COMFYUI_PATH": "nowhere"})

    assert done.returncode == 1
    assert f"COMFYUI_PATH names no ComfyUI: there is no main.py in {machine.folder}/nowhere" in (
        done.stderr
    )


def test_a_clone_linked_into_custom_nodes_stands_in_that_comfyui(machine: Machine) -> None:
    elsewhere = machine.folder / "elsewhere"
    machine.clone.rename(elsewhere)
    machine.clone.symlink_to(elsewhere)
    python = machine.python("Comfy UI/venv/bin/python")

    machine.run(cwd=machine.clone, script=machine.clone / "install.sh")

    assert machine.called().startswith(str(python))


def test_a_link_to_the_script_leads_to_its_clone(machine: Machine) -> None:
    python = machine.python("Comfy UI/venv/bin/python")
    link = machine.folder / "bin" / "install unified"
    link.parent.mkdir()
    link.symlink_to(os.path.relpath(machine.clone / "install.sh", link.parent))

    machine.run(script=link)

    assert machine.called().startswith(str(python))


def test_a_failed_installation_ends_with_what_to_do(machine: Machine) -> None:
    python = machine.python("Comfy UI/venv/bin/python")
    python.write_text("#!/bin/sh\necho 'No module named pip'\nexit 1\n")

    done = machine.run()

    assert done.returncode == 1
    assert "No module named pip" in done.stderr
    assert "run again" in done.stderr


APT = """#!/bin/sh
echo "apt-get $*" >> "{record}"
case "$*" in {case}) {then};; esac
"""


def provide_programs(
    machine: Machine, *, then: str, case: str = "install*", may_install: bool = True
) -> str:
    """What is said where a Chromium is missing, and there is an apt-get that does as it is told."""
    apt = machine.python("bin/apt-get")
    chromium = apt.with_name("chromium")
    then = then.replace("CHROMIUM", f'echo >"{chromium}"; /bin/chmod 755 "{chromium}"')
    apt.write_text(APT.format(record=machine.record, case=case, then=then))
    script = (
        "from deploy.comfyui import programs; programs.PROGRAMS = programs.PROGRAMS[:1];"
        f"programs.provide_programs(may_install={may_install})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=machine.clone,
        env={**os.environ, "PATH": str(apt.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_root_gets_the_chromium_of_debian_once(machine: Machine) -> None:
    said = provide_programs(machine, then="CHROMIUM")
    again = provide_programs(machine, then="exit 1")

    assert "Installing chromium, for the tests" in said
    assert "NOT TESTED" not in said + again
    assert machine.called().splitlines() == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends chromium",
    ]


def test_others_are_told_what_is_not_tested_and_how_to_mend_it(machine: Machine) -> None:
    said = provide_programs(machine, then="CHROMIUM", may_install=False)

    assert said.startswith("NOT TESTED: the web pages")
    assert "apt-get install chromium" in said
    assert machine.called() == ""


@pytest.mark.parametrize("case", ["update", "install*"])
def test_a_chromium_that_cannot_be_had_stops_nothing(machine: Machine, case: str) -> None:
    said = provide_programs(machine, then="echo no such package; exit 100", case=case)

    assert "no such package" in said
    assert "NOT TESTED: the web pages" in said


NPM = """#!/bin/sh
echo "npm $*" >> "{record}"
{then}
"""


def page_tools(machine: Machine, *, node: str = "v18.19.0", then: str = "") -> str:
    """The folder of the tools, or what is said, where a Node of this version is."""
    web = machine.clone / "tests" / "web"
    web.mkdir(parents=True, exist_ok=True)
    for name in PACKAGE_FILES:
        shutil.copy(ROOT / "tests" / "web" / name, web)
    npm = machine.python("bin/npm")
    npm.write_text(NPM.format(record=machine.record, then=then))
    machine.python("bin/node").write_text(f"#!/bin/sh\necho {node}\n")
    done = subprocess.run(
        [sys.executable, "-c", "from deploy.comfyui import node; print(node.page_tools())"],
        cwd=machine.clone,
        env={**os.environ, "PATH": str(npm.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_tools_for_the_pages_are_installed_once_and_outside_what_git_keeps(
    machine: Machine,
) -> None:
    first, again = page_tools(machine), page_tools(machine)

    folder = machine.clone / ".comfyui" / "node"
    assert first.splitlines()[-1] == again.strip() == str(folder / "node_modules")
    (call,) = machine.called().splitlines()
    assert call.startswith(f"npm ci --prefix {folder} --ignore-scripts ")
    assert all("typescript" in (folder / name).read_text() for name in PACKAGE_FILES)


def test_an_installation_of_the_tools_that_failed_is_tried_again(machine: Machine) -> None:
    said = page_tools(machine, then="exit 1")
    again = page_tools(machine)

    assert "Check the network" in said
    assert "NOT TESTED: types and style" in said
    assert said.strip().endswith("None")
    assert again.strip().endswith("node_modules")
    assert machine.called().count("npm ci") == 2


@pytest.mark.parametrize(("node", "is_new_enough"), [("v12.22.9", False), ("v18.19.0", True)])
def test_a_node_that_is_too_old_for_the_tools_is_left_alone(
    machine: Machine, node: str, is_new_enough: bool
) -> None:
    said = page_tools(machine, node=node)

    assert (said.strip() != "None", machine.called() != "") == (is_new_enough, is_new_enough)


def test_the_versions_of_the_tools_are_exact() -> None:
    package = json.loads((ROOT / "tests" / "web" / "package.json").read_text())

    assert all(re.fullmatch(r"[\d.]+", version) for version in package["devDependencies"].values())
    assert package["engines"] == {"node": f">={'.'.join(map(str, OLDEST_NODE))}"}


def test_all_that_the_tools_lead_to_is_known_by_its_hash_from_whatever_registry() -> None:
    lock = json.loads((ROOT / "tests" / "web" / "package-lock.json").read_text())
    package = json.loads((ROOT / "tests" / "web" / "package.json").read_text())
    itself = lock["packages"].pop("")

    assert itself["devDependencies"] == package["devDependencies"]
    assert all(each["integrity"].startswith("sha512-") for each in lock["packages"].values())
    assert not any("resolved" in each for each in lock["packages"].values())


def test_every_requirement_has_a_lower_bound_at_least() -> None:
    """Without one, pip is content with whatever old version is there."""
    files = [ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]
    lines = [Requirement(line) for file in files for line in file.read_text().splitlines()]

    unbound = [line.name for line in lines if not lower_bounds(line)]

    assert unbound == []


def lower_bounds(requirement: Requirement) -> list[str]:
    return [each.version for each in requirement.specifier if each.operator in {">=", "==", "~="}]


def test_requirements_equal_the_dependencies_of_the_package() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", pyproject, re.DOTALL | re.MULTILINE)
    assert listed is not None

    dependencies = re.findall(r'"(.+?)"', listed[1])

    assert dependencies == (ROOT / "requirements.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("python", "version", "machine_name", "is_asked_for"),
    [
        ("CPython", "3.10", "x86_64", True),
        ("CPython", "3.14", "AMD64", True),
        ("CPython", "3.12", "aarch64", True),
        ("CPython", "3.13", "arm64", True),
        ("CPython", "3.12", "ARM64", False),
        ("CPython", "3.12", "riscv64", False),
        ("CPython", "3.16", "x86_64", False),
        ("PyPy", "3.11", "x86_64", False),
    ],
)
def test_isal_is_installed_only_where_it_has_a_wheel(
    python: str, version: str, machine_name: str, is_asked_for: bool
) -> None:
    """Elsewhere pip would need a compiler, and an installation might fail for what is optional."""
    lines = map(Requirement, (ROOT / "requirements.txt").read_text().splitlines())
    markers = {line.name: line.marker for line in lines}
    platform = {
        "platform_python_implementation": python,
        "python_version": version,
        "platform_machine": machine_name,
    }

    assert markers["isal"] is not None
    assert markers["isal"].evaluate(platform) is is_asked_for
