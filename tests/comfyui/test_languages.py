"""Chinese on a machine whose console knows none."""

from __future__ import annotations

import pytest
from comfy_process import ComfyProcess
from conftest import StartComfy

ASCII_ONLY = {
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",
}


@pytest.mark.full
def test_a_console_without_chinese_loses_no_line_and_no_job(
    start_comfy: StartComfy, png: bytes
) -> None:
    comfy: ComfyProcess = start_comfy(kind=ComfyProcess, **ASCII_ONLY)

    reply = comfy.post(
        "/api/v1/image-resize/jobs",
        files={"image": ("照片 一.png", png)},
        data={"width": "8", "height": "8", "metadata": '{"客户": "王小明"}'},
    )
    job = comfy.finished(reply.json()["job_id"])

    log = comfy.log.read_text(encoding="ascii")
    assert (job["status"], job["metadata"]) == ("completed", {"客户": "王小明"})
    assert r"model file \u955c\u5934\u8f6c\u6362.safetensors is missing" in log
    assert "Logging error" not in log
