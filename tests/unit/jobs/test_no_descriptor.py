"""A machine that can open no file for a while: nothing is damaged or gone for that."""

import errno
import os
import sqlite3

import aiohttp
import pytest
from unified_api.jobs.comfyui.saved import saved
from unified_api.jobs.egress.fetch import Fetcher, FetchLimits
from unified_api.jobs.egress.guard import Guard, Place
from unified_api.jobs.errors import (
    DiskFull,
    NoRoom,
    PublishFailed,
    StorageUnavailable,
    UnknownOutput,
    refused_by_disk,
)
from unified_api.jobs.file_cache import FileCache
from unified_api.jobs.job import Job, Output
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.pictures.encode import convert
from unified_api.jobs.pictures.normalise import normalise
from unified_api.jobs.store import Store
from unified_api.workflows import is_file
from yarl import URL

from tests.common.descriptors import no_descriptor_left

OUTPUT = Output(name="image", content_type="image/png", size=1, sha256="0" * 64)
DONE = Job(job_id="a", workflow="draw", parameters={}, created_at=0.0, outputs=(OUTPUT,))

#: As SQLite and as the system say it.
NOT_OPENED = f"unable to open|{os.strerror(errno.EMFILE)}"


async def test_a_published_result_is_neither_lost_nor_unknown(tmp_path):
    results = LocalResults(tmp_path)
    await results.open()

    with no_descriptor_left():
        with pytest.raises(PublishFailed):
            await results.find(DONE)
        with pytest.raises(StorageUnavailable):
            await results.read(DONE, 0)

    assert await results.find(DONE) is None
    with pytest.raises(UnknownOutput):
        await results.read(DONE, 0)


async def test_a_picture_on_another_server_is_not_out_of_reach_for_good(gallery):
    url = URL(gallery.hang("/a.png", b"x"))
    fetcher = Fetcher(Guard(allow=[Place.of(url)]), FetchLimits(10, pause_seconds=0))
    await fetcher.open()

    with no_descriptor_left(), pytest.raises(OSError, match=os.strerror(errno.EMFILE)) as refused:
        await fetcher.fetch(str(url), read)

    assert not isinstance(refused.value, aiohttp.ClientError)
    await fetcher.close()


async def read(chunks):
    return b"".join([chunk async for chunk in chunks])


async def test_a_job_whose_picture_cannot_be_fetched_for_a_while_is_tried_again(
    bench, gallery, picture, caplog
):
    url = gallery.hang("/a.png", picture("red"))
    engine = await bench.open()

    with no_descriptor_left():
        job = (await engine.submit("edit", {"image_url": url})).job
        await bench.until(lambda: "is tried again" in caplog.text)

    assert (await bench.ended(engine, job)).status.value == "completed"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_picture_that_cannot_be_read_for_a_while_is_not_damaged(
    tmp_path, picture, monkeypatch, number
):
    path = tmp_path / "a.png"
    path.write_bytes(picture("red"))

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        normalise(path, max_pixels=100)
    with pytest.raises(OSError, match=os.strerror(number)):
        convert(path, tmp_path / "b.png", format="png", quality=90)


def test_what_a_node_saved_is_there(tmp_path, monkeypatch):
    outputs = {"2": {"images": [{"filename": "a.png", "type": "output"}]}}
    (tmp_path / "a.png").write_bytes(b"x")

    def found():
        return list(saved(outputs, lambda _: tmp_path, own=tmp_path))

    assert len(found()) == 1
    monkeypatch.setattr("pathlib.Path.stat", refusing(errno.EIO))
    with pytest.raises(OSError, match="refused"):
        found()


def refusing(number):
    def refuse(path, **_):
        raise OSError(number, "refused", str(path))

    return refuse


@pytest.mark.parametrize(
    ("number", "answer"), [(errno.ENOENT, False), (errno.ENOTDIR, False), (errno.EIO, None)]
)
def test_only_what_the_system_says_is_missing_is_missing(tmp_path, monkeypatch, number, answer):
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.stat", refusing(number))
        if answer is None:
            with pytest.raises(OSError, match="refused"):
                is_file(tmp_path)
        else:
            assert is_file(tmp_path) is answer


async def test_a_store_that_cannot_be_opened_is_not_in_use(tmp_path):
    store = Store(tmp_path / "jobs.sqlite3")

    with no_descriptor_left(), pytest.raises((sqlite3.OperationalError, OSError), match=NOT_OPENED):
        await store.open()

    await store.open()
    await store.close()


def test_a_cache_that_could_not_be_listed_is_listed_the_next_time(tmp_path):
    FileCache(tmp_path, max_bytes=100).write("a", b"x" * 60)
    cache = FileCache(tmp_path, max_bytes=100)

    with no_descriptor_left(), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        cache.trim()
    cache.write("b", b"x" * 60)

    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoRoom),
        (errno.EDQUOT, NoRoom),
        (errno.EMFILE, StorageUnavailable),
        (errno.EIO, StorageUnavailable),
    ],
)
def test_only_a_full_disk_is_full(number, kind):
    assert type(refused_by_disk(OSError(number, "refused"))) is kind


def test_a_job_that_the_disk_refuses_is_told_why_without_a_path():
    failure = DiskFull.of(OSError(errno.EMFILE, "Too many open files", "/a/b"))

    assert (failure.code, failure.retryable) == ("disk_full", True)
    assert "too many open files" in str(failure)
    assert "/a/b" not in str(failure)
