"""What others do to ComfyUI while our jobs run: each has an outcome, and the next job runs."""

import base64
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_process import ComfyProcess, wait_until
from conftest import NOBODY, StartComfy
from picture_server import PictureServer


@pytest.fixture
def comfy(newest: ComfyProcess) -> Iterator[ComfyProcess]:
    """The shared ComfyUI, found to be well again afterwards."""
    yield newest
    job = newest.finished(newest.submit("probe"))
    assert job["status"] == "completed", job
    assert newest.get("/health").json()["components"]["comfyui"]["status"] == "healthy"


def running(comfy: ComfyProcess, seconds: float = 20, **parameters: Any) -> str:
    """A job that runs in steps of 50 ms, at each of which it can be interrupted."""
    steps = int(seconds * 20)
    job_id = comfy.submit("probe", {"seconds": seconds, "steps": steps, **parameters})
    comfy.wait_for_node(job_id)
    return job_id


def test_a_cleared_queue_is_noticed_and_the_job_runs_all_the_same(comfy: ComfyProcess) -> None:
    first = running(comfy, 3)
    second = comfy.submit("probe")
    wait_until(lambda: comfy.prompts_held() == 2)

    comfy.post("/queue", json={"clear": True})

    wait_until(lambda: comfy.prompts_held() == 1)
    assert comfy.finished(first)["status"] == "completed"
    assert comfy.finished(second)["status"] == "completed"
    assert comfy.job(second)["attempt"] == 2


def test_a_job_deleted_from_the_queue_again_and_again_fails_in_the_end(
    comfy: ComfyProcess,
) -> None:
    first = running(comfy)
    second = comfy.submit("probe")

    def delete_second() -> bool:
        pending = comfy.get("/queue").json()["queue_pending"]
        comfy.post("/queue", json={"delete": [item[1] for item in pending]})
        return bool(comfy.job(second)["status"] == "failed")

    wait_until(delete_second)
    comfy.post("/interrupt", json={})

    assert comfy.job(second)["error_detail"]["code"] == "removed_from_queue"
    assert comfy.job(second)["attempt"] == 3
    assert comfy.finished(first)["error_detail"]["code"] == "interrupted"


def test_an_interrupt_in_the_editor_fails_the_job(comfy: ComfyProcess) -> None:
    job_id = running(comfy)

    comfy.post("/interrupt", json={})

    job = comfy.finished(job_id)
    assert (job["status"], job["error_detail"]["code"]) == ("failed", "interrupted")


def test_a_cleared_history_changes_nothing(comfy: ComfyProcess) -> None:
    job_id = running(comfy, 1)

    while comfy.job(job_id)["status"] == "processing":
        comfy.post("/history", json={"clear": True})

    assert comfy.job(job_id)["status"] == "completed"
    assert comfy.get(comfy.job(job_id)["result_url"].removeprefix(comfy.url)).ok


def test_running_out_of_memory_is_tried_once_more(comfy: ComfyProcess) -> None:
    job = comfy.finished(comfy.submit("probe", {"tag": "oom", "ending": "out of memory"}))

    assert (job["status"], job["error_detail"]["code"]) == ("failed", "out_of_memory")
    assert len(comfy.runs("oom")) == job["attempt"] == 2


def test_a_fully_cached_prompt_completes_each_of_fifty_times(comfy: ComfyProcess) -> None:
    jobs = [comfy.submit("fixed-name", {"text": "the same"}) for _ in range(50)]

    finished = [comfy.finished(job) for job in jobs]

    assert {job["status"] for job in finished} == {"completed"}
    contents = {comfy.get(job["result_url"].removeprefix(comfy.url)).content for job in finished}
    assert contents == {b"the same"}


def test_a_node_without_a_prefix_cannot_mix_up_two_jobs(comfy: ComfyProcess) -> None:
    texts = [f"text {number}" for number in range(10)]

    jobs = [comfy.finished(comfy.submit("fixed-name", {"text": text})) for text in texts]

    contents = [comfy.get(job["result_url"].removeprefix(comfy.url)).text for job in jobs]
    assert contents == texts


def test_no_output_is_a_failure_that_says_so(comfy: ComfyProcess) -> None:
    job = comfy.finished(comfy.submit("no-output"))

    assert (job["status"], job["error_detail"]["code"]) == ("failed", "no_output")


def test_one_broken_output_of_two_fails_the_job(comfy: ComfyProcess) -> None:
    job = comfy.finished(comfy.submit("half-broken"))

    assert (job["status"], job["error_detail"]["code"]) == ("failed", "execution_failed")
    assert job["error_detail"]["node_class"] == "ProbePicture"


