"""Pictures as ComfyUI's nodes write them, before and after they are published."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from unified_api.jobs.errors import ConversionFailed
from unified_api.jobs.pictures.embedded import strip
from unified_api.jobs.pictures.encode import convert

GRAPH = json.dumps({"9": {"class_type": "SECRET", "inputs": {"text": "镜头"}}})
SECRETS = (b"SECRET", b"S\0E\0C\0R\0E\0T", b"class_type")


def picture(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((64, 48)).convert(mode)


def exif(**texts: str) -> Image.Exif:
    """As ComfyUI fills it: a word and a graph in the fields for the camera's model and maker."""
    data = Image.Exif()
    data[0x0110] = f"prompt:{GRAPH}"
    data[0x010F] = f"workflow:{GRAPH}"
    return data


def save_png(path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", GRAPH)
    info.add_itxt("workflow", GRAPH, zip=True)
    info.add_text("Title", "kept")
    picture().save(path, pnginfo=info, dpi=(72, 72), compress_level=4)


def save_animated_png(path: Path) -> None:
    info = PngInfo()
    info.add(b"comf", b"prompt\0" + GRAPH.encode(), after_idat=True)
    info.add(b"comf", b"workflow\0" + GRAPH.encode(), after_idat=True)
    more = [Image.new("RGB", (64, 48), color) for color in ("navy", "red")]
    picture().save(path, "PNG", pnginfo=info, save_all=True, append_images=more, duration=40)


def save_jpeg(path: Path) -> None:
    picture().save(path, exif=exif(), quality=90, icc_profile=b"profile", comment="workflow SECRET")


def save_webp(path: Path) -> None:
    picture("RGBA").save(path, exif=exif(), icc_profile=b"profile", lossless=True)


def save_animated_webp(path: Path) -> None:
    more = [Image.new("RGB", (64, 48), color) for color in ("navy", "red")]
    picture().save(path, exif=exif(), save_all=True, append_images=more, duration=40)


WRITERS = {
    "a.png": save_png,
    "animated.png": save_animated_png,
    "a.jpg": save_jpeg,
    "a.webp": save_webp,
    "animated.webp": save_animated_webp,
}


def frames(path: Path) -> list[bytes]:
    with Image.open(path) as opened:
        found = []
        for number in range(getattr(opened, "n_frames", 1)):
            opened.seek(number)
            found.append(opened.convert("RGBA").tobytes())
        return found


@pytest.fixture(params=sorted(WRITERS))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    WRITERS[request.param](path)
    return path


def test_nothing_of_the_graph_is_left_and_no_pixel_changes(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    assert strip(written, out)

    content = out.read_bytes()
    assert b"SECRET" in written.read_bytes() or written.name == "a.png"
    assert not any(secret in content for secret in SECRETS)
    assert b"prompt" not in content
    assert b"workflow" not in content
    assert frames(out) == frames(written)


def test_a_stripped_picture_has_nothing_to_strip(written: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    strip(written, once)

    assert not strip(once, twice)

    assert twice.read_bytes() == once.read_bytes()


def test_every_cut_through_a_file_is_copied_or_stripped_without_an_error(
    written: Path, tmp_path: Path
) -> None:
    content = written.read_bytes()
    broken, out = tmp_path / "broken", tmp_path / "out"

    for end in range(0, len(content), 7):
        broken.write_bytes(content[:end])
        assert strip(broken, out) or out.read_bytes() == content[:end]


def test_all_other_chunks_of_a_png_stay_as_they_are(tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out.png"
    save_png(path)

    strip(path, out)

    kept = [chunk for chunk in chunks(path) if not chunk[8:].startswith((b"prompt", b"workflow"))]
    assert chunks(out) == kept
    with Image.open(out) as opened:
        assert opened.info["Title"] == "kept"


def chunks(path: Path) -> list[bytes]:
    content, found, at = path.read_bytes(), [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        found.append(content[at : at + 12 + length])
        at += 12 + length
    return found


def test_the_graph_in_the_exif_of_a_png_goes(tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out.png"
    picture().save(path, exif=exif())

    assert strip(path, out)

    assert b"SECRET" not in out.read_bytes()


def test_the_colour_profile_stays(tmp_path: Path) -> None:
    for name, write in (("a.jpg", save_jpeg), ("a.webp", save_webp)):
        out = tmp_path / f"out-{name}"
        write(tmp_path / name)

        strip(tmp_path / name, out)

        with Image.open(out) as opened:
            assert opened.info["icc_profile"] == b"profile"


def test_a_webp_announces_only_what_is_left(tmp_path: Path) -> None:
    path, out = tmp_path / "a.webp", tmp_path / "out.webp"
    save_webp(path)

    strip(path, out)

    content = out.read_bytes()
    assert struct.unpack("<I", content[4:8]) == (len(content) - 8,)
    assert path.read_bytes()[20] & 0x08
    assert not content[20] & 0x08
    assert content[20] & 0x20, "the colour profile is announced still"


def test_text_in_utf_16_is_found(tmp_path: Path) -> None:
    path, out = tmp_path / "a.jpg", tmp_path / "out.jpg"
    data = Image.Exif()
    data[0x9286] = b"UNICODE\0" + f"Workflow: {GRAPH}".encode("utf-16-le")
    picture().save(path, exif=data)

    assert strip(path, out)

    assert not any(secret in out.read_bytes() for secret in SECRETS)


def test_exif_that_tells_nothing_stays(tmp_path: Path) -> None:
    data = Image.Exif()
    data[0x0110] = "a camera"
    for name in ("a.jpg", "a.webp"):
        path, out = tmp_path / name, tmp_path / f"out-{name}"
        picture().save(path, exif=data)

        assert not strip(path, out)

        assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXtprompt\0SECRET",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xff\xff\xff",
        b"\xff\xd8\xff\xe1\x00\x00prompt",
        b"\xff\xd8\xff\xe1\xff\xffprompt",
        b"RIFF\xff\xff\xff\xffWEBPEXIF",
        b"RIFF\x0c\x00\x00\x00WEBPEXIF\xff\xff\xff\x7f",
        b"\x1aE\xdf\xa3 prompt workflow",
        b"plain text: prompt",
    ],
)
def test_what_is_not_understood_is_copied(content: bytes, tmp_path: Path) -> None:
    path, out = tmp_path / "in", tmp_path / "out"
    path.write_bytes(content)

    assert not strip(path, out)

    assert out.read_bytes() == content


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize(("format", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_every_kind_of_picture_becomes_every_format(
    mode: str, format: Any, name: str, tmp_path: Path
) -> None:
    path, out = tmp_path / "in.tiff", tmp_path / "out"
    Image.new(mode, (8, 6)).save(path)

    convert(path, out, format=format, quality=90)

    with Image.open(out) as opened:
        opened.load()
        assert (opened.format, opened.size) == (name, (8, 6))


def test_a_picture_keeps_its_pixels_as_png(tmp_path: Path) -> None:
    path, out = tmp_path / "in.webp", tmp_path / "out.png"
    save_webp(path)

    convert(path, out, format="png", quality=1)

    assert frames(out) == frames(path)


def test_what_is_transparent_becomes_white_in_a_jpeg(tmp_path: Path) -> None:
    path, out = tmp_path / "in.png", tmp_path / "out.jpg"
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(path)

    convert(path, out, format="jpeg", quality=100)

    with Image.open(out) as opened:
        assert opened.getpixel((4, 4)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path) -> None:
    path, out = tmp_path / "in.png", tmp_path / "out.jpg"
    Image.new("I;16", (8, 8), 0x8080).save(path)

    convert(path, out, format="jpeg", quality=100)

    with Image.open(out) as opened:
        assert opened.getpixel((4, 4)) == 0x80


def test_quality_decides_the_size(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    Image.effect_noise((128, 128), 80).save(path)
    sizes = {}
    for quality in (30, 95):
        for format in ("jpeg", "webp"):
            out = tmp_path / f"{quality}.{format}"
            convert(path, out, format=format, quality=quality)
            sizes[format, quality] = out.stat().st_size

    assert sizes["jpeg", 30] < sizes["jpeg", 95]
    assert sizes["webp", 30] < sizes["webp", 95]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_converted_picture_tells_no_graph_but_its_colours(
    written: Path, format: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Image.open(written) as opened:
        profile = opened.info.get("icc_profile")

    convert(written, out, format=format, quality=90)

    assert not any(secret in out.read_bytes() for secret in SECRETS)
    with Image.open(out) as opened:
        assert opened.info.get("icc_profile") == profile


def test_a_picture_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jpg", tmp_path / "out.png"
    data = Image.Exif()
    data[0x0112] = 6
    picture().save(path, exif=data)

    convert(path, out, format="png", quality=90)

    with Image.open(out) as opened:
        assert opened.size == (48, 64)


def gigantic() -> bytes:
    """The head of a PNG of more pixels than Pillow agrees to unpack."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head) - 4) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT\0\0\0\0"


@pytest.mark.parametrize("content", [b"", gigantic(), b"no picture", b"P6 1 1 255\n\0\0\0"])
def test_what_is_no_picture_of_a_known_kind_is_not_converted(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "in"
    path.write_bytes(content)

    with pytest.raises(ConversionFailed):
        convert(path, tmp_path / "out", format="png", quality=90)


PARAMETERS = "a cat, SECRET\nNegative: dog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><dc:description>SECRET</dc:description></x:xmpmeta>"


def texts_of_others() -> list[tuple[str, PngInfo]]:
    """Pictures as other people's nodes and programs write them."""
    made = []
    names = ("parameters", "Parameters", "generation_data", "Comment", "Description", "Dream")
    names = (*names, "sd-metadata", "invokeai_metadata", "XML:com.adobe.xmp", "any", "Software")
    for name in names:
        for kind in ("tEXt", "zTXt", "iTXt", "iTXt, compressed"):
            info = PngInfo()
            if kind.startswith("iTXt"):
                info.add_itxt(name, PARAMETERS, zip="compressed" in kind)
            else:
                info.add_text(name, PARAMETERS, zip=kind == "zTXt")
            made.append((f"{name} ({kind})", info))
    return made


@pytest.mark.parametrize(("name", "info"), texts_of_others(), ids=lambda each: str(each)[:40])
def test_texts_of_other_programs_go_out_of_a_png(tmp_path: Path, name: str, info: PngInfo) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out.png"
    picture().save(path, pnginfo=info)

    assert strip(path, out)

    assert {chunk[4:8] for chunk in chunks(out)} == {b"IHDR", b"IDAT", b"IEND"}
    assert frames(out) == frames(path)


def test_texts_behind_the_pixels_go_too(tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out.png"
    info = PngInfo()
    info.add(b"tEXt", b"parameters\0" + PARAMETERS.encode(), after_idat=True)
    picture().save(path, pnginfo=info)

    assert strip(path, out)

    assert b"SECRET" not in out.read_bytes()


@pytest.mark.parametrize("name", ["Title", "Author", "Copyright", "Creation Time", "Software"])
def test_whose_a_png_is_stays(tmp_path: Path, name: str) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out.png"
    for international in (False, True):
        info = PngInfo()
        (info.add_itxt if international else info.add_text)(name, "Ann, 2026")
        picture().save(path, pnginfo=info)

        assert not strip(path, out)


EXIF_OF_OTHERS = {
    "comment": {0x9286: b"ASCII\0\0\0a cat, SECRET"},
    "unicode comment": {0x9286: b"UNICODE\0" + "a cat, SECRET".encode("utf-16-be")},
    "description": {0x010E: "a cat, SECRET"},
    "Windows": {0x9C9C: "a cat, SECRET".encode("utf-16-le")},
    "parameters": {0x0131: PARAMETERS},
}


@pytest.mark.parametrize("tags", EXIF_OF_OTHERS.values(), ids=EXIF_OF_OTHERS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_free_text_in_exif_goes(tmp_path: Path, name: str, tags: dict[int, Any]) -> None:
    path, out = tmp_path / name, tmp_path / f"out-{name}"
    data = Image.Exif()
    for tag, value in tags.items():
        (data.get_ifd(0x8769) if tag == 0x9286 else data)[tag] = value
    picture().save(path, exif=data.tobytes())
    assert any(secret in path.read_bytes() for secret in (*SECRETS, b"\0S\0E\0C\0R\0E\0T"))

    assert strip(path, out)

    assert not any(secret in out.read_bytes() for secret in (*SECRETS, b"\0S\0E\0C\0R\0E\0T"))
    assert frames(out) == frames(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_exif_of_the_pixels_stays(tmp_path: Path, name: str) -> None:
    path, out = tmp_path / name, tmp_path / f"out-{name}"
    data = Image.Exif()
    data[0x0112] = 6
    data.get_ifd(0x8769)[0xA001] = 1
    picture().save(path, exif=data)

    assert not strip(path, out)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_xmp_goes(tmp_path: Path, name: str) -> None:
    path, out = tmp_path / name, tmp_path / f"out-{name}"
    picture().save(path, xmp=XMP)
    assert b"SECRET" in path.read_bytes()

    assert strip(path, out)

    assert b"SECRET" not in out.read_bytes()
    assert frames(out) == frames(path)


def test_comments_and_captions_of_a_jpeg_go(tmp_path: Path) -> None:
    path, out = tmp_path / "a.jpg", tmp_path / "out.jpg"
    picture().save(path, comment="a cat, SECRET")
    assert strip(path, out)
    assert b"SECRET" not in out.read_bytes()

    picture().save(path)
    content = path.read_bytes()
    caption = b"Photoshop 3.0\0" + b"8BIM SECRET"
    segment = b"\xff\xed" + struct.pack(">H", len(caption) + 2) + caption
    path.write_bytes(content[:2] + segment + content[2:])
    assert strip(path, out)
    assert out.read_bytes() == content


@pytest.mark.parametrize("tiff", [b"", b"II*\0", b"XX*\0\0\0\0\x08", b"II*\0\x08\0\0\0\xff\xff"])
def test_exif_that_cannot_be_read_goes(tmp_path: Path, tiff: bytes) -> None:
    path, out = tmp_path / "a.jpg", tmp_path / "out.jpg"
    picture().save(path, exif=b"Exif\0\0" + tiff + b"")
    content = path.read_bytes()

    assert strip(path, out) == (b"Exif" in content)

    assert b"Exif" not in out.read_bytes()
