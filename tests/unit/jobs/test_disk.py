"""Work stops before a disk is full."""

import asyncio

from unified_api.jobs.disk import Disk

from ..fake_host import until


def test_a_disk_with_room_has_no_problem(tmp_path):
    disk = Disk({"results": tmp_path}, min_free_bytes=1)

    disk.look()

    assert disk.problem is None


def test_a_disk_without_room_is_told_by_the_name_of_its_folder(tmp_path):
    disk = Disk({"results": tmp_path / "not" / "there" / "yet"}, min_free_bytes=2**80)

    disk.look()

    assert "results" in disk.problem
    assert "UNIFIED_API_MIN_FREE_BYTES" in disk.problem
    assert str(tmp_path) not in disk.problem


async def test_it_is_looked_at_again_and_again(tmp_path):
    folders = {"results": tmp_path}
    disk = Disk(folders, min_free_bytes=1, look_seconds=0.01)
    looking = asyncio.ensure_future(disk.keep_looking())

    folders["results"] = tmp_path / ("x" * 5000)
    await until(lambda: disk.problem)

    folders["results"] = tmp_path
    await until(lambda: disk.problem is None)
    looking.cancel()
