"""The containers without containers: what the Dockerfiles name is run here, from what they copy."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from unified_api import __version__
from unified_api.deploy.comfyui.demo import finished, submit
from unified_api.deploy.comfyui.places import own_tree
from unified_api.deploy.comfyui.provide import NEWEST
from unified_api.jobs.drain import HAND_BACK_SECONDS, LEAVE_SECONDS
from unified_api.jobs.settings import Settings
from unified_api.sqs_bridge.orchestrator import SHUTDOWN_SECONDS

from tests.common.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "containers"
NAMES = ("orchestrator", "worker")
#: A ComfyUI takes its time. Less than pytest's own limit, which would not tell what was waited for.
UP_SECONDS = 90.0
#: A worker lets its open poll of the queue end, which takes 20 s at most.
END_SECONDS = 40.0
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Folders of an image.
INSIDE = re.compile(r"(?<![\w.-])(?=/(app|data|health|moto))")
OWN_COMFYUI = own_tree(NEWEST)
#: As the first process of its own world, for which a signal counts only if it is listened to.
FIRST = ["unshare", "--fork", "--pid", "--kill-child"]
COMFYUI = """
import sys, threading
print("up", *sys.argv[1:], sep="\\n", flush=True)
threading.Event().wait()
"""

Instruction = tuple[str, str]


def instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(verb, rest) for verb, _, rest in (line.partition(" ") for line in whole.splitlines())]


class Image:
    """The last stage of a Dockerfile, laid out in a folder."""

    def __init__(self, text: str, folder: Path | None = None) -> None:
        self.all = instructions(text)
        last = max(at for at, (verb, _) in enumerate(self.all) if verb == "FROM")
        self.stage = self.all[last:]
        self.folder = folder
        if folder:
            self._copy()

    def told(self, verb: str) -> list[str]:
        return [rest for name, rest in self.stage if name == verb]

    def call(self, verb: str) -> list[str]:
        """A command, with this Python and below our folder."""
        (rest,) = self.told(verb)
        words: list[str] = json.loads(rest[rest.index("[") :])
        return [self._here(word) for word in words]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (rest.split("=", 1) for rest in self.told("ENV"))
        ours = {name: self._here(value) for name, value in pairs if name != "PATH"}
        return {**os.environ, **ours}

    def _here(self, word: str) -> str:
        if word.rsplit("/", maxsplit=1)[-1] == "python":
            return sys.executable
        return INSIDE.sub(str(self.folder), word)

    def _copy(self) -> None:
        for source, target in self._copied():
            place = Path(self._here(target))
            (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, place)
        for command in self.told("RUN"):
            for made in re.findall(r"(?<=mkdir -p )[^&]+", command):
                subprocess.run(["mkdir", "-p", *self._here(made).split()], check=True)

    def _copied(self) -> Iterator[tuple[Path, str]]:
        for rest in self.told("COPY"):
            *sources, target = rest.split()
            if "--from" not in rest:
                yield from ((ROOT / source, target) for source in sources)


def dockerfile(name: str) -> str:
    return (FOLDER / f"Dockerfile.{name}").read_text()


class Running:
    """A process as a container would have it."""

    def __init__(self, call: list[str], environment: Mapping[str, str], folder: Path) -> None:
        first = FIRST if has_namespaces() else []
        self._log = folder / f"{uuid4()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*first, *call],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._is_inside = bool(first)

    def lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def told(self, **named: object) -> list[dict[str, object]]:
        """Its lines for machines that have these fields."""
        lines = [json.loads(line) for line in self.lines() if line.startswith("{")]
        return [line for line in lines if named.items() <= line.items()]

    def end(self) -> int:
        """Its status after SIGTERM."""
        pid = self._process.pid
        if self._is_inside:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        os.kill(pid, signal.SIGTERM)
        return self._process.wait(END_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def has_namespaces() -> bool:
    found = shutil.which("unshare")
    return bool(found) and subprocess.run([*FIRST, "true"], check=False).returncode == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as started:

        def run(call: list[str], environment: Mapping[str, str], folder: Path) -> Running:
            running = Running(call, environment, folder)
            started.callback(running.kill)
            return running

        yield run


def is_healthy(check: list[str]) -> bool:
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def wait_until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + UP_SECONDS
    while not question():
        assert time.monotonic() < end, "it was not so in time"
        time.sleep(0.05)


def at_port(call: list[str], port: int) -> list[str]:
    return [re.sub(r"(?<=127\.0\.0\.1:)\d+", str(port), word) for word in call]


needs_comfyui = pytest.mark.skipif(
    not OWN_COMFYUI.exists(), reason="NOT TESTED: the worker; ./install.sh test gets its ComfyUI"
)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs_as_root(name: str) -> None:
    (user,) = Image(dockerfile(name)).told("USER")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@pytest.mark.parametrize("name", NAMES)
def test_what_builds_an_image_does_not_stay_in_it(name: str) -> None:
    image = Image(dockerfile(name))

    assert len([verb for verb, _ in image.all if verb == "FROM"]) == 2
    assert not any("pip" in rest for rest in image.told("RUN"))
    assert any("--from=" in rest for rest in image.told("COPY"))


def test_all_images_are_made_of_one_that_nobody_can_replace() -> None:
    """A tag is moved to other images; a digest is the hash of one."""
    inline = SERVICES["aws"]["build"]["dockerfile_inline"]
    texts = [*map(dockerfile, NAMES), inline]
    bases = {
        rest.split()[0] for text in texts for verb, rest in instructions(text) if verb == "FROM"
    }

    (base,) = bases
    assert re.fullmatch(r"python:3\.12-slim@sha256:[0-9a-f]{64}", base)
    assert not any("image" in service for service in SERVICES.values())


@pytest.mark.parametrize("name", NAMES)
def test_signals_reach_the_program_and_no_shell(name: str) -> None:
    (entry,) = Image(dockerfile(name)).told("ENTRYPOINT")

    assert isinstance(json.loads(entry), list)
    assert not Image(dockerfile(name)).told("STOPSIGNAL")


@pytest.mark.parametrize("name", NAMES)
def test_the_builder_is_sent_all_that_is_copied(name: str) -> None:
    ignored = (FOLDER / f"Dockerfile.{name}.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = [rest for verb, rest in Image(dockerfile(name)).all if verb == "COPY"]

    for source in (each for rest in copied if "--from" not in rest for each in rest.split()[:-1]):
        assert source.split("/")[0] in sent
        assert (ROOT / source).exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_room_is_in_the_image(name: str) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    rooms = set(re.findall(r'^    "unified_api\.(\w+)",$', pyproject, re.MULTILINE)) | {"web"}

    copied = {source for rest in Image(dockerfile(name)).told("COPY") for source in rest.split()}

    assert len(rooms) > 1
    assert rooms <= copied


def test_an_orchestrator_answers_and_ends_when_it_is_told_to(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    image, port = Image(dockerfile("orchestrator"), tmp_path), free_port()
    check = at_port(image.call("HEALTHCHECK"), port)
    environment = {**image.environment, **nowhere(), "UNIFIED_API_PORT": str(port)}

    running = start(image.call("ENTRYPOINT"), environment, tmp_path)
    wait_until(lambda: is_healthy(check))
    status = running.end()

    assert status == 0
    assert not is_healthy(check)
    assert __version__ in str(running.told(level="info")[0]["message"])


def nowhere() -> dict[str, str]:
    """Settings of an AWS that does not answer, which is no reason for another container."""
    url = "http://127.0.0.1:1"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return {**keys, "AWS_ENDPOINT_URL": url, "SQS_QUEUE_URL": f"{url}/1/tasks", "S3_BUCKET": "any"}


def test_a_worker_is_told_its_options_and_ends_when_it_is_told_to(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    image = Image(dockerfile("worker"), tmp_path)
    comfyui = tmp_path / "app" / "ComfyUI" / "main.py"
    comfyui.write_text(COMFYUI)

    running = start([*image.call("ENTRYPOINT"), "--lowvram"], image.environment, tmp_path)
    wait_until(lambda: "--lowvram" in running.lines())
    status = running.end()

    assert status == 0


def test_a_worker_has_the_plugin_among_its_custom_nodes(tmp_path: Path) -> None:
    Image(dockerfile("worker"), tmp_path)
    plugin = tmp_path / "app" / "ComfyUI" / "custom_nodes" / "unified-api"
    load = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("plugin", {str(plugin / "__init__.py")!r})
sys.modules["plugin"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import plugin.routes, plugin.jobs.engine, plugin.sqs_bridge.listener
"""

    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@needs_comfyui
