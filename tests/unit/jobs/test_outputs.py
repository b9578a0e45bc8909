"""Files that ComfyUI left in, published results out: all of them, once, unchanged."""

import errno
import hashlib
import os
import shutil
from contextlib import nullcontext

import pytest
from unified_api.jobs.errors import NoOutput, OutputLost, PublishFailed
from unified_api.jobs.job import Job, Rendered
from unified_api.jobs.outputs import LocalResults, chosen, intact, sha256_of
from unified_api.jobs.prompt import Produced


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


@pytest.fixture
async def results(folder):
    results = LocalResults(folder)
    await results.open()
    return results


@pytest.fixture
def file(tmp_path, picture):
    def write(name="a.png", content=None):
        path = tmp_path / "output" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content or picture("teal"))
        return path

    return write


def produced(node_id, path, *, is_preview=False):
    return Produced(node_id, path, is_preview=is_preview)


def job_with(*files):
    """A job that is to be published."""
    rendered = tuple(Rendered(name="image", path=path, sha256=sha256_of(path)) for path in files)
    job = Job(job_id="a", workflow="draw", parameters={}, created_at=0.0)
    return job.fetching(now=0.0).running(now=0.0).publishing(rendered, run_ms=0)


async def test_a_result_is_published_with_all_that_can_be_told(results, file):
    content = file().read_bytes()
    job = job_with(file())

    (output,) = await results.publish(job)

    assert output.model_dump() == {
        "name": "image",
        "s3_uri": None,
        "content_type": "image/png",
        "size": len(content),
        "width": 8,
        "height": 6,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    done = job.completed((output,), now=0.0, publish_ms=0)
    assert results.path(done, 0).read_bytes() == content


async def test_many_files_of_any_kind_keep_their_order_and_get_fitting_names(results, file):
    contents = {"b.mp4": b"\0\0\0\x20ftypisom", "a.png": None, "c.txt": b"text"}
    paths = [file(name, content) for name, content in contents.items()]
    job = job_with(*paths)

    outputs = await results.publish(job)

    done = job.completed(outputs, now=0.0, publish_ms=0)
    assert [output.content_type for output in outputs] == [
        "video/mp4",
        "image/png",
        "application/octet-stream",
    ]
    assert [results.path(done, n).name for n in range(3)] == ["0.mp4", "1.png", "2.bin"]
    assert [results.path(done, n).read_bytes() for n in range(3)] == [
        path.read_bytes() for path in paths
    ]


@pytest.mark.skipif(os.name != "posix", reason="Windows flushes no folders")
async def test_a_published_result_outlasts_a_power_cut(results, folder, file, monkeypatch):
    flushed = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(os.fstat(fd).st_ino), flush(fd)))
    job = job_with(file())

    await results.publish(job)

    published = [folder, *(folder / job.job_id).iterdir(), folder / job.job_id]
    assert {path.stat().st_ino for path in published} == set(flushed)


@pytest.mark.skipif(os.name != "posix", reason="Windows flushes no folders")
@pytest.mark.parametrize(("number", "is_published"), [(errno.EINVAL, True), (errno.EIO, False)])
async def test_a_disk_that_knows_no_flushing_is_no_failure(
    results, file, monkeypatch, number, is_published
):
    def refuse(_):
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    job = job_with(file())

    with nullcontext() if is_published else pytest.raises(PublishFailed):
        assert await results.publish(job)


async def test_what_was_published_stays_as_it_is(results, file, picture):
    first = await results.publish(job_with(file()))
    other = job_with(file("other.png", picture("red")))

    again = await results.publish(other)

    assert again == first
    assert await results.find(other) == first


async def test_what_was_not_published_is_not_found(results, file):
    assert await results.find(job_with(file())) is None


async def test_a_result_is_found_by_a_later_process(results, folder, file):
    job = job_with(file())
    outputs = await results.publish(job)
    later = LocalResults(folder)
    await later.open()

    assert await later.find(job) == outputs


