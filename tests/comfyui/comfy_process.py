"""A real ComfyUI process on CPU with the plugin in it, started, killed and asked over HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import requests

from tests.common.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROVIDED = ROOT / ".comfyui"
PYTHON = PROVIDED / "venv" / "bin" / "python"
DEFINITIONS = Path(__file__).parent / "definitions"
PLUGIN = "unified-api.plugin"

LAUNCHER = ROOT / "deploy" / "comfyui" / "launch.py"
START_SECONDS = 120
FINAL = ("completed", "failed", "cancelled")
T = TypeVar("T")


def wait_until(look: Callable[[], T], *, seconds: float = 30, every: float = 0.05) -> T:
    """The first true answer of `look`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := look():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {look}")


class Process(Protocol):
    """What is used of a process, however it was started."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class ComfyProcess:
    """One ComfyUI of a version, with a base folder of its own."""

    def __init__(
        self,
        version: str,
        base: Path,
        *,
        options: tuple[str, ...] = (),
        nodes: tuple[str, ...] = (),
        is_plain: bool = False,
        **environment: str,
    ) -> None:
        """`nodes` are folders beside this file to be loaded as custom nodes too.

        A plain ComfyUI has neither the plugin nor the probes.
        """
        self.tree = PROVIDED / f"ComfyUI-{version}"
        self.base = base
        self.options = options
        self.nodes = nodes if is_plain else (PLUGIN, "probe_nodes", *nodes)
        self.environment = environment
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / f"comfyui-{self.port}.log"
        self._process: Process | None = None
        _furnish(base, self.nodes)

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> ComfyProcess:
        options = [
            *("--cpu", "--use-pytorch-cross-attention", "--disable-api-nodes"),
            *("--listen", "127.0.0.1", "--port", str(self.port)),
            *("--base-directory", str(self.base), "--disable-all-custom-nodes"),
            *("--whitelist-custom-nodes", *(Path(node).name for node in self.nodes)),
            *self.options,
        ]
        # Compiled once, every later start is some seconds shorter.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **self.environment}
        self._process = self._spawn(options, environment)
        return self.wait_until_up()

    def wait_until_up(self) -> ComfyProcess:
        wait_until(self._answers, seconds=START_SECONDS, every=0.2)
        return self

    def _spawn(self, options: list[str], environment: dict[str, str]) -> Process:
        command = [str(PYTHON), str(LAUNCHER), str(self.tree), *options]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def kill(self) -> None:
        """As a crash does it: at once, with nothing tidied up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def terminate(self) -> None:
        """Ask it to leave, as a supervisor does."""
        assert self._process is not None
        self._process.terminate()

    def exit_status(self, seconds: float = 60) -> int:
        """Once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def has_said_farewell(self) -> bool:
        """Whether ComfyUI left in order."""
        return "Stopped server" in self.log.read_text()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def resident_mb(self) -> float:
        """Memory of the process."""
        return psutil.Process(self.pid).memory_info().rss / 2**20

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        if not self.is_running:
            raise AssertionError(f"ComfyUI ended at start:\n{self.log.read_text()[-4000:]}")
        try:
            path = "/api/v1" if PLUGIN in self.nodes else "/queue"
            return requests.get(self.url + path, timeout=5).ok
        except requests.ConnectionError:
            return False

    # -- over HTTP -----------------------------------------------------------------------------

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=30, **options)

    def submit(self, workflow: str, parameters: dict[str, Any] | None = None) -> str:
        """The id of a new job."""
        response = self.post(f"/api/v1/{workflow}/jobs", json=parameters or {})
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.get(f"/api/v1/jobs/{job_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def finished(self, job_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """The job once it has a final status."""
        wait_until(lambda: self.job(job_id)["status"] in FINAL, seconds=seconds)
        return self.job(job_id)

    def wait_for_stage(self, job_id: str, stage: str) -> dict[str, Any]:
        wait_until(lambda: self.job(job_id)["stage"] == stage, every=0.01)
        return self.job(job_id)

    def wait_for_node(self, job_id: str) -> None:
        """Until ComfyUI executes a node of the job; the stage "running" begins a little earlier."""
        wait_until(lambda: self.job(job_id)["progress"]["node"], every=0.01)

    def wake(self) -> None:
        """End the sleep of a probe that cannot be interrupted."""
        (self.base / "alarm").touch()

    def wait_for_run(self, tag: str) -> None:
        """Until a probe node executes; the stage "running" begins a little earlier."""
        wait_until(lambda: self.runs(tag), every=0.01)

    def jobs_tagged(self, tag: str) -> list[str]:
        """The ids of the probe's jobs that were given this tag."""
        listed = self.get("/api/v1/jobs?limit=100").json()["data"]
        return [job["job_id"] for job in listed if job["parameters"].get("tag") == tag]

    def prompts_held(self) -> int:
        queue = self.get("/queue").json()
        return len(queue["queue_running"]) + len(queue["queue_pending"])

    # -- its folders ---------------------------------------------------------------------------

    @property
    def user_folder(self) -> Path:
        return self.base / "user" / "unified_api"

    def define(self, slug: str, files: dict[str, str] | None = None) -> None:
        """Put a definition of the tests, or the given files, where users put theirs."""
        target = self.user_folder / "workflows" / slug
        target.mkdir(parents=True, exist_ok=True)
        for name, text in (files or _texts(DEFINITIONS / slug)).items():
            (target / name).write_text(text, encoding="utf-8")

    def runs(self, tag: str) -> list[str]:
        """What the probe nodes wrote down, one line for each execution, by tag."""
        book = self.base / "runs.txt"
        lines = book.read_text().splitlines() if book.exists() else []
        return [line for line in lines if line.split(" ", 1)[0] == tag]


def _furnish(base: Path, nodes: tuple[str, ...]) -> None:
    for folder in ("custom_nodes", "models", "input", "output", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for node in nodes:
        target = ROOT if node == PLUGIN else Path(__file__).parent / node
        link = base / "custom_nodes" / Path(node).name
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)
    for definition in DEFINITIONS.iterdir():
        shutil.copytree(
            definition,
            base / "user" / "unified_api" / "workflows" / definition.name,
            dirs_exist_ok=True,
        )


def _texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