def test_the_same_job_twice_gives_two_good_results(
    comfy: ComfyProcess, pictures: PictureServer
) -> None:
    parameters = {"image_url": pictures.url(color="navy"), "width": 24, "height": 24}

    first = comfy.finished(comfy.submit("image-resize", parameters))
    second = comfy.finished(comfy.submit("image-resize", parameters))

    replies = [comfy.get(job["result_url"].removeprefix(comfy.url)) for job in (first, second)]
    assert all(reply.ok for reply in replies)
    assert first["result_url"] != second["result_url"]


def test_an_editor_that_stops_reading_delays_no_job(comfy: ComfyProcess) -> None:
    deaf = open_websocket(comfy, client_id="deaf")

    job = comfy.finished(comfy.submit("previews"), seconds=30)

    deaf.close()
    assert job["status"] == "completed"
    assert job["attempt"] == 1


def test_a_websocket_that_takes_our_client_id_gets_nothing_for_long(comfy: ComfyProcess) -> None:
    job_id = running(comfy, 6)
    (item,) = comfy.get("/queue").json()["queue_running"]
    thief = open_websocket(comfy, client_id=item[3]["client_id"])
    before = comfy.job(job_id)["progress"]["percent"]

    wait_until(lambda: comfy.job(job_id)["progress"]["percent"] > before + 10)

    thief.close()
    assert comfy.finished(job_id)["status"] == "completed"


def test_fifty_jobs_of_all_kinds_at_once_all_end_and_slow_pictures_delay_nobody(
    comfy: ComfyProcess, pictures: PictureServer
) -> None:
    dead = f"http://{NOBODY}/picture.png"
    kinds = [
        ("probe", {"seconds": 0.1}),
        ("many-outputs", {}),
        ("image-resize", {"image_url": pictures.url(), "width": 16, "height": 16}),
        ("fixed-name", {"text": "mixed"}),
        ("image-resize", {"image_url": dead}),
    ]
    slow = [comfy.submit("probe", {"image_url": pictures.held_url()}) for _ in range(10)]

    jobs = [comfy.submit(*kinds[number % len(kinds)]) for number in range(40)]
    ended = [comfy.finished(job, seconds=60) for job in jobs]

    assert {comfy.job(job)["stage"] for job in slow} == {"fetching_inputs"}
    pictures.release()
    assert [job["status"] for job in ended].count("completed") == 32
    assert {job["error_detail"]["code"] for job in ended if job["error_detail"]} == {
        "input_fetch_failed"
    }
    assert {comfy.finished(job)["status"] for job in slow} == {"completed"}


def test_a_job_beyond_its_time_is_interrupted_and_a_deaf_node_is_told_in_health(
    start_comfy: StartComfy,
) -> None:
    comfy = start_comfy(UNIFIED_API_JOB_TIMEOUT="2", UNIFIED_API_INTERRUPT_SECONDS="3")
    polite = comfy.submit("probe", {"seconds": 60, "steps": 600})
    assert comfy.finished(polite)["error_detail"]["code"] == "timed_out"

    deaf = comfy.submit("no-output", {"seconds": 100})
    job = comfy.finished(deaf)

    assert job["error_detail"]["code"] == "timed_out"
    assert comfy.get("/health").status_code == 503
    assert comfy.get("/ready").status_code == 503
    comfy.wake()
    wait_until(lambda: comfy.get("/health").status_code == 200)
    assert comfy.finished(comfy.submit("probe"))["status"] == "completed"


def test_a_dead_worker_is_told_at_once_and_its_job_ends_after_restarts(
    start_comfy: StartComfy,
) -> None:
    comfy = start_comfy()
    job_id = comfy.submit("probe", {"tag": "exit", "ending": "exit"})

    wait_until(lambda: comfy.get("/health").status_code == 503, seconds=60)

    component = comfy.get("/health").json()["components"]["comfyui"]
    assert component["status"] == "unhealthy"
    assert "Restart ComfyUI" in component["reason"]
    assert comfy.job(job_id)["status"] == "processing"
    comfy.kill()
    comfy.environment["UNIFIED_API_EXIT_ON_HANG"] = "1"
    for _ in range(2):
        comfy.start()
        comfy.exit_status()
    comfy.start()
    assert comfy.finished(job_id)["error_detail"]["code"] == "crash_loop"


def open_websocket(comfy: ComfyProcess, *, client_id: str) -> socket.socket:
    """A websocket client that reads nothing after the handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", comfy.port))
    connection.sendall(
        f"GET /ws?clientId={client_id} HTTP/1.1\r\nHost: 127.0.0.1:{comfy.port}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert b"101" in connection.recv(64)
    return connection