async def test_a_published_result_needs_the_rendered_file_no_more(results, file):
    job = job_with(file())
    outputs = await results.publish(job)
    content = file().read_bytes()

    file().unlink()

    assert results.path(job.completed(outputs, now=0.0, publish_ms=0), 0).read_bytes() == content


@pytest.mark.parametrize("change", ["changed", "gone"])
async def test_a_file_that_is_not_what_it_was_is_not_published(results, folder, file, change):
    kept, lost = file("a.png"), file("b.png")
    job = job_with(kept, lost)
    lost.write_bytes(b"torn") if change == "changed" else lost.unlink()

    with pytest.raises(OutputLost):
        await results.publish(job)

    assert await results.find(job) is None
    assert not (folder / job.job_id).exists()


async def test_what_a_dead_process_began_to_publish_is_not_there_and_in_nobodys_way(
    results, folder, file
):
    job = job_with(file())
    begun = folder / f".{job.job_id}.part"
    begun.mkdir()
    (begun / "0.png").write_bytes(b"half")

    assert await results.find(job) is None

    (output,) = await results.publish(job)
    done = job.completed((output,), now=0.0, publish_ms=0)
    assert results.path(done, 0).stat().st_size == output.size
    assert not begun.exists()


async def test_a_disk_that_refuses_is_a_failure_with_a_name(results, folder, file):
    job = job_with(file())
    shutil.rmtree(folder)

    with pytest.raises(PublishFailed) as failed:
        await results.publish(job)

    assert str(folder) not in str(failed.value)


def test_the_named_outputs_come_first_in_the_order_of_their_names(file):
    found = {node: produced(node, file(f"{node}.png")) for node in "1234"}

    files = chosen(list(found.values()), {"main": "4", "mask": "2"})

    assert files == [
        ("main", found["4"]),
        ("mask", found["2"]),
        ("1", found["1"]),
        ("3", found["3"]),
    ]


def test_files_of_one_node_keep_their_order(file):
    found = [produced("1", file(name)) for name in ("c.png", "a.png", "b.png")]

    assert chosen(found, {"image": "1"}) == [("image", each) for each in found]


def test_a_preview_counts_only_for_a_named_output(file):
    saved = produced("1", file("a.png"))
    named = produced("2", file("b.png"), is_preview=True)
    other = produced("3", file("c.png"), is_preview=True)

    assert chosen([saved, named, other], {"image": "2"}) == [("image", named), ("1", saved)]


def test_a_prompt_that_left_only_previews_has_no_output(file):
    with pytest.raises(NoOutput):
        chosen([produced("3", file(), is_preview=True)], {"image": "1"})
    with pytest.raises(NoOutput):
        chosen([], {"image": "1"})


async def test_rendered_files_are_intact_while_nothing_changes(file):
    job = job_with(file("a.png"), file("b.png"))

    assert await intact(job.rendered)
    file("b.png", b"torn")
    assert not await intact(job.rendered)
    assert not await intact(())


async def test_the_result_of_one_source_is_not_that_of_another(results, file, picture):
    mine = job_with(file(content=picture("teal")))
    task = job_with(file("b.png", picture("red"))).shared(table="one")
    task = task.publishing(job_with(file("b.png", picture("red"))).rendered, run_ms=1)
    other = task.shared(table="two")
    assert mine.job_id == task.job_id
    (published,) = await results.publish(mine)

    assert await results.find(task) is None
    (of_task,) = await results.publish(task)
    assert await results.find(other) is None
    await results.remove(task)

    assert of_task.sha256 != published.sha256
    assert await results.find(mine) == (published,)


async def test_the_result_that_an_earlier_version_kept_of_a_task_is_still_there(
    results, folder, file
):
    job = job_with(file()).model_copy(update={"is_shared": True})

    published = await results.publish(job)

    assert await results.find(job) == published
    done = job.completed(published, now=1.0, publish_ms=0)
    assert results.path(done, 0) == folder / job.job_id / "0.png"
