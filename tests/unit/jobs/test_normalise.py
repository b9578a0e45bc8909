"""What a picture looks like after it came in, and which ones do not."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin
from unified_api.jobs.errors import InputInvalid
from unified_api.jobs.pictures.normalise import normalise

MAX_PIXELS = 40_000_000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = {(0, 0): RED, (1, 0): GREEN, (0, 1): BLUE, (1, 1): WHITE}


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def corners(scale: int = 1) -> Image.Image:
    picture = Image.new("RGB", (2, 2))
    for place, color in CORNERS.items():
        picture.putpixel(place, color)
    return picture.resize((2 * scale, 2 * scale), Image.Resampling.NEAREST)


def gradient(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def exif(orientation: int) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", check)


def png(width: int, height: int, *, depth: int = 8, color: int = 2, idat: bytes = b"") -> bytes:
    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")
    )


def with_chunk(content: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return content[:33] + chunk(kind, data) + content[33:]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "0123.part"


def come_in(part: Path, content: bytes, **limits: float) -> str:
    part.write_bytes(content)
    return normalise(part, **{"max_pixels": MAX_PIXELS, **limits})


def opened(part: Path) -> Image.Image:
    with Image.open(part) as picture:
        picture.load()
        return picture


# What becomes of pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orientation", "top_left", "top_right"),
    [
        (1, RED, GREEN), (2, GREEN, RED), (3, WHITE, BLUE), (4, BLUE, WHITE),
        (5, RED, BLUE), (6, BLUE, RED), (7, WHITE, GREEN), (8, GREEN, WHITE), (9, RED, GREEN),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_picture_is_turned_upright(part, form, orientation, top_left, top_right) -> None:
    options = {"lossless": True} if form == "WEBP" else {}

    come_in(part, encoded(corners(), form, exif=exif(orientation), **options))

    picture = opened(part)
    assert (picture.getpixel((0, 0)), picture.getpixel((1, 0))) == (top_left, top_right)
    assert not picture.getexif()


def test_a_jpeg_of_a_phone_is_turned_upright(part) -> None:
    sent = corners(16).resize((64, 32), Image.Resampling.NEAREST)

    extension = come_in(part, encoded(sent, "JPEG", exif=exif(6), quality=95))

    picture = opened(part)
    assert (extension, picture.size) == ("png", (32, 64))
    assert near(picture.getpixel((4, 4)), BLUE)


def near(pixel: tuple[int, ...], color: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(pixel, color, strict=True))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (128, 0),
        (129, 1),
        (0x0101, 1),
        (0x8080, 128),
        (0x7FFF, 127),
        (65406, 254),
        (65535, 255),
    ],
)
def test_sixteen_bit_grey_is_scaled_not_clipped(part, value: int, expected: int) -> None:
    come_in(part, encoded(Image.new("I;16", (3, 2), value)))

    assert opened(part).getpixel((1, 1)) == (expected,) * 3


def test_sixteen_bit_colours_become_eight_bit(part) -> None:
    row = b"\0" + struct.pack(">HHH", 0x8080, 0xFFFF, 0)

    come_in(part, png(1, 1, depth=16, idat=zlib.compress(row)))

    assert opened(part).getpixel((0, 0)) == (128, 255, 0)
    assert part.read_bytes()[24] == 8


@pytest.mark.parametrize(
    ("cmyk", "expected"),
    [((0, 0, 0, 0), WHITE), ((0, 255, 255, 0), RED), ((0, 0, 0, 255), (0, 0, 0))],
)
def test_cmyk_becomes_rgb(part, cmyk, expected) -> None:
    come_in(part, encoded(Image.new("CMYK", (16, 16), cmyk), "JPEG", quality=100))

    assert near(opened(part).getpixel((8, 8)), expected)


def test_a_palette_keeps_its_transparency(part) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)

    come_in(part, encoded(picture, transparency=b"\x00\x80"))

    plain = opened(part)
    assert plain.mode == "RGBA"
    assert [plain.getpixel((x, 0)) for x in (0, 1)] == [(*RED, 0), (*BLUE, 128)]


@pytest.mark.parametrize(
    ("mode", "color", "transparency", "expected"),
    [
        ("L", 77, None, (77, 77, 77)), ("1", 1, None, WHITE), ("P", 0, None, (0, 0, 0)),
        ("LA", (77, 9), None, (77, 77, 77, 9)), ("RGBA", (1, 2, 3, 4), None, (1, 2, 3, 4)),
        ("RGB", RED, RED, (*RED, 0)), ("L", 77, 77, (77, 77, 77, 0)),
        ("L", 77, 78, (77, 77, 77, 255)), ("I;16", 0x8080, 0x8080, (128, 128, 128)),
    ],
)  # fmt: skip
def test_every_mode_becomes_rgb_or_rgba(part, mode, color, transparency, expected) -> None:
    options = {} if transparency is None else {"transparency": transparency}

    come_in(part, encoded(Image.new(mode, (2, 2), color), **options))

    assert opened(part).getpixel((1, 1)) == expected


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_becomes_its_first_frame(part, form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, GREEN)]

    come_in(part, encoded(frames[0], form, save_all=True, append_images=frames[1:], **options))

    picture = opened(part)
    assert getattr(picture, "n_frames", 1) == 1
    assert picture.convert("RGB").getpixel((0, 0)) == RED


def test_a_jpeg_with_several_pictures_becomes_the_first(part) -> None:
    first, second = Image.new("RGB", (32, 32), RED), Image.new("RGB", (32, 32), BLUE)

    come_in(part, encoded(first, "MPO", save_all=True, append_images=[second]))

    assert near(opened(part).getpixel((9, 9)), RED)


def test_nothing_but_pixels_is_left(part) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "SECRET")
    text.add_itxt("workflow", "SECRET", zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    sent = encoded(
        gradient(), pnginfo=text, icc_profile=profile, exif=exif(1) + b"SECRET", dpi=(9, 9)
    )

    come_in(part, sent)

    assert opened(part).info == {}
    assert b"SECRET" not in part.read_bytes()
    assert opened(part).tobytes() == gradient().tobytes()


@pytest.mark.parametrize(
    "options",
    [{"exif": exif(1)}, {"comment": b"SECRET"}, {"icc_profile": b"SECRET"}, {"xmp": b"SECRET"}],
)
def test_a_jpeg_loses_its_metadata(part, options) -> None:
    assert come_in(part, encoded(gradient(), "JPEG", **options)) == "png"
    assert opened(part).info == {}


# What keeps its bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (encoded(gradient()), "png"),
        (encoded(gradient("RGBA")), "png"),
        (encoded(gradient(), dpi=(300, 300)), "png"),
        (encoded(gradient(), "JPEG"), "jpg"),
        (encoded(gradient(), "JPEG", progressive=True, dpi=(72, 72)), "jpg"),
    ],
)
def test_a_plain_picture_keeps_its_bytes(part, content: bytes, extension: str) -> None:
    assert come_in(part, content) == extension
    assert part.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        with_chunk(encoded(gradient()), b"prIv", b"SECRET"),
        with_chunk(encoded(gradient()), b"tIME", b"SECRET!"),
        encoded(gradient()) + b"<script>SECRET</script>",
        encoded(gradient(), "JPEG") + b"PK\x03\x04 SECRET",
        encoded(gradient(), "JPEG").replace(b"\xff\xdb", b"\xff\xe9\x00\x08SECRET\xff\xdb", 1),
    ],
)
def test_what_hides_beside_the_pixels_is_dropped(part, content: bytes) -> None:
    assert come_in(part, content) == "png"
    assert b"SECRET" not in part.read_bytes()


def test_no_other_file_is_left_behind(part) -> None:
    come_in(part, encoded(gradient("L")))
    with pytest.raises(InputInvalid):
        come_in(part, b"nothing")

    assert [path.name for path in part.parent.iterdir()] == [part.name]


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x89PNG", b"<html></html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a" * 9, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7", b"PK\x03\x04" * 9, bytes(4096),
        encoded(gradient(), "GIF"), encoded(gradient(), "BMP"), encoded(gradient(), "TIFF"),
        encoded(gradient(), "ICO"), encoded(gradient(), "EPS"),
    ],
)  # fmt: skip
def test_what_is_no_png_jpeg_or_webp_is_refused(part, content: bytes) -> None:
    with pytest.raises(InputInvalid, match="PNG, JPEG or WebP"):
        come_in(part, content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("is_tolerant", [False, True])
def test_a_truncated_picture_is_refused(part, monkeypatch, form, share, is_tolerant) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", is_tolerant)
    content = encoded(Image.effect_noise((200, 150), 90).convert("RGB"), form)

    with pytest.raises(InputInvalid):
        come_in(part, content[: int(len(content) * share)])


@pytest.mark.parametrize("size", [(7, 9), (200, 150)])
@pytest.mark.parametrize("is_progressive", [False, True])
def test_a_plain_jpeg_is_judged_to_its_end(part, size, is_progressive) -> None:
    content = encoded(
        Image.effect_noise(size, 90).convert("RGB"), "JPEG", progressive=is_progressive
    )
    assert come_in(part, content) == "jpg"

    start_of_last_scan = content.rindex(b"\xff\xda")
    without_pixels = content[: start_of_last_scan + 20]
    with pytest.raises(InputInvalid):
        come_in(part, without_pixels)


@pytest.mark.parametrize(
    ("width", "height", "limits"),
    [
        (8001, 5000, {}), (20_000, 20_000, {}), (2**31 - 1, 2**31 - 1, {}), (30_000, 30_000, {}),
        (16_385, 1, {}), (1, 16_385, {}), (11, 10, {"max_pixels": 109}), (11, 10, {"max_side": 10}),
    ],
)  # fmt: skip
def test_a_picture_is_judged_by_its_header_before_it_is_decoded(
    part, width, height, limits
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputInvalid, match=f"{width} x {height}"):
            come_in(part, png(width, height, idat=b"not even pixels"), **limits)


def test_the_largest_webp_is_refused_in_no_time(part) -> None:
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    content[21:25] = struct.pack("<L", 16_382 | 16_382 << 14)
    begun = time.process_time()

    with pytest.raises(InputInvalid):
        come_in(part, bytes(content))

    assert time.process_time() - begun < 1


def test_a_large_picture_within_the_limits_gets_in(part) -> None:
    content = encoded(Image.new("L", (8000, 5000)), compress_level=1)

    assert come_in(part, content) == "png"
    assert opened(part).size == (8000, 5000)


# What would take for ever -------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [b"\xff\xe5\x00\x02", b"\xff"])
def test_a_jpeg_of_millions_of_empty_segments_is_refused_quickly(part, filler: bytes) -> None:
    content = encoded(gradient(), "JPEG")
    begun = time.process_time()

    with pytest.raises(InputInvalid, match="too long"):
        come_in(part, content[:2] + filler * 3_000_000 + content[2:])

    assert time.process_time() - begun < 5


def test_a_png_of_millions_of_empty_chunks_is_refused_quickly(part) -> None:
    content = encoded(gradient())

    with pytest.raises(InputInvalid, match="too long"):
        come_in(part, content[:33] + chunk(b"prIv", b"") * 500_000 + content[33:])


def test_a_jpeg_that_repeats_its_scans_is_stopped(part) -> None:
    content = encoded(Image.new("RGB", (6000, 6000)), "JPEG", progressive=True)
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    begun = time.process_time()

    with pytest.raises(InputInvalid, match="too long"):
        come_in(part, content[:-2] + last_scan * 2_000 + content[-2:], max_seconds=1)

    assert time.process_time() - begun < 10


def test_huge_texts_and_profiles_are_refused_or_dropped(part) -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    plain = encoded(gradient())

    for kind, data in (
        (b"zTXt", b"k\0\0" + bomb),
        (b"iTXt", b"k\0\1\0\0\0" + bomb),
        (b"iCCP", b"k\0\0" + bomb),
    ):
        with pytest.raises(InputInvalid):
            come_in(part, with_chunk(plain, kind, data))

    come_in(part, with_chunk(plain, b"eXIf", b"II*\0" + b"\xff" * 5_000_000))
    assert opened(part).info == {}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"Exif\0\0", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9, b"Exif\0\0XX*\0" + bytes(99),
    ],
)  # fmt: skip
def test_broken_exif_does_not_harm_the_picture(part, data: bytes) -> None:
    come_in(part, with_chunk(encoded(gradient()), b"eXIf", data))

    assert opened(part).tobytes() == gradient().tobytes()


def test_exif_that_claims_gigabytes_is_not_read(part) -> None:
    claims = b"".join(struct.pack("<HHLL", 0x8000 + n, 7, 60_000, 8) for n in range(4000))
    tiff = b"II*\0" + struct.pack("<LH", 8, 4000) + claims
    sent = encoded(gradient(), "JPEG", exif=b"Exif\0\0" + tiff)
    without_jfif = sent[:2] + sent[20:]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert come_in(part, without_jfif) == "png"
