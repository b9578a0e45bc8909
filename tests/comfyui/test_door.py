"""The door of a real ComfyUI: keys made by the command, the lock, and the port of our own."""

import base64
import socket
import subprocess
from pathlib import Path

import requests
from comfy_process import ROOT, ComfyProcess, wait_until
from conftest import StartComfy

from tests.common.ports import free_port

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes ok").decode(),
}
OPEN_TO_ALL = {"/api/v1", "/health", "/ready"}


def key_command(base: Path, *arguments: str) -> str:
    command = [str(ROOT / "install.sh"), "key", *arguments, "--user-folder", str(base / "user")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def statuses(comfy: ComfyProcess, png: bytes, headers: dict[str, str]) -> dict[str, int]:
    """How ComfyUI's own routes answer."""
    websocket = {**HANDSHAKE, **headers}
    return {
        "/": comfy.get("/", headers=headers).status_code,
        "/queue": comfy.get("/queue", headers=headers).status_code,
        "/api/queue": comfy.get("/api/queue", headers=headers).status_code,
        # Whoever is let in is told that an empty prompt is none.
        "/prompt": comfy.post("/prompt", json={}, headers=headers).status_code,
        "/upload/image": comfy.post(
            "/upload/image", files={"image": ("a.png", png)}, headers=headers
        ).status_code,
        "/ws": comfy.get("/ws", headers=websocket, stream=True).status_code,
    }


def test_one_process_is_locked_and_serves_the_api_alone_on_its_own_port(
    start_comfy: StartComfy, tmp_path: Path, png: bytes
) -> None:
    base, port = tmp_path / "base", free_port()
    comfy = start_comfy(base=base, UNIFIED_API_PROTECT="all", UNIFIED_API_PORT=str(port))
    own = f"http://127.0.0.1:{port}"

    # Without keys nothing of ComfyUI is served; the first key counts without a restart.
    assert set(statuses(comfy, png, {}).values()) == {503}
    root = {"Authorization": f"Bearer {key_command(base, 'add', 'root', '--scopes', 'admin')}"}
    password = base64.b64encode(f":{root['Authorization'][7:]}".encode()).decode()
    user = {"Authorization": f"Bearer {key_command(base, 'add', 'user')}"}

    let_in = {
        **dict.fromkeys(("/", "/queue", "/api/queue", "/upload/image"), 200),
        "/prompt": 400,
        "/ws": 101,
    }
    assert set(statuses(comfy, png, {}).values()) == {401}
    assert set(statuses(comfy, png, user).values()) == {403}
    assert statuses(comfy, png, root) == let_in
    assert statuses(comfy, png, {"Authorization": f"Basic {password}"}) == let_in

    # Our own port knows nothing of ComfyUI, whatever the key.
    for path in ("/prompt", "/queue", "/ws", "/upload/image", "/api/queue", "/view"):
        assert requests.get(own + path, headers=root, timeout=30).status_code == 404
    assert requests.get(f"{own}/", timeout=30).json()["name"] == "ComfyUI Unified API Service"
    assert requests.get(f"{own}/api/v1/jobs", timeout=30).status_code == 401

    # A job goes through it to the end.
    accepted = requests.post(f"{own}/api/v1/probe/jobs", json={}, headers=user, timeout=30)
    assert accepted.status_code == 202
    at = own + accepted.headers["Location"]

    def final() -> dict[str, object] | None:
        job = dict(requests.get(at, headers=user, timeout=30).json())
        return job if job["status"] in {"completed", "failed"} else None

    assert wait_until(final)["status"] == "completed"
    assert comfy.get("/api/v1/jobs", headers=user).json()["data"][0]["job_id"] in at
    log = comfy.log.read_text()
    assert "key=user" in log
    assert "uak_" not in log

    key_command(base, "revoke", "user")
    assert requests.get(at, headers=user, timeout=30).status_code == 401


def test_a_port_that_is_taken_is_told_and_comfyui_lives(start_comfy: StartComfy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        comfy = start_comfy(UNIFIED_API_PORT=str(port))

        health = comfy.get("/health")

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    listener = health.json()["components"]["listener"]
    assert listener["status"] == "unhealthy"
    assert str(port) in listener["reason"]
    assert comfy.finished(comfy.submit("probe"))["status"] == "completed"
