"""What the machine does to us: a full disk, a damaged store, a second process, a wrong clock."""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from comfy_process import DEFINITIONS, ROOT, ComfyProcess, wait_until
from conftest import NEWEST, StartComfy
from forked import ForkedComfy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB, as the base folder of a ComfyUI."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full disk needs the right to mount a small one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def component(comfy: ComfyProcess, name: str) -> dict[str, Any]:
    return dict(comfy.get("/health").json()["components"][name])


def refused(comfy: ComfyProcess) -> tuple[int, str]:
    response = comfy.post("/api/v1/probe/jobs", json={})
    return response.status_code, response.json()["code"]


def fill(folder: Path) -> Path:
    """Leave no room in ``folder``, whatever ComfyUI writes to it meanwhile."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(64 << 10)):
            pass
    return ballast


def test_a_full_disk_refuses_new_jobs_loses_none_and_recovers(
    start_comfy: StartComfy, small_disk: Path
) -> None:
    comfy = start_comfy(base=small_disk, UNIFIED_API_MIN_FREE_BYTES=str(1 << 20))
    running = comfy.submit("probe", {"seconds": 3, "steps": 30})
    waiting = [comfy.submit("probe") for _ in range(3)]
    comfy.wait_for_node(running)

    ballast = fill(small_disk)
    wait_until(lambda: component(comfy, "disk")["status"] == "degraded")

    assert refused(comfy) == (507, "no_room")
    assert "Make room" in component(comfy, "disk")["reason"]
    assert comfy.get("/ready").status_code == 503
    time.sleep(4)  # the running job meets the full disk
    ballast.unlink()
    for job_id in (running, *waiting):
        assert comfy.finished(job_id)["status"] == "completed", comfy.job(job_id)
    assert list((small_disk / "input" / "unified_api").glob("*.part")) == []


def test_a_locked_store_delays_and_loses_nothing(newest: ComfyProcess) -> None:
    locker = sqlite3.connect(newest.user_folder / "jobs.sqlite3", isolation_level=None)
    running = newest.submit("probe", {"seconds": 1, "steps": 10})
    newest.wait_for_node(running)

    locker.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    while time.monotonic() - began < 2:
        assert newest.job(running)["status"] == "processing"
    locker.execute("COMMIT")

    assert newest.finished(running)["status"] == "completed"
    locker.close()


def test_a_damaged_store_is_left_as_it_is_until_told_otherwise(start_comfy: StartComfy) -> None:
    comfy = start_comfy()
    comfy.finished(comfy.submit("probe"))
    comfy.stop()
    store = comfy.user_folder / "jobs.sqlite3"
    damaged = b"not a database at all" * 1000
    store.write_bytes(damaged)
    # What the log of the database still holds would mend the damage.
    store.with_name("jobs.sqlite3-wal").unlink()

    comfy.start()
    assert refused(comfy) == (503, "not_ready")
    assert "UNIFIED_API_RESET_STORE" in component(comfy, "store")["reason"]
    assert str(comfy.base) not in comfy.get("/health").text
    assert comfy.get("/health").status_code == 503
    assert store.read_bytes() == damaged
    comfy.stop()

    comfy.environment["UNIFIED_API_RESET_STORE"] = "1"
    comfy.start()
    assert comfy.finished(comfy.submit("probe"))["status"] == "completed"
    (aside,) = comfy.user_folder.glob("jobs.sqlite3.damaged-*")
    assert aside.read_bytes() == damaged


def test_a_second_process_on_the_same_store_takes_no_jobs(
    newest: ComfyProcess, start_comfy: StartComfy
) -> None:
    second = start_comfy(base=newest.base)

    assert refused(second) == (503, "not_ready")
    assert "another ComfyUI process" in component(second, "store")["reason"]
    assert newest.finished(newest.submit("probe"))["status"] == "completed"


def test_a_second_copy_of_the_plugin_is_told_and_the_first_works(
    start_comfy: StartComfy, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "another-copy").symlink_to(ROOT, target_is_directory=True)

    comfy = start_comfy(base=base, nodes=("another-copy",))

    assert "loaded the plugin twice" in comfy.log.read_text()
    assert comfy.finished(comfy.submit("probe"))["status"] == "completed"


def test_a_store_that_cannot_be_written_refuses_jobs_in_clear_words(
    start_comfy: StartComfy, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    (base / "user").mkdir(parents=True)
    (base / "user" / "unified_api").mkdir()
    (base / "user" / "unified_api" / "jobs.sqlite3").mkdir()

    comfy = start_comfy(base=base)

    assert refused(comfy) == (503, "not_ready")
    assert component(comfy, "store")["reason"].startswith("No jobs are accepted:")


def test_a_read_only_store_refuses_jobs_in_clear_words(tmp_path: Path, small_disk: Path) -> None:
    comfy = ForkedComfy(NEWEST, tmp_path / "base")
    shutil.rmtree(comfy.user_folder)
    comfy.user_folder.symlink_to(small_disk, target_is_directory=True)
    (comfy.user_folder / "workflows").symlink_to(DEFINITIONS)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    comfy.start()

    assert refused(comfy) == (503, "not_ready")
    assert "No jobs are accepted" in component(comfy, "store")["reason"]
    comfy.kill()


@pytest.mark.parametrize("jump", ["-1h", "+1h"])
def test_a_clock_that_jumps_loses_and_delays_nothing(
    start_comfy: StartComfy, tmp_path: Path, jump: str
) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        pytest.skip("NOT TESTED: a jumping clock needs libfaketime (Debian: faketime)")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    comfy = start_comfy(
        kind=ComfyProcess,
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    running = comfy.submit("probe", {"seconds": 3, "steps": 30})
    comfy.wait_for_node(running)
    vanishing = comfy.submit("probe")
    wait_until(lambda: comfy.prompts_held() == 2)
    comfy.post("/queue", json={"clear": True})

    wait_until(lambda: comfy.prompts_held() == 1)
    clock.write_text(jump)

    for job_id in (running, vanishing):
        job = comfy.finished(job_id, seconds=30)
        assert job["status"] == "completed", job
        # How long it waited is a difference of wall clocks, since it may span a restart.
        assert all(job["timings"][part] < 60_000 for part in ("inputs_ms", "run_ms", "publish_ms"))


def test_memory_stays_flat_over_many_jobs(newest: ComfyProcess) -> None:
    def resident_mb_after(jobs: int) -> float:
        submitted = [newest.submit("many-outputs") for _ in range(jobs)]
        assert {newest.finished(job)["status"] for job in submitted} == {"completed"}
        return newest.resident_mb

    before = resident_mb_after(60)

    assert resident_mb_after(120) - before < 40
