"""Work stops before a disk is full."""

from unified_api.jobs.disk import Disk


def test_a_disk_with_room_has_no_problem(tmp_path):
    assert Disk({"results": tmp_path}, min_free_bytes=1).problem is None


def test_a_disk_without_room_is_told_by_the_name_of_its_folder(tmp_path):
    disk = Disk({"results": tmp_path / "not" / "there" / "yet"}, min_free_bytes=2**80)

    assert "results" in disk.problem
    assert "UNIFIED_API_MIN_FREE_BYTES" in disk.problem
    assert str(tmp_path) not in disk.problem
