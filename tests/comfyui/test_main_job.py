"""A request becomes a picture, on the newest ComfyUI."""

import io
import time

from comfy_process import ComfyProcess, wait_until
from conftest import StartComfy
from picture_server import PictureServer
from PIL import Image


def test_an_uploaded_picture_comes_back_in_the_size_asked_for(
    newest: ComfyProcess, png: bytes
) -> None:
    response = newest.post(
        "/api/v1/image-resize/jobs",
        files={"image": ("photo.png", png, "image/png")},
        data={"width": "48", "height": "32"},
    )
    job = newest.finished(response.json()["job_id"])

    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/v1/jobs/{job['job_id']}"
    assert job["status"] == "completed", job["error"]
    assert job["result_s3_uri"] == job["result_url"] == job["outputs"][0]["url"]
    reply = newest.get(job["result_url"].removeprefix(newest.url))
    assert reply.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(reply.content)).size == (48, 32)
    assert (job["outputs"][0]["width"], job["outputs"][0]["height"]) == (48, 32)


def test_a_picture_is_fetched_by_its_url(newest: ComfyProcess, pictures: PictureServer) -> None:
    url = pictures.url(color="red")

    job = newest.finished(
        newest.submit("image-resize", {"image_url": url, "width": 8, "height": 8, "crop": None})
    )

    assert job["status"] == "completed", job["error"]
    assert job["parameters"]["image_url"] == url
    assert job["parameters"]["crop"] == "disabled"
    picture = newest.get(job["result_url"].removeprefix(newest.url)).content
    assert Image.open(io.BytesIO(picture)).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


def test_a_seed_is_drawn_told_and_used(newest: ComfyProcess) -> None:
    drawn = newest.finished(newest.submit("probe", {"tag": "seed"}))

    again = newest.finished(
        newest.submit("probe", {"tag": "seed", "seed": drawn["parameters"]["seed"]})
    )
    other = newest.finished(newest.submit("probe", {"tag": "seed"}))

    def pixels(job: dict) -> bytes:
        content = newest.get(job["result_url"].removeprefix(newest.url)).content
        return Image.open(io.BytesIO(content)).tobytes()

    assert newest.runs("seed")[0] == f"seed {drawn['parameters']['seed']}"
    assert pixels(drawn) == pixels(again)
    assert pixels(drawn) != pixels(other)


def test_every_saved_file_is_an_output_told_by_its_content(newest: ComfyProcess) -> None:
    job = newest.finished(newest.submit("many-outputs"))

    kinds = [(output["name"], output["content_type"]) for output in job["outputs"]]
    assert kinds == [("animation", "image/webp"), ("image", "image/png"), ("3", "image/png")]


def test_comfyui_never_holds_more_than_two_of_our_prompts(newest: ComfyProcess) -> None:
    jobs = [newest.submit("probe", {"seconds": 0.3}) for _ in range(6)]
    held = []

    while any(newest.job(job)["status"] in ("pending", "processing") for job in jobs):
        held.append(newest.prompts_held())

    assert max(held) == 2
    assert {newest.job(job)["status"] for job in jobs} == {"completed"}


def test_progress_is_told_while_a_job_runs(newest: ComfyProcess) -> None:
    job_id = newest.submit("probe", {"seconds": 2, "steps": 20})
    seen = []

    def is_over() -> bool:
        job = newest.job(job_id)
        seen.append(job["progress"])
        return job["status"] == "completed"

    wait_until(is_over)

    percents = [progress["percent"] for progress in seen]
    assert percents == sorted(percents)
    assert len({percent for percent in percents if 0 < percent < 100}) > 3
    assert any(
        (progress["node"], progress["steps"]) == ("A picture made by a probe", 20)
        for progress in seen
    )


def test_a_failing_node_fails_its_job_without_telling_its_secrets(newest: ComfyProcess) -> None:
    job = newest.finished(newest.submit("probe", {"ending": "fail"}))

    assert job["status"] == "failed"
    assert job["error_detail"]["code"] == "execution_failed"
    assert (job["error_detail"]["node_id"], job["error_detail"]["node_class"]) == (
        "1",
        "ProbePicture",
    )
    assert "secret" not in job["error"]
    assert "ValueError" in job["error"]


