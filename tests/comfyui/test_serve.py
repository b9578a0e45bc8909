"""ComfyUI as `./install.sh serve` runs it: as a child that is restarted when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from comfy_process import LAUNCHER, PYTHON, ROOT, ComfyProcess, wait_until
from conftest import NEWEST

#: What `serve` does once it has a ComfyUI and a base folder.
SERVE = """
import os, sys
from deploy.comfyui.serve import supervised
from deploy.comfyui.supervisor import supervise
sys.exit(supervise(sys.argv[1:], supervised(os.environ)))
"""


class ServedComfy(ComfyProcess):
    def _spawn(self, options: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        call = [str(PYTHON), "-c", SERVE, str(PYTHON), str(LAUNCHER), str(self.tree), *options]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                call, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    @property
    def child(self) -> int:
        (child,) = psutil.Process(self.pid).children()
        return int(child.pid)


@pytest.fixture
def comfy(tmp_path: Path) -> Iterator[ServedComfy]:
    """One try for each job, so that a job that kills ComfyUI does that once."""
    process = ServedComfy(NEWEST, tmp_path, UNIFIED_API_MAX_ATTEMPTS="1")
    process.start()
    yield process
    process.kill()


def test_a_dead_worker_thread_is_restarted_and_accepted_jobs_run(comfy: ServedComfy) -> None:
    parent, first = comfy.pid, comfy.child
    deadly = comfy.submit("probe", {"tag": "deadly", "ending": "exit"})
    waiting = [comfy.submit("probe", {"tag": "waiting"}) for _ in range(3)]

    wait_until(lambda: "started again" in comfy.log.read_text(), seconds=60)
    comfy.wait_until_up()
    jobs = [comfy.finished(job) for job in waiting]

    assert [job["status"] for job in jobs] == ["completed"] * 3
    assert comfy.finished(deadly)["error_detail"]["code"] == "crash_loop"
    assert comfy.pid == parent
    assert comfy.child != first
    assert "ended with status 70" in comfy.log.read_text()

    assert open_to_others(comfy) == []

    # As `kill %1` does it: the whole group is told, and the child once more by its parent.
    os.kill(comfy.child, signal.SIGTERM)
    comfy.terminate()

    assert comfy.exit_status() == 0
    assert comfy.has_said_farewell
    assert "a second SIGTERM." not in comfy.log.read_text()


def open_to_others(comfy: ServedComfy) -> list[Path]:
    """Files and folders of the plugin that another user of this machine could read."""
    base = comfy.base
    data = base / "user" / "unified_api"
    kept = [data, *data.glob("*.*"), *(data / "results").rglob("*"), data / "results"]
    kept += [base / name / "unified_api" for name in ("input", "output")]
    assert len(kept) > 10
    return [path for path in kept if path.stat().st_mode & 0o077]
