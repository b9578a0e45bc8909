"""Small files in a folder of bounded size: the least recently used go first."""

from __future__ import annotations

import os

import pytest
from unified_api.jobs.file_cache import DIGEST_BYTES, FileCache

#: Of each file of these tests.
FILE_BYTES = DIGEST_BYTES + 10


def content_of(name):
    return name.encode().ljust(10, b".")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "user" / "small"


@pytest.fixture
def open_cache(folder):
    """A cache on the folder as a process has it that starts now, with room for some files."""
    return lambda *, files: FileCache(folder, max_bytes=files * FILE_BYTES)


def fill(cache, *names):
    for name in names:
        cache.write(name, content_of(name))


def age(folder, *names):
    """As if they were used long ago, in this order."""
    for seconds, name in enumerate(names):
        os.utime(folder / name, (seconds, seconds))


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_what_is_written_is_read_also_by_the_next_process(open_cache):
    fill(open_cache(files=2), "a", "b")

    later = open_cache(files=2)

    assert [later.read(name) for name in "abc"] == [content_of("a"), content_of("b"), None]


def test_an_empty_content_is_kept_too(open_cache):
    open_cache(files=1).write("a", b"")

    assert open_cache(files=1).read("a") == b""


def test_what_was_written_longest_ago_goes_first(open_cache, folder):
    fill(open_cache(files=2), "a", "b", "c")

    assert names_in(folder) == {"b", "c"}


def test_what_is_read_stays_longer(open_cache, folder):
    cache = open_cache(files=2)
    fill(cache, "a", "b")

    cache.read("a")
    fill(cache, "c")

    assert names_in(folder) == {"a", "c"}


def test_what_is_written_again_counts_once(open_cache, folder):
    fill(open_cache(files=2), "a", "b", "b", "b")

    assert names_in(folder) == {"a", "b"}


def test_what_is_removed_makes_room(open_cache, folder):
    cache = open_cache(files=2)
    fill(cache, "a", "b")

    cache.remove("b")
    fill(cache, "c")

    assert names_in(folder) == {"a", "c"}


def test_what_is_not_there_is_removed(open_cache):
    open_cache(files=2).remove("a")


def test_what_is_larger_than_all_room_is_not_kept(open_cache, folder):
    open_cache(files=1).write("a", b"." * FILE_BYTES)

    assert names_in(folder) == set()


def test_the_bound_holds_over_a_restart(open_cache, folder):
    fill(open_cache(files=3), "a", "b", "c")
    age(folder, "b", "c", "a")

    fill(open_cache(files=3), "d")

    assert names_in(folder) == {"c", "a", "d"}


def test_a_restart_remembers_what_was_read(open_cache, folder):
    fill(open_cache(files=2), "a", "b")
    age(folder, "a", "b")
    open_cache(files=2).read("a")

    fill(open_cache(files=2), "c")

    assert names_in(folder) == {"a", "c"}


def test_a_smaller_bound_is_kept_without_a_new_file(open_cache, folder):
    fill(open_cache(files=3), "a", "b", "c")
    age(folder, "a", "b", "c")

    open_cache(files=1).trim()

    assert names_in(folder) == {"c"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: DIGEST_BYTES - 1],
        lambda whole: bytes(len(whole)),
        lambda whole: whole[:-1] + b"\0",
    ],
)
def test_a_file_that_a_crash_left_half_written_is_not_read_and_is_replaced(
    open_cache, folder, damage
):
    fill(open_cache(files=2), "a")
    path = folder / "a"
    path.write_bytes(damage(path.read_bytes()))
    cache = open_cache(files=2)

    assert cache.read("a") is None

    fill(cache, "a", "b")
    assert [cache.read(name) for name in "ab"] == [content_of("a"), content_of("b")]


def test_the_rest_of_a_file_that_did_not_fit_on_the_disk_counts(open_cache, folder):
    fill(open_cache(files=2), "a")
    (folder / "half").write_bytes(b"." * FILE_BYTES)
    age(folder, "half", "a")

    fill(open_cache(files=2), "b")

    assert names_in(folder) == {"a", "b"}


def test_nothing_is_added_while_nothing_can_be_deleted(open_cache, folder):
    cache = open_cache(files=1)
    fill(cache, "a")
    (folder / "a").unlink()
    (folder / "a").mkdir()

    for name in "bc":
        with pytest.raises((IsADirectoryError, PermissionError)):
            fill(cache, name)

    assert names_in(folder) == {"a"}


def test_a_folder_that_is_deleted_meanwhile_is_made_again(open_cache, folder):
    cache = open_cache(files=2)
    fill(cache, "a")
    (folder / "a").unlink()
    folder.rmdir()

    assert cache.read("a") is None

    fill(cache, "b")
    assert cache.read("b") == content_of("b")


def test_a_folder_of_somebody_else_in_it_is_left_alone(open_cache, folder):
    (folder / "other").mkdir(parents=True)

    fill(open_cache(files=0), "a")

    assert names_in(folder) == {"other"}


def test_a_file_in_the_place_of_the_folder_is_told_and_left_alone(open_cache, folder):
    folder.parent.mkdir()
    folder.write_text("not ours")
    cache = open_cache(files=1)

    with pytest.raises(NotADirectoryError):
        cache.read("a")
    with pytest.raises(FileExistsError):
        cache.write("a", b"a")
    cache.remove("a")

    assert folder.read_text() == "not ours"
