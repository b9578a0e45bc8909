"""SIGTERM and notices: what runs is finished, what waits is kept, and ComfyUI leaves in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from comfy_process import ComfyProcess, wait_until
from conftest import EACH_VERSION, NEWEST
from forked import ForkedComfy

DRAIN_SECONDS = 20
END_SECONDS = 60


class _Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self._answer(200, "token")

    def do_GET(self) -> None:
        self.server.asked.set()
        self._answer(200 if self.server.has_notice else 404, '{"action": "terminate"}')

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Metadata(ThreadingHTTPServer):
    """The metadata service of EC2."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.has_notice = False
        self.asked = threading.Event()


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def comfy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComfyProcess]:
    """One that is yet to be started."""
    version = getattr(request, "param", NEWEST)
    process = ForkedComfy(version, tmp_path, UNIFIED_API_DRAIN_SECONDS=str(DRAIN_SECONDS))
    yield process
    process.kill()


def running(comfy: ComfyProcess, seconds: float) -> str:
    job_id = comfy.submit(
        "probe", {"tag": "running", "seconds": seconds, "steps": int(seconds * 20)}
    )
    comfy.wait_for_node(job_id)
    return job_id


@pytest.mark.parametrize("comfy", EACH_VERSION, indirect=True)
def test_what_runs_is_finished_what_waits_is_resumed_and_nothing_new_is_taken(
    comfy: ComfyProcess,
) -> None:
    comfy.start()
    (comfy.base / "temp").mkdir(exist_ok=True)
    ran = running(comfy, 4)
    waited = [comfy.submit("probe", {"tag": "waited"}) for _ in range(3)]
    wait_until(lambda: comfy.prompts_held() == 2)

    comfy.terminate()
    begun = time.monotonic()
    wait_until(lambda: comfy.post("/api/v1/probe/jobs", json={}).status_code == 503)
    assert comfy.job(ran)["stage"] == "running"
    status = comfy.exit_status()
    seconds = time.monotonic() - begun

    assert (status, comfy.has_said_farewell) == (0, True)
    assert seconds < DRAIN_SECONDS
    assert not (comfy.base / "temp").exists()
    assert comfy.runs("waited") == []
    comfy.start()
    assert comfy.job(ran)["status"] == "completed"
    assert comfy.get(comfy.job(ran)["result_url"].removeprefix(comfy.url)).ok
    resumed = [comfy.finished(job_id) for job_id in waited]
    assert {(job["status"], job["attempt"]) for job in resumed} == {("completed", 1)}
    assert (len(comfy.runs("running")), len(comfy.runs("waited"))) == (1, 3)


@pytest.mark.full
def test_what_takes_too_long_is_run_again_at_the_next_start(comfy: ComfyProcess) -> None:
    comfy.environment["UNIFIED_API_DRAIN_SECONDS"] = "1"
    comfy.start()
    job_id = running(comfy, 5)

    comfy.terminate()

    assert comfy.exit_status() == 0
    assert comfy.has_said_farewell
    assert "the time is up" in comfy.log.read_text()
    comfy.start()
    job = comfy.finished(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2)


@pytest.mark.full
def test_a_second_sigterm_ends_it_at_once_and_loses_nothing(comfy: ComfyProcess) -> None:
    comfy.start()
    job_id = running(comfy, 5)
    comfy.terminate()
    wait_until(lambda: comfy.post("/api/v1/probe/jobs", json={}).status_code == 503)

    comfy.terminate()

    assert comfy.exit_status() == 143
    assert not comfy.has_said_farewell
    comfy.start()
    assert comfy.finished(job_id)["status"] == "completed"


def test_an_interrupt_ends_it_without_a_drain(comfy: ComfyProcess) -> None:
    comfy.start()
    running(comfy, 40)

    comfy.stop()

    assert comfy.exit_status() == 0
    assert comfy.has_said_farewell
    assert "No more jobs are taken" not in comfy.log.read_text()


def test_a_notice_of_ec2_is_as_good_as_a_sigterm(comfy: ComfyProcess, metadata: Metadata) -> None:
    comfy.environment["UNIFIED_API_SPOT_NOTICE"] = "1"
    comfy.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata.url
    comfy.start()
    assert metadata.asked.wait(END_SECONDS)

    metadata.has_notice = True

    assert comfy.exit_status() == 0
    assert comfy.has_said_farewell
    assert "takes this spot instance back" in comfy.log.read_text()
