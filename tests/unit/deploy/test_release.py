"""What leaves this clone: the wheel and the package of the registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import unified_api
from pathspec import PathSpec
from PIL import Image
from unified_api.deploy.comfyui import places
from unified_api.deploy.comfyui.__main__ import HELP
from unified_api.deploy.comfyui.process import serving

from tests.common.ports import free_port

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("workflows", "jobs", "routes", "sqs_bridge", "web")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]
VERSION = PROJECT["version"]
RAW = PROJECT["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com") + "/main/"

#: That AWS does not answer is no reason not to start.
NO_AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "SQS_QUEUE_URL": "http://127.0.0.1:1/1/tasks",
    "S3_BUCKET": "any",
}
#: Pythons of before 2023 know no filters, and take this archive of ours as it is.
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
BUILD = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("plugin", "__init__.py")
sys.modules["plugin"] = plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
import plugin.routes, plugin.jobs.engine, plugin.sqs_bridge.listener
print(plugin.__version__)
"""


def patterns(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


NOT_OURS = PathSpec.from_lines("gitignore", [".git/", *patterns(".gitignore")])
NOT_PACKED = PathSpec.from_lines("gitignore", patterns(".comfyignore"))


def clone(folder: Path = ROOT) -> Iterator[Path]:
    """The files of this clone, as paths below its root."""
    for path in folder.iterdir():
        name = path.relative_to(ROOT)
        if path.is_file() and not NOT_OURS.match_file(name):
            yield name
        elif path.is_dir() and not NOT_OURS.match_file(f"{name.as_posix()}/"):
            yield from clone(path)


def copy(files: Iterable[Path], folder: Path) -> Path:
    """As an archive is unpacked: nothing stays executable."""
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def said(*command: str | Path, folder: Path) -> str:
    """What it printed; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    said(sys.executable, "-c", BUILD.format(kind), into, folder=source)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as whoever has nothing else does it."""
    source = copy(clone(), tmp_path_factory.mktemp("clone"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build("sdist", source, tmp_path_factory.mktemp("sdist"))) as sdist:
        sdist.extractall(unpacked, **SAFELY)
    (folder,) = unpacked.iterdir()
    return build("wheel", folder, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the registry hands out, where ComfyUI would have it."""
    packed = (name for name in clone() if not NOT_PACKED.match_file(name))
    return copy(packed, tmp_path_factory.mktemp("custom_nodes") / PROJECT["name"])


@pytest.fixture
def orchestrator(wheel: Path, tmp_path: Path) -> Iterator[str]:
    """The address of one that was installed, in an environment of its own."""
    venv, port = tmp_path / "venv", free_port()
    python = places.python_in(venv)
    said(sys.executable, "-m", "venv", venv, folder=tmp_path)
    said(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel, folder=tmp_path)
    (packages,) = venv.glob("**/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, **NO_AWS, "UNIFIED_API_PORT": str(port)}
    call = [str(python.with_name("comfy-orchestrator"))]
    with serving("wheel", call, probe=f"{address}/api/v1", environment=environment):
        yield address


def test_the_version_stands_in_one_place() -> None:
    modules = (name for name in clone() if name.suffix == ".py" and name.parts[0] != "tests")

    assert unified_api.__version__ == VERSION
    assert not [name for name in modules if f'"{VERSION}"' in (ROOT / name).read_text()]


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert first
    assert first[1] == VERSION


@pytest.mark.parametrize(("name", "size"), [("Icon", (400, 400)), ("Banner", (1260, 540))])
def test_the_registry_finds_the_pictures(name: str, size: tuple[int, int]) -> None:
    assert COMFY[name].startswith(RAW)

    with Image.open(ROOT / COMFY[name].removeprefix(RAW)) as picture:
        assert picture.size == size


def test_the_registry_has_nothing_to_warn_of() -> None:
    # The rules that `comfy node validate` has ruff apply to the whole clone.
    rules = ("--quiet", "--select", "S102,S307,E702")

    assert said(sys.executable, "-m", "ruff", "check", *rules, ".", folder=ROOT) == ""


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    alone = {Path("__init__.py"), Path("pyproject.toml")}
    runs = {name for name in clone() if name in alone or name.parts[0] in ROOMS}
    assert held == {f"unified_api/{name.as_posix()}" for name in runs}


@pytest.mark.timeout(300)
def test_an_installed_wheel_serves_the_workflows(orchestrator: str) -> None:
    service, catalog = (answer(orchestrator, path) for path in ("/api/v1", "/api/v1/workflows"))

    shipped = {file.parent.name for file in (ROOT / "workflows" / "library").glob("*/graph.json")}
    assert service["version"] == VERSION
    assert {each["slug"] for each in catalog["data"]} == shipped


def answer(address: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(address + path, timeout=30) as reply:
        return dict(json.load(reply))


def test_a_user_is_not_given_what_only_we_need(package: Path) -> None:
    names = {path.name for path in package.iterdir()}
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())

    assert names.isdisjoint({"benchmarks", ".ci", ".github", ".comfyui"})
    assert size < 2_000_000


def test_the_package_of_the_registry_can_be_loaded(package: Path) -> None:
    assert said(sys.executable, "-c", LOAD, folder=package) == f"{VERSION}\n"


def test_install_sh_works_in_the_package_of_the_registry(package: Path) -> None:
    needed = [each for each in vars(places).values() if isinstance(each, Path)]
    shipped = [
        each.relative_to(ROOT) for each in needed if places.OURS not in (each, *each.parents)
    ]

    assert said("bash", "install.sh", "--help", folder=package) == HELP
    assert len(shipped) > 5
    assert [name for name in shipped if not (package / name).exists()] == []
