"""One job through the real HTTP API of a real ComfyUI, shown as a client sees it."""

from __future__ import annotations

import json
import os
import struct
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from .places import DEMO_BASE, PICTURE, ComfyUI
from .process import http
from .report import Failure, say
from .server import prepare, running

JOB_SECONDS = 120
POLL_SECONDS = 0.3
REQUEST_SECONDS = 30
WIDTH, HEIGHT = 300, 200
PNG_START = b"\x89PNG\r\n\x1a\n"
# A demo must neither take work from a real queue nor publish to a real bucket.
SERVICE_SETTINGS = {
    "CLOUDFRONT_DOMAIN",
    "DYNAMODB_TABLE",
    "GPU_INSTANCE_ID",
    "S3_BUCKET",
    "SQS_QUEUE_URL",
}


def demo(comfyui: ComfyUI) -> None:
    """Starts ComfyUI, sends the shipped picture, shows the finished job and its result."""
    base = prepare(DEMO_BASE)
    say(f"Starting ComfyUI from {comfyui.tree} on a free port")
    with running(comfyui, base, without_service_settings()) as address:
        say(f"ComfyUI is up at {address}; sending {PICTURE.name} to image-resize")
        job = finished(address, submit(address))
        say(json.dumps(job, indent=2))
        require_completed(job)
        url = absolute(address, job["outputs"][0]["url"])
        require_picture(get(url))
    say(f"Result file  {result_file(base, job['job_id'])}")
    say(f"Result URL   {url}  (while that ComfyUI ran)")
    say("Next: ./install.sh serve")


def without_service_settings() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name not in SERVICE_SETTINGS and not name.startswith("UNIFIED_API_")
    }


def submit(address: str) -> dict[str, Any]:
    fields = {"width": str(WIDTH), "height": str(HEIGHT)}
    body, content_type = multipart(fields, image=PICTURE)
    request = urllib.request.Request(
        f"{address}/api/v1/image-resize/jobs", body, {"Content-Type": content_type}
    )
    return json_of(request)


def multipart(fields: dict[str, str], *, image: Path) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    disposition = f"--{boundary}\r\nContent-Disposition: form-data; name="
    text = "".join(f'{disposition}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    picture = f'{disposition}"image"; filename="{image.name}"\r\nContent-Type: image/png\r\n\r\n'
    body = (text + picture).encode() + image.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def finished(address: str, job: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + JOB_SECONDS
    while job["status"] in {"pending", "processing"}:
        if time.monotonic() > end:
            raise Failure(f"The job was not finished after {JOB_SECONDS} s.")
        time.sleep(POLL_SECONDS)
        job = json_of(urllib.request.Request(f"{address}/api/v1/jobs/{job['job_id']}"))
    return job


def require_completed(job: dict[str, Any]) -> None:
    if job["status"] != "completed":
        raise Failure(f"The job ended as {job['status']}: {job['error']}")


def require_picture(content: bytes) -> None:
    """A PNG tells its size in the first chunk, right after its signature."""
    size = struct.unpack(">II", content[16:24])
    if not content.startswith(PNG_START) or size != (WIDTH, HEIGHT):
        raise Failure(f"The result is no PNG of {WIDTH} x {HEIGHT}.")


def result_file(base: Path, job_id: str) -> Path:
    files = sorted((base / "user" / "unified_api" / "results" / job_id).glob("*"))
    if not files:
        raise Failure(f"No result file of job {job_id} lies under {base}.")
    return files[0]


def absolute(address: str, url: str) -> str:
    return f"{address}{url}" if url.startswith("/") else url


def json_of(request: urllib.request.Request) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(get(request))
    return answer


def get(request: urllib.request.Request | str) -> bytes:
    try:
        with http.open(request, timeout=REQUEST_SECONDS) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise Failure(f"The API answered {error.code}: {error.read().decode()}") from error
    except OSError as error:
        raise Failure(f"The API stopped answering: {error}.") from error
    return content