def test_jobs_are_listed_newest_first_in_pages(newest: ComfyProcess) -> None:
    jobs = [newest.submit("no-output", {}) for _ in range(3)]
    for job in jobs:
        newest.finished(job)

    first = newest.get("/api/v1/jobs?workflow=no-output&limit=2").json()
    second = newest.get(
        f"/api/v1/jobs?workflow=no-output&limit=2&after={first['next_cursor']}"
    ).json()

    listed = [job["job_id"] for job in first["data"] + second["data"]]
    assert listed[:3] == jobs[::-1]
    assert first["has_more"]


def test_errors_under_our_prefix_are_problems_and_comfyui_keeps_its_own(
    newest: ComfyProcess,
) -> None:
    replies = {
        404: newest.get("/api/v1/nowhere"),
        405: newest.get("/api/v1/probe/jobs"),
        400: newest.post("/api/v1/probe/jobs", json=[1]),
        415: newest.post("/api/v1/probe/jobs", data="seed=1"),
        422: newest.post("/api/v1/probe/jobs", json={"sede": 1}),
    }

    for status, reply in replies.items():
        assert reply.status_code == status
        assert reply.headers["Content-Type"].startswith("application/problem+json")
        assert reply.json()["status"] == status
    assert "did you mean seed" in replies[422].json()["errors"][0]["message"]
    assert newest.get("/queue").json().keys() == {"queue_running", "queue_pending"}
    assert newest.get("/api/queue").ok
    assert newest.get("/").headers["Content-Type"].startswith("text/html")
    assert newest.get("/nowhere").headers["Content-Type"] != "application/problem+json"


def test_one_line_at_start_says_what_there_is(newest: ComfyProcess) -> None:
    log = newest.log.read_text()

    (line,) = [line for line in log.splitlines() if "Unified API 0" in line]
    for part in (f"{newest.url}/api/v1", "healthy", "unhealthy", "storage", "auth", "queue"):
        assert part in line


def test_a_restart_resumes_what_was_accepted_and_keeps_what_was_done(
    start_comfy: StartComfy,
) -> None:
    comfy = start_comfy()
    done = comfy.finished(comfy.submit("probe", {"tag": "done"}))
    running = comfy.submit("probe", {"tag": "running", "seconds": 3, "steps": 30})
    waiting = [comfy.submit("probe", {"tag": "waiting"}) for _ in range(3)]
    comfy.wait_for_node(running)
    before = {job: comfy.job(job)["parameters"] for job in (running, *waiting)}

    comfy.kill()
    comfy.start()
    after = {job: comfy.finished(job) for job in before}

    assert comfy.job(done["job_id"]) == done
    assert {job["status"] for job in after.values()} == {"completed"}
    assert {job: after[job]["parameters"] for job in after} == before
    assert len(comfy.runs("done")) == 1


def test_a_wrong_setting_never_stops_comfyui(start_comfy: StartComfy) -> None:
    comfy = start_comfy(
        UNIFIED_API_MAX_PENDING="banana",
        UNIFIED_API_MODELS="camera-angle.engine=x",
        UNIFIED_API_WORKFLOWS_DIR="/nowhere/at/all",
    )

    health = comfy.get("/health")

    assert health.status_code == 200
    assert health.json()["components"]["settings"]["status"] == "degraded"
    reason = health.json()["components"]["settings"]["reason"]
    assert "UNIFIED_API_MAX_PENDING" in reason
    assert "camera-angle" in reason
    assert "banana" not in reason


def test_polling_clients_of_old_work_unchanged(
    newest: ComfyProcess, pictures: PictureServer
) -> None:
    body = {"image_url": pictures.url(), "width": 16, "height": 16, "upscale_method": None}
    created = newest.post("/api/v1/image-resize/jobs", json=body).json()

    path = f"/api/v1/image-resize/jobs/{created['job_id']}"
    while newest.get(path).json()["status"] not in ("completed", "failed"):
        time.sleep(0.1)

    assert newest.get(newest.get(path).json()["result_s3_uri"].removeprefix(newest.url)).ok
    assert newest.get(f"/api/v1/probe/jobs/{created['job_id']}").status_code == 404
