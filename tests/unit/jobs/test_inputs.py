"""References in, verified pictures in ComfyUI's input folder out."""

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from unified_api.jobs.errors import ForbiddenSource, InputFetchFailed, InputInvalid
from unified_api.jobs.inputs import FILES_AT_ONCE, Inputs
from unified_api.jobs.owners import owned_name

from ..fake_host import until


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "input"


@pytest.fixture
async def make_inputs(folder, settings, gallery):
    opened = []

    async def make(**limits):
        inputs = Inputs(folder, settings(**{"allow_hosts": gallery.place, **limits}))
        opened.append(inputs)
        await inputs.open()
        return inputs

    yield make
    for inputs in opened:
        await inputs.close()


@pytest.fixture
async def inputs(make_inputs):
    return await make_inputs()


async def chunks(content):
    for start in range(0, len(content), 100):
        yield content[start : start + 100]


def files_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("kind", "extension"), [("PNG", "png"), ("JPEG", "jpg")])
async def test_a_picture_is_fetched_under_the_hash_of_its_content_and_its_owners_mark(
    inputs, folder, gallery, picture, kind, extension
):
    content = picture("red", kind=kind)
    url = gallery.hang("/photo.txt", content, headers={"Content-Type": "text/html"})

    names = await inputs.fetch({"image_url": url}, "ann")

    name = f"unified_api/{owned_name(hashlib.sha256(content).hexdigest(), 'ann')}.{extension}"
    assert names == {"image_url": name}
    assert (folder / name).read_bytes() == content
    assert len(files_in(folder)) == 1


async def test_a_picture_of_another_kind_becomes_a_png(inputs, folder, gallery, picture):
    url = gallery.hang("/photo.webp", picture("red", kind="WEBP"))

    names = await inputs.fetch({"image_url": url})

    with Image.open(folder / names["image_url"]) as kept:
        assert (kept.format, kept.size) == ("PNG", (8, 6))


async def test_whoever_is_cancelled_leaves_no_file_open(inputs, picture, monkeypatch):
    began, gate, ended = threading.Event(), threading.Event(), threading.Event()
    quickly = Path.open

    def slowly(path, *arguments, **named):
        began.set()
        gate.wait(5)
        try:
            return quickly(path, *arguments, **named)
        finally:
            ended.set()

    monkeypatch.setattr(Path, "open", slowly)
    keeping = asyncio.ensure_future(inputs.keep(chunks(picture("red"))))
    await asyncio.to_thread(began.wait, 5)

    keeping.cancel()
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await keeping
    # A file that is dropped open is a warning, and warnings are errors here.
    await asyncio.to_thread(ended.wait, 5)


async def test_jobs_that_ask_for_the_same_picture_at_once_share_one_request(
    inputs, gallery, picture
):
    urls = {"image_url": gallery.hang("/photo.png", picture("red"), held=True)}
    first, second, third = (asyncio.ensure_future(inputs.fetch(urls)) for _ in range(3))
    await until(lambda: gallery.asked)

    first.cancel()
    await asyncio.wait({first})
    gallery.gate.set()

    assert await second == await third
    assert (first.cancelled(), gallery.asked["/photo.png"]) == (True, 1)


async def test_equal_pictures_are_one_file(inputs, folder, gallery, picture):
    urls = [gallery.hang(path, picture("red")) for path in ("/a", "/b", "/c")]

    names = await inputs.fetch({f"image{n}_url": url for n, url in enumerate(urls)})
    again = await inputs.fetch({"image_url": urls[0]})

    assert len({*names.values(), *again.values()}) == 1
    assert len(files_in(folder)) == 1


async def test_equal_pictures_of_two_owners_share_neither_name_nor_request(
    inputs, folder, gallery, picture
):
    urls = {"image_url": gallery.hang("/a.png", picture("red"), held=True)}
    hers, his = (asyncio.ensure_future(inputs.fetch(urls, owner)) for owner in ("ann", "bob"))
    await until(lambda: gallery.asked["/a.png"] == 2)
    gallery.gate.set()

    assert await hers != await his
    assert len(files_in(folder)) == 2


async def test_what_is_staged_and_dropped_leaves_nothing(inputs, folder, picture):
    kept = await inputs.stage(chunks(picture("red")), "ann")

    await inputs.drop([kept])

    assert files_in(folder) == []
    with pytest.raises(InputFetchFailed):
        await inputs.fetch({"image_url": kept.reference}, "ann")


