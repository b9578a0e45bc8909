"""PNG files of our own making, read back by Pillow."""

import io
import random
import struct
import zlib

import pytest
from PIL import Image
from unified_api.jobs.pictures.png import STRIPE_BYTES, png


def noise(mode, size, seed=1):
    content = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    return Image.frombytes(mode, size, content)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (17, 33), (640, 480)])
def test_every_pixel_comes_back(mode, size):
    picture = noise(mode, size)

    with Image.open(io.BytesIO(png(picture, level=1))) as read:
        read.load()
        assert (read.format, read.mode, read.size) == ("PNG", mode, size)
        assert read.tobytes() == picture.tobytes()


@pytest.mark.parametrize("level", range(10))
def test_every_level_is_whole(level):
    picture = Image.radial_gradient("L").convert("RGB")

    with Image.open(io.BytesIO(png(picture, level=level))) as read:
        assert read.tobytes() == picture.tobytes()


def test_rows_longer_than_a_stripe_are_not_cut():
    picture = noise("RGBA", (STRIPE_BYTES // 4 + 1, 2))

    with Image.open(io.BytesIO(png(picture, level=0))) as read:
        assert read.tobytes() == picture.tobytes()


def test_equal_pictures_make_equal_files():
    assert png(noise("RGB", (500, 700)), level=4) == png(noise("RGB", (500, 700)), level=4)


def test_checksums_are_those_of_the_content():
    """Pillow overlooks some of them; others do not."""
    content = png(noise("RGB", (640, 640)), level=4)

    kinds, at = [], 8
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        (told,) = struct.unpack_from(">I", content, at + 8 + length)
        assert told == zlib.crc32(content[at + 4 : at + 8 + length])
        kinds.append((kind, content[at + 8 : at + 8 + length]))
        at += 12 + length
    stream = b"".join(data for kind, data in kinds if kind == b"IDAT")
    # This looks at the checksum of all pixels.
    assert len(zlib.decompress(stream)) == 640 * (1 + 640 * 3)
    assert (kinds[0][0], kinds[-1][0]) == (b"IHDR", b"IEND")
