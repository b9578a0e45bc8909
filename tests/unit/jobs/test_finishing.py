"""What ComfyUI produced in, files to publish out: clean, in the right format, few at a time."""

import asyncio
from hashlib import sha256

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from unified_api.jobs.errors import DiskFull
from unified_api.jobs.finishing import Finishing
from unified_api.jobs.job import Delivery
from unified_api.jobs.prompt import Produced

from ..fake_host import until

#: What Pillow holds of a picture of 8 x 8 pixels.
BYTES = 8 * 8 * 4


def handed_over():
    return Produced("1", Image.new("RGB", (8, 8), "teal"))


@pytest.fixture
def file(tmp_path):
    def write(name="a.png", content=None):
        path = tmp_path / name
        if content is None:
            Image.new("RGB", (4, 4), "teal").save(path)
        else:
            path.write_bytes(content)
        return path

    return write


@pytest.fixture
def finished(tmp_path):
    """The one file of a path or picture as it is to be published."""

    async def finish(content, delivery=Delivery(), *, keep_metadata=False, png_level=4):  # noqa: B008
        finishing = Finishing(max_bytes=0, png_level=png_level, keep_metadata=keep_metadata)
        files = [("image", Produced("1", content))]
        (rendered,) = await finishing.finish(files, delivery=delivery, folder=tmp_path / "finished")
        assert rendered.sha256 == sha256(rendered.path.read_bytes()).hexdigest()
        return rendered.path

    return finish


# Files


@pytest.fixture
def telling(tmp_path):
    """A picture with a prompt in it, as ComfyUI saves it."""
    path = tmp_path / "telling.png"
    info = PngInfo()
    info.add_text("prompt", '{"1": "a secret prompt"}')
    Image.new("RGB", (4, 4), "teal").save(path, pnginfo=info)
    return path


async def test_the_embedded_prompt_is_left_out_unless_asked_for(finished, telling):
    assert b"secret" in telling.read_bytes()
    assert b"secret" not in (await finished(telling)).read_bytes()
    assert b"secret" in (await finished(telling, keep_metadata=True)).read_bytes()


async def test_what_is_clean_stays_as_it_is(finished, file):
    path = file()

    assert await finished(path) == path


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
async def test_a_picture_is_written_in_the_format_asked_for(finished, telling, format):
    path = await finished(telling, Delivery(format=format, quality=80))

    with Image.open(path) as picture:
        assert picture.format == format.upper()
        assert picture.size == (4, 4)
    assert b"secret" not in path.read_bytes()


async def test_what_is_no_picture_is_left_alone_by_a_format(finished, file):
    path = file("film.mp4", b"\0\0\0\x18ftypmp42" + b"\0" * 64)

    assert await finished(path, Delivery(format="jpeg")) == path


# Pictures that were handed over


@pytest.mark.parametrize("format", [None, "png", "jpeg", "webp"])
async def test_a_picture_in_memory_is_written_in_the_format_asked_for(finished, format):
    path = await finished(Image.new("RGB", (8, 4), "teal"), Delivery(format=format))

    with Image.open(path) as picture:
        assert picture.format == (format or "png").upper()
        assert picture.size == (8, 4)
        assert picture.getpixel((7, 3)) == pytest.approx((0, 128, 128), abs=3)


async def test_what_is_transparent_becomes_white_in_a_jpeg(finished):
    path = await finished(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), Delivery(format="jpeg"))

    with Image.open(path) as picture:
        assert picture.getpixel((4, 4)) == (255, 255, 255)


async def test_the_level_decides_how_small_a_png_is(finished):
    plain = Image.linear_gradient("L").convert("RGB")

    sizes = [(await finished(plain, png_level=level)).stat().st_size for level in (0, 1, 9)]

    assert sizes[0] > plain.width * plain.height * 3 > sizes[1] > sizes[2]


async def test_the_level_counts_for_a_file_that_becomes_a_png_too(finished, tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "a.webp", lossless=True)
    png = Delivery(format="png")

    plain, small = [
        (await finished(tmp_path / "a.webp", png, png_level=level)).stat().st_size
        for level in (0, 9)
    ]

    assert plain > 256 * 256 * 3 > small


async def test_a_disk_that_refuses_is_told(tmp_path):
    finishing = Finishing(max_bytes=0, png_level=4, keep_metadata=False)
    (tmp_path / "finished").write_text("no folder")

    with pytest.raises(DiskFull):
        await finishing.finish(
            [("image", handed_over())], delivery=Delivery(), folder=tmp_path / "finished"
        )


# Room in memory


@pytest.fixture
def hold():
    """Ask for room for a picture; whether there is, and how to leave."""
    finishing = Finishing(max_bytes=2 * BYTES, png_level=4, keep_metadata=False)
    tasks = []

    def enter(*produced):
        entered, leave = asyncio.Event(), asyncio.Event()

        async def stay():
            async with finishing.room_for(produced):
                entered.set()
                await leave.wait()

        tasks.append(asyncio.ensure_future(stay()))
        return entered, leave, tasks[-1]

    yield enter
    for task in tasks:
        task.cancel()


async def test_pictures_wait_until_there_is_room(hold):
    (first, leave, _), (second, *_), (third, *_) = (hold(handed_over()) for _ in range(3))
    await until(lambda: first.is_set() and second.is_set())
    await asyncio.sleep(0.01)
    assert not third.is_set()

    leave.set()

    await until(third.is_set)


async def test_what_is_larger_than_all_of_it_gets_in_alone(hold):
    first, leave, _ = hold(handed_over())
    await until(first.is_set)
    large, *_ = hold(*(handed_over() for _ in range(5)))
    await asyncio.sleep(0.01)
    assert not large.is_set()

    leave.set()

    await until(large.is_set)


async def test_files_need_no_room(hold, tmp_path):
    full, *_ = hold(*(handed_over() for _ in range(5)))
    await until(full.is_set)

    entered, *_ = hold(Produced("1", tmp_path / "a.png"))

    await until(entered.is_set)


async def test_whoever_goes_leaves_room(hold):
    full, _, task = hold(*(handed_over() for _ in range(5)))
    await until(full.is_set)
    waiting, *_ = hold(handed_over())

    task.cancel()

    await until(waiting.is_set)
