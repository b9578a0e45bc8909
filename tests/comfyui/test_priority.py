"""A job of high priority goes before those that wait, in a real ComfyUI."""

from __future__ import annotations

from typing import Any

from comfy_process import ComfyProcess, wait_until

TAG = "priority"


def probe(comfy: ComfyProcess, seed: int, **body: Any) -> str:
    return comfy.submit("probe", {"tag": TAG, "seed": seed, **body})


def test_a_high_job_overtakes_all_that_comfyui_does_not_have_yet(newest: ComfyProcess) -> None:
    normal = [probe(newest, 0, seconds=3, steps=10), *(probe(newest, n) for n in (1, 2, 3, 4))]
    wait_until(lambda: newest.prompts_held() == 2)

    high = probe(newest, 9, priority="high")

    jobs = [newest.finished(job_id) for job_id in (*normal, high)]
    assert [job["priority"] for job in jobs] == ["normal"] * 5 + ["high"]
    assert newest.runs(TAG) == [f"{TAG} {seed}" for seed in (0, 1, 9, 2, 3, 4)]
