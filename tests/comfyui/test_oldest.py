"""The oldest ComfyUI that the package source holds: load, contract, restart."""

from comfy_process import ComfyProcess
from conftest import OLDEST, StartComfy


def test_the_contract_holds(oldest: ComfyProcess, png: bytes) -> None:
    response = oldest.post(
        "/api/v1/image-resize/jobs",
        files={"image": ("photo.png", png, "image/png")},
        data={"width": "48", "height": "32"},
    )

    job = oldest.finished(response.json()["job_id"])

    assert job["status"] == "completed", job["error"]
    assert oldest.get(job["result_url"].removeprefix(oldest.url)).ok
    assert oldest.get("/health").json()["components"]["comfyui"]["status"] == "healthy"
    assert oldest.get("/api/v1/nowhere").json()["code"] == "not_found"
    assert oldest.get("/queue").ok


def test_a_restart_resumes_the_running_job(start_comfy: StartComfy) -> None:
    comfy = start_comfy(OLDEST)
    running = comfy.submit("probe", {"tag": "again", "seconds": 3, "steps": 30})
    comfy.wait_for_run("again")
    seed = comfy.job(running)["parameters"]["seed"]

    comfy.kill()
    comfy.start()

    assert comfy.finished(running)["status"] == "completed"
    assert comfy.runs("again") == [f"again {seed}"] * 2