def test_the_builder_of_a_worker_gets_the_comfyui_of_the_tests(tmp_path: Path) -> None:
    builder = Image(dockerfile("worker").rsplit("\nFROM ", 1)[0], tmp_path)
    ours = tmp_path / "app" / ".comfyui"
    python = ours / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (ours / OWN_COMFYUI.name).symlink_to(OWN_COMFYUI)
    (steps,) = builder.told("RUN")
    get, move = steps.split(" && ")

    done = subprocess.run(
        [sys.executable, *shlex.split(get)[1:]],
        cwd=tmp_path / "app",
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Installing packages: plugin" in done.stdout
    assert fnmatch.fnmatch(f".comfyui/{OWN_COMFYUI.name}", move.split()[1])


@needs_comfyui
def test_a_worker_is_started_with_options_that_comfyui_has() -> None:
    options = OWN_COMFYUI / "comfy" / "cli_args.py"
    given = [word for word in Image(dockerfile("worker")).call("ENTRYPOINT") if word[:2] == "--"]

    assert given
    assert all(f'"{option}"' in options.read_text() for option in given)


def test_compose_leaves_time_to_end() -> None:
    longest = Settings().drain_seconds + HAND_BACK_SECONDS + LEAVE_SECONDS

    assert float(SERVICES["worker"]["stop_grace_period"].rstrip("s")) > longest
    assert float(SERVICES["orchestrator"]["stop_grace_period"].rstrip("s")) > SHUTDOWN_SECONDS


def test_compose_starts_a_worker_again_that_ended_itself() -> None:
    assert "UNIFIED_API_EXIT_ON_HANG=1" in Image(dockerfile("worker")).told("ENV")
    assert SERVICES["worker"]["restart"] == "on-failure"


def test_compose_opens_nothing_to_the_network() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_sets_nothing_but_settings() -> None:
    known = {field.alias for field in Settings.model_fields.values()}
    given = {name for each in SERVICES.values() for name in each.get("environment", {})}

    assert {name for name in given if not name.startswith("AWS_")} <= known


def test_compose_has_the_emulator_of_the_tests() -> None:
    lines = (ROOT / "tests" / "requirements.txt").read_text().splitlines()
    (moto,) = (line for line in lines if line.startswith("moto"))

    assert f" '{moto}'\n" in SERVICES["aws"]["build"]["dockerfile_inline"]


@needs_comfyui
@pytest.mark.timeout(400)
def test_what_compose_starts_does_a_job(tmp_path: Path, start: Callable[..., Running]) -> None:
    emulator = Image(SERVICES["aws"]["build"]["dockerfile_inline"], tmp_path / "aws")
    front = Image(dockerfile("orchestrator"), tmp_path / "orchestrator")
    back = worker_with_comfyui(tmp_path / "worker")
    shipped = files(tmp_path / "worker" / "app")

    aws = free_port()
    start([*emulator.call("ENTRYPOINT")[:-1], str(aws)], emulator.environment, tmp_path)
    wait_until(lambda: is_healthy(at_port(emulator_check(emulator), aws)))
    create(front, settings("setup", aws))
    port = free_port()
    ours = {**front.environment, **settings("orchestrator", aws), "UNIFIED_API_PORT": str(port)}
    orchestrator = start(front.call("ENTRYPOINT"), ours, tmp_path)
    comfyui = free_port()
    call = [*back.call("ENTRYPOINT"), *SERVICES["worker"]["command"], "--port", str(comfyui)]
    worker = start(call, {**back.environment, **settings("worker", aws)}, tmp_path)
    wait_until(lambda: is_healthy(at_port(front.call("HEALTHCHECK"), port)))
    wait_until(lambda: is_healthy(at_port(back.call("HEALTHCHECK"), comfyui)))
    address = f"http://127.0.0.1:{port}"
    job = finished(address, submit(address))

    assert job["status"] == "completed", job
    (line,) = orchestrator.told(job=job["job_id"], workflow="image-resize", status=202)
    assert line["logger"] == "routes.record"
    assert worker.end() == 0
    (once,) = (line for line in worker.lines() if f"Unified API {__version__}" in line)
    assert json.loads(once)["logger"] == "routes.announce"
    assert files(tmp_path / "worker" / "app") == shipped


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if "__pycache__" not in file.parts}


def worker_with_comfyui(folder: Path) -> Image:
    """Its builder's part taken from what `./install.sh test` has."""
    image = Image(dockerfile("worker"), folder)
    shutil.copytree(OWN_COMFYUI, folder / "app" / "ComfyUI", dirs_exist_ok=True)
    return image


def emulator_check(emulator: Image) -> list[str]:
    words = SERVICES["aws"]["healthcheck"]["test"][1:]
    return [sys.executable, f"{emulator.folder}{words[1]}", *words[2:]]


def settings(service: str, aws: int) -> dict[str, str]:
    given = SERVICES[service]["environment"]
    return {name: at_port([str(value)], aws)[0] for name, value in given.items()}


def create(image: Image, given: dict[str, str]) -> None:
    setup = SERVICES["setup"]
    call = [sys.executable, *setup["entrypoint"][1:], *setup["command"]]
    environment = {**image.environment, **given}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    assert f"SQS_QUEUE_URL={given['SQS_QUEUE_URL']}" in done.stdout
