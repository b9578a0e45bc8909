"""What ComfyUI shows while a picture is made, for those who watch."""

from __future__ import annotations

import asyncio
import io
import time

import pytest
from PIL import Image
from unified_api.jobs.previews import PAUSE_SECONDS, Previews, preview_of


@pytest.fixture
def previews():
    return Previews()


@pytest.fixture
async def first(previews):
    """`await first(stream)`: the next preview, with something there to be shown."""

    async def look(stream, *shown):
        coming = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for content in shown:
            previews.show("job", memoryview(content))
        return await asyncio.wait_for(coming, 5)

    return look


def is_black(preview):
    return max(Image.open(io.BytesIO(preview.content)).getpixel((0, 0))) < 9


async def test_the_latest_picture_wins(previews, first, picture) -> None:
    stream = previews.watch("job")

    shown = await first(stream, picture("white"), picture("black"))

    await stream.aclose()
    assert is_black(shown)


async def test_two_come_in_a_second_at_most(previews, first, picture) -> None:
    stream = previews.watch("job")
    await first(stream, picture("white"))
    began = time.monotonic()

    await first(stream, picture("black"))

    await stream.aclose()
    assert time.monotonic() - began >= PAUSE_SECONDS * 0.9


async def test_those_of_other_jobs_are_not_shown_and_nothing_is_kept(previews, picture) -> None:
    stream = previews.watch("job")
    coming = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    previews.show("another", memoryview(picture("white")))
    await asyncio.wait({coming}, timeout=0.05)

    assert not coming.done()
    assert list(previews._screens) == ["job"]
    coming.cancel()
    await asyncio.wait({coming})
    assert not previews._screens


async def test_what_is_no_picture_is_passed_over(previews, first, picture) -> None:
    stream = previews.watch("job")
    coming = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    previews.show("job", memoryview(b"no picture"))
    await asyncio.wait({coming}, timeout=0.05)

    previews.show("job", memoryview(picture("black")))

    assert is_black(await asyncio.wait_for(coming, 5))
    await stream.aclose()


@pytest.mark.parametrize(
    ("size", "small"), [((1024, 512), (256, 128)), ((300, 600), (128, 256)), ((8, 6), (8, 6))]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_preview_has_256_pixels_at_most_and_its_shape(picture, size, small, kind) -> None:
    preview = preview_of(picture("teal", size=size, kind=kind))

    assert (preview.width, preview.height) == small
    assert Image.open(io.BytesIO(preview.content)).size == small
    assert preview.content_type == "image/jpeg"


def test_a_preview_that_is_broken_is_none(picture) -> None:
    assert preview_of(picture("teal", size=(64, 64))[:-40]) is None
