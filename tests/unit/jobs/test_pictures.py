"""What a file is, told by its content."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from unified_api.jobs.pictures.media import Media, extension_of, media_of

KINDS = {"PNG": ("image/png", "png"), "JPEG": ("image/jpeg", "jpg"), "WEBP": ("image/webp", "webp")}


def drawn(kind, size=(8, 6), mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


def png_of_size(width, height):
    """A PNG that only claims to be large."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def file(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


OTHERS = {
    "video/mp4": b"\0\0\0\x20ftypisom" + b"\0" * 20,
    "video/quicktime": b"\0\0\0\x14ftypqt  " + b"\0" * 20,
    "audio/mp4": b"\0\0\0\x20ftypM4A " + b"\0" * 20,
    "video/webm": b"\x1aE\xdf\xa3" + b"\0" * 20,
    "audio/wav": b"RIFF\0\0\0\0WAVEfmt " + b"\0" * 20,
    "audio/flac": b"fLaC" + b"\0" * 20,
    "audio/ogg": b"OggS" + b"\0" * 20,
    "audio/mpeg": b"ID3\x04" + b"\0" * 20,
    "model/gltf-binary": b"glTF\x02\0\0\0",
    "application/octet-stream": b"nobody knows",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_known_with_its_size(file, kind):
    content_type, extension = KINDS[kind]

    assert media_of(file(drawn(kind))) == Media(content_type, 8, 6)
    assert extension_of(content_type) == extension


def test_a_gif_and_an_avif_are_results(file):
    kinds = {"GIF": "image/gif"} | ({"AVIF": "image/avif"} if features.check("avif") else {})

    for kind, content_type in kinds.items():
        path = file(drawn(kind))
        assert media_of(path) == Media(content_type, 8, 6)


@pytest.mark.parametrize("content_type", OTHERS)
def test_other_files_are_known_by_their_first_bytes(file, content_type):
    path = file(OTHERS[content_type])

    assert media_of(path) == Media(content_type)


def test_an_empty_file_is_nothing_known(file):
    path = file(b"")

    assert media_of(path) == Media("application/octet-stream")
    assert extension_of(media_of(path).content_type) == "bin"


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.mp4", "a.txt", "a"])
def test_a_lying_extension_deceives_nobody(file, name):
    path = file(drawn("PNG"), name)

    assert media_of(path).content_type == "image/png"


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_huge_result_is_told_by_its_type_at_least(file, side):
    assert media_of(file(png_of_size(side, side))).content_type == "image/png"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_damaged_picture_is_never_a_fault(tmp_path_factory, kind, data):
    content = bytearray(drawn(kind, (16, 16)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged-{kind}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])

    assert media_of(path).content_type