async def test_of_two_equal_uploads_the_refused_one_takes_nothing_from_the_other(
    inputs, folder, picture
):
    refused, accepted = [await inputs.stage(chunks(picture("red")), "ann") for _ in range(2)]

    await inputs.commit([accepted.reference])
    await inputs.drop([refused])
    await inputs.drop([accepted])

    assert await inputs.fetch({"image_url": accepted.reference}, "ann")
    assert len(files_in(folder)) == 1


async def test_pictures_are_told_apart_by_their_parameters(inputs, gallery, picture):
    names = await inputs.fetch(
        {
            "image_url": gallery.hang("/a", picture("red")),
            "image2_url": gallery.hang("/b", picture("blue")),
        }
    )

    assert list(names) == ["image_url", "image2_url"]
    assert names["image_url"] != names["image2_url"]


async def test_nothing_to_fetch_is_fetched_at_once(inputs):
    assert await inputs.fetch({}) == {}


@pytest.mark.parametrize("status", [404, 403, 204])
async def test_an_answer_without_a_picture_fails_by_parameter_and_status(
    inputs, folder, gallery, status
):
    url = gallery.hang("/a", b"", status=status)

    with pytest.raises(InputFetchFailed, match=f"^image_url: .*{status}"):
        await inputs.fetch({"image_url": url})

    assert files_in(folder) == []


async def test_a_redirect_is_followed(inputs, gallery, picture):
    gallery.hang("/b", picture("red"))
    url = gallery.hang("/a", b"", status=302, headers={"Location": "/b"})

    assert await inputs.fetch({"image_url": url})


async def test_redirects_come_to_an_end(inputs, gallery):
    url = gallery.hang("/a", b"", status=302, headers={"Location": "/a"})

    with pytest.raises(InputFetchFailed):
        await inputs.fetch({"image_url": url})

    assert gallery.asked["/a"] < 10


@pytest.mark.parametrize("target", ["file:///etc/hostname", "gopher://127.0.0.1/", "http://"])
async def test_a_redirect_to_somewhere_else_than_the_web_fails(inputs, gallery, target):
    url = gallery.hang("/a", b"", status=302, headers={"Location": target})

    with pytest.raises(ForbiddenSource, match=r"^image_url: "):
        await inputs.fetch({"image_url": url})


async def test_a_body_that_ends_too_early_fails(make_inputs, folder, picture):
    content = picture("red")

    async def cut_off(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content) + 5}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inputs = await make_inputs(allow_hosts=f"127.0.0.1:{port}")

    with pytest.raises(InputFetchFailed):
        await inputs.fetch({"image_url": f"http://127.0.0.1:{port}/a.png"})

    server.close()
    assert files_in(folder) == []


async def test_a_server_of_this_machine_is_not_asked_unless_it_is_allowed(
    make_inputs, gallery, picture
):
    inputs = await make_inputs(allow_hosts="pictures.example:80")
    url = gallery.hang("/a.png", picture("red"))

    with pytest.raises(ForbiddenSource, match=r"^image_url: "):
        await inputs.fetch({"image_url": url})

    assert not gallery.asked


async def test_a_picture_that_takes_too_long_fails(make_inputs, gallery, picture):
    inputs = await make_inputs(fetch_timeout=0.05)
    url = gallery.hang("/a", picture("red"), held=True)

    with pytest.raises(InputFetchFailed):
        await inputs.fetch({"image_url": url})


async def test_a_file_that_is_too_large_is_refused(make_inputs, folder, gallery, picture):
    content = picture("red")
    inputs = await make_inputs(max_image_bytes=len(content))
    fits = gallery.hang("/fits", content)
    large = gallery.hang("/large", content + b"\0")

    assert await inputs.fetch({"image_url": fits})
    with pytest.raises(InputInvalid, match=f"^image_url: .*{len(content)} bytes"):
        await inputs.fetch({"image_url": large})
    assert len(files_in(folder)) == 1


async def test_a_picture_with_too_many_pixels_is_refused(make_inputs, gallery, picture):
    inputs = await make_inputs(max_pixels=99)
    url = gallery.hang("/a", picture("red", size=(10, 10)))

    with pytest.raises(InputInvalid, match="99"):
        await inputs.fetch({"image_url": url})


