"""The lock of a real ComfyUI comes before what other custom nodes put into its web server."""

from collections.abc import Callable
from pathlib import Path

import pytest
from comfy_process import ComfyProcess
from conftest import EACH_VERSION, StartComfy
from test_door import HANDSHAKE, key_command

INTRUDER = "zz_intruder_nodes"


@pytest.fixture
def intruded(start_comfy: StartComfy, tmp_path: Path) -> Callable[..., ComfyProcess]:
    """A locked ComfyUI with a custom node that wants to come first."""

    def start(version: str, **environment: str) -> ComfyProcess:
        base = tmp_path / "base"
        return start_comfy(
            version, base, nodes=(INTRUDER,), UNIFIED_API_PROTECT="all", **environment
        )

    return start


def lock_of(comfy: ComfyProcess, headers: dict[str, str]) -> dict[str, str]:
    return dict(comfy.get("/health", headers=headers).json()["components"]["lock"])


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def statuses(comfy: ComfyProcess, headers: dict[str, str]) -> set[int]:
    """How what the middlewares of the intruder answer is answered."""
    websocket = {**HANDSHAKE, **headers}
    replies = [
        *(comfy.get(f"/{name}", headers=headers) for name in ("loaded", "startup")),
        *(
            comfy.get(f"/{name}/ws", headers=websocket, stream=True)
            for name in ("loaded", "startup")
        ),
    ]
    return {200 if reply.status_code == 101 else reply.status_code for reply in replies}


@pytest.mark.parametrize("version", EACH_VERSION)
def test_no_middleware_of_a_custom_node_answers_before_the_lock(
    intruded: Callable[..., ComfyProcess], version: str
) -> None:
    comfy = intruded(version)
    without_keys = statuses(comfy, {})
    root = bearer(key_command(comfy.base, "add", "root", "--scopes", "admin"))
    user = bearer(key_command(comfy.base, "add", "user"))

    inserted = (comfy.base / "intruder.txt").read_text().split("\n")
    assert [line.split(" ")[0] for line in inserted if line] == ["loaded", "startup"]
    assert without_keys == {503}
    assert statuses(comfy, {}) == {401}
    assert statuses(comfy, user) == {403}
    assert statuses(comfy, root) == {200}
    assert lock_of(comfy, root) == {"status": "healthy", "reason": None}
    assert "ComfyUI is locked" in comfy.log.read_text()


def test_what_wraps_all_requests_is_told(intruded: Callable[..., ComfyProcess]) -> None:
    comfy = intruded("0.30.0", INTRUDER_WRAPS="1")
    root = bearer(key_command(comfy.base, "add", "root", "--scopes", "admin"))

    told = lock_of(comfy, root)

    assert comfy.get("/wrapped").text == "intruded"
    assert told["status"] == "degraded"
    assert f"{INTRUDER}.wrap.<locals>.intruding comes before the lock" in told["reason"]
    assert str(comfy.base) not in told["reason"]
    assert "UNIFIED_API_PROTECT=all does not hold" in comfy.log.read_text()
    assert comfy.get("/health", headers=root).json()["status"] == "degraded"


def test_keys_that_vanish_leave_a_comfyui_shut_until_the_command_opens_it(
    start_comfy: StartComfy, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    comfy = start_comfy(base=base)
    forwarded = {"X-Forwarded-For": "203.0.113.7"}
    before = [comfy.get("/api/v1/jobs", headers=given).status_code for given in ({}, forwarded)]
    key_command(base, "add", "root", "--scopes", "admin")
    keyed = comfy.get("/api/v1/jobs").status_code

    (comfy.user_folder / "keys.json").unlink()
    gone = comfy.get("/api/v1/jobs")
    comfy.stop()
    restarted = start_comfy(base=base)
    still_gone = restarted.get("/api/v1/jobs")
    key_command(base, "open", "--yes")

    assert before == [200, 503]
    assert keyed == 401
    assert (gone.status_code, gone.json()["code"]) == (503, "auth_not_configured")
    assert "./install.sh key open" in gone.json()["detail"]
    assert still_gone.json()["code"] == "auth_not_configured"
    assert "keys is degraded: This server has had API keys" in restarted.log.read_text()
    assert restarted.get("/api/v1/jobs").status_code == 200
