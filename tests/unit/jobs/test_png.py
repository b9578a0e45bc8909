"""PNG files of our own making, read back by Pillow."""

import io
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms
from unified_api.jobs.pictures.deflate import ISAL, compressed, trailer
from unified_api.jobs.pictures.png import STRIPE_BYTES, png

ROOT = Path(__file__).resolve().parents[3]
#: A stripe of these has 102 rows.
WIDTH = 1710
#: Loads the package as ComfyUI does, on a platform that ISA-L has no wheel for.
WITHOUT_ISAL = """
import importlib, importlib.util, sys
sys.modules["isal"] = None
spec = importlib.util.spec_from_file_location("unified_api", sys.argv[1] + "/__init__.py")
sys.modules["unified_api"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["unified_api"])
from PIL import Image
module = importlib.import_module("unified_api.jobs.pictures.png")
sys.stdout.buffer.write(module.png(Image.radial_gradient("L"), level=4))
"""


@pytest.fixture(params=["ISA-L", "zlib"])
def isal(request):
    """The library that compresses, as `png` takes it."""
    if request.param == "zlib":
        return None
    return ISAL or pytest.skip("ISA-L has no wheel for this platform")


def noise(mode, size, seed=1):
    content = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    return Image.frombytes(mode, size, content)


def soft(mode, size):
    """Something that can be compressed, and that is not alike anywhere."""
    small = noise(mode, (9, 9))
    return small.resize(size, Image.Resampling.BICUBIC)


def chunks_of(content):
    """Each chunk's kind and data. Pillow overlooks some checksums; others do not."""
    at = 8
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        data = content[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", content, at + 8 + length)
        assert checksum == zlib.crc32(kind + data)
        yield kind, data
        at += 12 + length


def read(content):
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return picture


@pytest.mark.parametrize("make", [noise, soft])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (17, 33), (640, 480), (WIDTH, 205)])
def test_every_pixel_comes_back(make, mode, size, isal):
    picture = make(mode, size)

    found = read(png(picture, level=1, isal=isal))

    assert (found.format, found.mode, found.size) == ("PNG", mode, size)
    assert found.tobytes() == picture.tobytes()


@pytest.mark.parametrize("level", range(10))
def test_every_level_is_whole(level, isal):
    picture = Image.radial_gradient("L").convert("RGB")

    assert read(png(picture, level=level, isal=isal)).tobytes() == picture.tobytes()


@pytest.mark.parametrize("level", [0, 4])
def test_rows_longer_than_a_stripe_are_not_cut(level, isal):
    picture = noise("RGBA", (STRIPE_BYTES // 4 + 1, 2))

    assert read(png(picture, level=level, isal=isal)).tobytes() == picture.tobytes()


def test_equal_pictures_make_equal_files(isal):
    first, second = (png(noise("RGB", (500, 700)), level=4, isal=isal) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("level", [0, 1, 4, 9])
@pytest.mark.parametrize("height", [1, 102, 103, 640])
def test_checksums_are_those_of_the_content(level, height, isal):
    chunks = list(chunks_of(png(soft("RGB", (WIDTH, height)), level=level, isal=isal)))

    stream = b"".join(data for kind, data in chunks if kind == b"IDAT")
    # This looks at the checksum of all pixels.
    assert len(zlib.decompress(stream)) == height * (1 + WIDTH * 3)
    kinds = [kind for kind, _ in chunks]
    assert kinds == [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]


def test_parts_of_any_size_make_one_stream(isal):
    """Also those whose checksums wrap around."""
    parts = [b"", b"\xff" * 70_000, b"a", random.Random(2).randbytes(100_001), b"\xff" * 300_000]

    stream = b"\x78\x01" + b"".join(compressed(part, level=1, isal=isal) for part in parts)
    stream += trailer((zlib.adler32(part), len(part)) for part in parts)

    assert zlib.decompress(stream) == b"".join(parts)


def test_a_higher_level_makes_smaller_files(isal):
    picture = soft("RGB", (640, 480))

    sizes = [len(png(picture, level=level, isal=isal)) for level in (0, 4, 5, 9)]

    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]


@pytest.mark.skipif(ISAL is None, reason="ISA-L has no wheel for this platform")
def test_isal_compresses_at_the_levels_up_to_the_default():
    picture = soft("RGB", (640, 480))

    by_isal = [
        level
        for level in range(10)
        if png(picture, level=level) != png(picture, level=level, isal=None)
    ]

    assert by_isal == [1, 2, 3, 4]


def test_without_isal_the_files_are_those_of_zlib():
    command = [sys.executable, "-c", WITHOUT_ISAL, str(ROOT)]

    done = subprocess.run(command, capture_output=True, check=True)

    assert done.stdout == png(Image.radial_gradient("L"), level=4, isal=None)


def test_a_profile_comes_back_before_the_pixels():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    content = png(noise("RGB", (8, 8)), level=4, profile=profile)

    assert read(content).info["icc_profile"] == profile
    assert [kind for kind, _ in chunks_of(content)][:2] == [b"IHDR", b"iCCP"]


def test_a_picture_that_is_still_in_its_file_is_read_once(tmp_path):
    picture = soft("RGB", (WIDTH, 640))
    picture.save(tmp_path / "a.png", compress_level=1)

    with Image.open(tmp_path / "a.png") as lazy:
        content = png(lazy, level=1)

    assert read(content).tobytes() == picture.tobytes()


def test_the_pixels_are_not_copied_whole():
    """Several large pictures may be encoded at a time."""
    picture = Image.radial_gradient("L").resize((6000, 2000)).convert("RGB")

    tracemalloc.start()
    try:
        png(picture, level=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 6000 * 2000 * 3 / 2
