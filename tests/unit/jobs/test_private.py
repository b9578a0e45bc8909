"""Other users of the machine read nothing of ours, whatever the umask is and was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unified_api.jobs.comfyui.saved import saved
from unified_api.jobs.errors import PublishFailed
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.private import (
    close_file,
    close_folder,
    make_private_file,
    make_private_folder,
    write_private_file,
)

from ..fake_host import painted

OTHERS = 0o077

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The usual one, which lets everybody read."""
    earlier = os.umask(0o022)
    yield
    os.umask(earlier)


def modes_below(folder: Path) -> dict[str, int]:
    """What others may do with each file and folder, ComfyUI's own ones left out."""
    found = [folder, *folder.rglob("*")]
    return {
        path.relative_to(folder.parent).as_posix(): path.lstat().st_mode & OTHERS for path in found
    }


def open_to_others(folder: Path) -> dict[str, int]:
    return {name: mode for name, mode in modes_below(folder).items() if mode}


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def upload(engine):
    async def content():
        yield painted("red")

    return (await engine.stage_upload(content(), None)).reference


async def test_nothing_that_jobs_leave_is_open_to_others(bench, tmp_path, gallery):
    engine = await bench.open()
    url = gallery.hang("/a.png", painted("navy", kind="WEBP"))
    bodies = [
        ("draw", {"text": "a"}),
        ("draw", {"text": "b", "output_format": "webp"}),
        ("edit", {"image_url": url}),
        ("edit", {"image_url": await upload(engine)}),
    ]
    submitted = [await engine.submit(slug, body) for slug, body in bodies]
    jobs = [await bench.ended(engine, each.job) for each in submitted]
    for job in jobs:
        assert await engine.thumbnail(job, 0)

    folders = [bench.store_path.parent, bench.results_folder, bench.thumbnails_folder]
    folders += [tmp_path / "input" / "unified_api", tmp_path / "output" / "unified_api"]
    left = {folder.name: open_to_others(folder) for folder in folders}

    assert [job.status.value for job in jobs] == ["completed"] * 4
    names = {name for folder in folders for name in modes_below(folder)}
    assert {"user/jobs.sqlite3", "user/jobs.sqlite3-wal", "user/jobs.sqlite3-shm"} <= names
    assert {"user/jobs.lock", f"results/{jobs[0].job_id}/outputs.json"} <= names
    assert sum(name.startswith("thumbnails/") for name in names) == 4
    assert sum(name.startswith("unified_api/") for name in names) >= 2
    assert not any(left.values()), left


class Away(LocalResults):
    async def publish(self, job):
        raise PublishFailed()


async def test_what_waits_to_be_published_is_not_open_to_others(bench, tmp_path):
    engine = await bench.open(results=Away(bench.results_folder))
    submitted = await engine.submit("draw", {"text": "a", "output_format": "webp"})
    folder = tmp_path / "output" / "unified_api"
    finished = folder / submitted.job.job_id / "finished"
    await bench.until(lambda: (finished / "0").exists() and not open_to_others(finished))

    assert mode_of(folder) == 0o700
    assert [mode_of(finished), mode_of(finished / "0")] == [0o700, 0o600]


async def test_what_an_older_version_left_open_is_closed_at_the_start(bench, tmp_path):
    engine = await bench.open()
    await bench.ended(engine, (await engine.submit("draw", {"text": "old"})).job)
    await bench.crash(engine)
    top = [bench.store_path.parent, bench.results_folder, tmp_path / "input" / "unified_api"]
    top.append(tmp_path / "output" / "unified_api")
    keys = bench.store_path.parent / "keys.json"
    keys.write_text("[]")
    for path in (*top, *bench.store_path.parent.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)

    await bench.open()

    assert [mode_of(folder) for folder in top] == [0o700] * 4
    assert open_to_others(bench.store_path.parent) == {}
    assert mode_of(keys) == 0o600


async def test_a_start_looks_at_no_result(bench):
    """There may be 100,000: their folder protects them."""
    engine = await bench.open()
    job = await bench.ended(engine, (await engine.submit("draw", {"text": "old"})).job)
    await bench.crash(engine)
    (bench.results_folder / job.job_id).chmod(0o755)

    await bench.open()

    assert mode_of(bench.results_folder / job.job_id) == 0o755
    assert mode_of(bench.results_folder) == 0o700


def test_a_folder_is_made_with_the_parents_it_lacks(tmp_path):
    make_private_folder(tmp_path / "a" / "b")

    assert [mode_of(tmp_path / name) for name in ("a", "a/b")] == [0o700, 0o700]


def test_parents_that_are_there_are_left_alone(tmp_path):
    (tmp_path / "comfyui").mkdir()

    make_private_folder(tmp_path / "comfyui" / "ours")

    assert mode_of(tmp_path / "comfyui") == 0o755


def test_what_a_link_leads_to_is_left_alone(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    links = [tmp_path / "to a folder", tmp_path / "to a file"]
    links[0].symlink_to(folder)
    links[1].symlink_to(file)

    make_private_folder(links[0])
    close_file(links[1])
    make_private_file(links[1])

    assert (mode_of(folder), mode_of(file)) == (0o755, 0o644)


def test_what_the_owner_may_not_do_stays_so(tmp_path):
    file = tmp_path / "file"
    file.touch(mode=0o444)

    close_file(file)

    assert mode_of(file) == 0o400


def test_what_is_not_there_is_no_error(tmp_path):
    close_file(tmp_path / "nothing")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT TESTED: as root")
def test_a_folder_of_somebody_else_is_told_and_used(tmp_path, caplog):
    folder = tmp_path / "theirs"
    folder.mkdir()
    nobody = 65534
    os.seteuid(nobody)
    try:
        close_folder(folder)
    finally:
        os.seteuid(0)

    assert "other users may be able to read" in caplog.text


def test_a_file_is_private_from_its_first_moment(tmp_path):
    write_private_file(tmp_path / "a", b"content")
    make_private_file(tmp_path / "b")

    assert (tmp_path / "a").read_bytes() == b"content"
    assert [mode_of(tmp_path / name) for name in "ab"] == [0o600, 0o600]


def test_the_copy_of_what_a_node_saved_elsewhere_is_private(tmp_path):
    (tmp_path / "fixed.png").write_bytes(painted("teal"))
    own = tmp_path / "unified_api" / "job" / "1"
    entry = {"filename": "fixed.png", "subfolder": "", "type": "output"}

    (produced,) = saved({"1": {"images": [entry]}}, lambda kind: tmp_path, own=own)

    assert produced.content.is_relative_to(own)
    assert open_to_others(tmp_path / "unified_api") == {}
    assert mode_of(tmp_path / "fixed.png") == 0o644


async def test_locks_of_the_store_outlast_another_start(bench):
    """To close a descriptor of a file drops all locks of the process on it."""
    first = await bench.open()

    second = await bench.open()

    assert first.is_ready
    assert "loaded the plugin twice" in str(second.components()["store"].reason)
    third = await bench.open()
    assert "loaded the plugin twice" in str(third.components()["store"].reason)