async def test_what_is_no_picture_is_refused(inputs, folder, gallery):
    url = gallery.hang("/a.png", b"<html>", headers={"Content-Type": "image/png"})

    with pytest.raises(InputInvalid, match=r"^image_url: "):
        await inputs.fetch({"image_url": url})

    assert files_in(folder) == []


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "a.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "../../a.png",
        "upload:../../a.png",
        "upload:" + "A" * 64 + ".png",
        "upload:" + "a" * 64 + ".gif",
        "upload:" + "a" * 64 + ".png\n",
        "http://",
        "http://[",
        "http://a b/",
        "http://" + "a" * 300 + ".example/",
    ],
)
async def test_a_reference_that_is_none_is_refused_by_parameter(inputs, reference):
    with pytest.raises((InputInvalid, ForbiddenSource), match=r"^image_url: "):
        await inputs.fetch({"image_url": reference})


async def test_an_upload_is_kept_and_found_again(inputs, folder, picture):
    content = picture("red")

    reference = await inputs.keep(chunks(content))

    names = await inputs.fetch({"image_url": reference})
    assert (folder / names["image_url"]).read_bytes() == content
    assert await inputs.keep(chunks(content)) == reference


async def test_an_upload_that_is_no_picture_is_not_kept(inputs, folder):
    with pytest.raises(InputInvalid):
        await inputs.keep(chunks(b"<html>"))

    assert files_in(folder) == []


async def test_an_upload_that_is_too_large_is_not_kept(make_inputs, folder, picture):
    content = picture("red", size=(100, 100))
    inputs = await make_inputs(max_image_bytes=len(content) - 1)

    with pytest.raises(InputInvalid):
        await inputs.keep(chunks(content))

    assert files_in(folder) == []


async def test_an_upload_that_breaks_off_leaves_nothing(inputs, folder, picture):
    async def breaks_off():
        yield picture("red")[:50]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await inputs.keep(breaks_off())

    assert files_in(folder) == []


async def test_an_upload_that_is_gone_says_so(inputs, folder, picture):
    reference = await inputs.keep(chunks(picture("red")))
    for path in folder.rglob("*.png"):
        path.unlink()

    with pytest.raises(InputFetchFailed, match="upload it again"):
        await inputs.fetch({"image_url": reference})


async def test_what_a_dead_process_began_is_removed_and_the_rest_stays(
    make_inputs, folder, picture
):
    first = await make_inputs()
    reference = await first.keep(chunks(picture("red")))
    begun = folder / "unified_api" / "0123.part"
    begun.write_bytes(b"half")

    second = await make_inputs()

    assert not begun.exists()
    assert await second.fetch({"image_url": reference})


async def test_the_sweep_deletes_old_pictures_that_no_job_needs(tmp_path, settings):
    inputs = Inputs(tmp_path, settings(input_hours=1))
    folder = tmp_path / "unified_api"
    folder.mkdir()
    for name, age_seconds in {"old": 7200, "needed": 7200, "new": 60}.items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age_seconds,) * 2)

    async def uploads_in_use():
        return {"upload:needed"}

    await inputs.sweep(uploads_in_use)

    assert {path.name for path in folder.iterdir()} == {"needed", "new"}


async def test_the_sweep_deletes_the_oldest_while_all_are_too_many(tmp_path, settings):
    inputs = Inputs(tmp_path, settings(input_bytes=25))
    folder = tmp_path / "unified_api"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}").write_bytes(b"x" * 10)
        os.utime(folder / f"{number}", (time.time() - 100 + number,) * 2)

    async def uploads_in_use():
        return set()

    await inputs.sweep(uploads_in_use)

    assert {path.name for path in folder.iterdir()} == {"2", "3"}


async def test_the_sweep_asks_again_what_is_in_use_now_and_then(tmp_path, settings):
    inputs = Inputs(tmp_path, settings(input_bytes=0))
    folder = tmp_path / "unified_api"
    folder.mkdir()
    for number in range(FILES_AT_ONCE + 1):
        (folder / f"{number}").write_bytes(b"x")
        os.utime(folder / f"{number}", (number, number))
    answers = [set(), {f"upload:{FILES_AT_ONCE}"}]

    async def uploads_in_use():
        return answers.pop(0)

    await inputs.sweep(uploads_in_use)

    assert [path.name for path in folder.iterdir()] == [f"{FILES_AT_ONCE}"]


async def test_the_sweep_spares_what_is_used_meanwhile(make_inputs, folder, picture):
    inputs = await make_inputs(input_hours=1)
    reference = await inputs.keep(chunks(picture("red")))
    file = folder / "unified_api" / reference.removeprefix("upload:")
    os.utime(file, (1, 1))

    async def uploads_in_use():
        # Right after the look at the jobs somebody sends the same picture again.
        await inputs.keep(chunks(picture("red")))
        return set()

    await inputs.sweep(uploads_in_use)

    assert file.exists()
