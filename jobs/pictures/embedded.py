"""Embedded: takes the prompts and graphs that nodes write into pictures out of them.

ComfyUI's own nodes write `prompt` and `workflow`; others write `parameters`, `generation_data`,
comments, descriptions or XMP. So text goes unless it is known to be none of that.

PNG, JPEG and WebP only, and without touching a pixel: everything else in the file stays byte for
byte. Files are mapped, never read whole.
"""

from __future__ import annotations

import mmap
import re
import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

#: Where a part of a file begins and ends.
Span = tuple[int, int]

COPY_BYTES = 1 << 20
WORDS = (
    *(b"prompt", b"workflow", b"parameters", b"generation_data", b"class_type"),
    *(b"steps:", b"sampler", b"cfg scale", b"cfg_scale", b"seed:"),
)
#: Any of the words, also where EXIF holds text as UTF-16.
TELLING = re.compile(
    b"|".join(rb"\0?".join(re.escape(bytes([letter])) for letter in word) for word in WORDS),
    re.IGNORECASE,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The last is ComfyUI's own, in animations.
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"comf")
PNG_LONGEST_KEYWORD = 79
#: Of texts that stay if they tell nothing: whose the picture is, and what made it.
PNG_PLAIN = {b"title", b"author", b"copyright", b"creation time", b"software", b"disclaimer"}
#: How an iTXt chunk goes on after the keyword that is not compressed.
PNG_NOT_COMPRESSED = b"\0\0\0"

#: EXIF and XMP, captions, and comments.
JPEG_METADATA = (0xE1, 0xED, 0xFE)
JPEG_EXIF, EXIF_HEAD = 0xE1, b"Exif\0\0"
JPEG_SCAN, JPEG_END = 0xDA, 0xD9

#: Chunk -> the bit that announces it in the VP8X chunk.
WEBP_METADATA = {b"EXIF": 0x08, b"XMP ": 0x04}
WEBP_FLAGS_AT = 20

#: Tags of EXIF that hold free text: a description, a comment, Windows' five, XMP and captions.
EXIF_TEXTS = {0x010E, 0x9286, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, 0x02BC, 0x83BB}
EXIF_DETAILS = 0x8769
EXIF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


class _Malformed(Exception):
    """The file is not built as its first bytes promise."""


def strip(path_in: Path, path_out: Path) -> bool:
    """Copy a file without what ComfyUI embedded; a file that cannot be understood, as it is.

    Whether something was taken out. Raises OSError only.
    """
    if path_in.stat().st_size:
        with (
            path_in.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if cuts := _cuts(content):
                with path_out.open("wb") as out:
                    _copy_without(content, cuts, out)
                return True
    shutil.copyfile(path_in, path_out)
    return False


def _cuts(content: mmap.mmap) -> list[Span]:
    find = _finder(content[:12])
    try:
        return find(content) if find else []
    except (_Malformed, struct.error, IndexError):
        return []


def _finder(head: bytes) -> Callable[[mmap.mmap], list[Span]] | None:
    if head.startswith(PNG_SIGNATURE):
        return _png_cuts
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_cuts
    return _webp_cuts if _is_webp(head) else None


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _copy_without(content: mmap.mmap, cuts: Iterable[Span], out: BinaryIO) -> None:
    position = 0
    for start, end in (*cuts, (len(content), len(content))):
        for at in range(position, start, COPY_BYTES):
            out.write(content[at : min(at + COPY_BYTES, start)])
        position = end
    if _is_webp(content[:12]):
        _mend_webp(content, cuts, out)


def _tells(content: mmap.mmap, span: Span) -> bool:
    return TELLING.search(content, *span) is not None


def _png_cuts(content: mmap.mmap) -> list[Span]:
    cuts, at, kind = [], len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        end = at + 12 + length
        if end > len(content):
            raise _Malformed
        if _is_png_telling(content, kind, (at + 8, end)):
            cuts.append((at, end))
        at = end
    return cuts


def _is_png_telling(content: mmap.mmap, kind: bytes, span: Span) -> bool:
    if kind in PNG_TEXTS:
        return not _is_png_plain(content, kind, span)
    # The checksum behind it is no part of it.
    return kind == b"eXIf" and _exif_tells(content, (span[0], span[1] - 4))


def _is_png_plain(content: mmap.mmap, kind: bytes, span: Span) -> bool:
    start, end = span
    keyword, _, _ = content[start : min(end, start + PNG_LONGEST_KEYWORD + 1)].partition(b"\0")
    at = start + len(keyword)
    can_be_read = kind == b"tEXt" or content[at : at + 3] == PNG_NOT_COMPRESSED
    return keyword.lower() in PNG_PLAIN and can_be_read and not _tells(content, span)


def _exif_tells(content: mmap.mmap, span: Span) -> bool:
    if _tells(content, span):
        return True
    tiff = content[slice(*span)].removeprefix(EXIF_HEAD)
    try:
        return not EXIF_TEXTS.isdisjoint(_exif_tags(tiff))
    except (KeyError, struct.error):
        # It cannot be read here, but perhaps elsewhere.
        return True


def _exif_tags(tiff: bytes) -> set[int]:
    """Those of the picture, and those of its details. Raises KeyError or struct.error."""
    order = EXIF_ORDERS[tiff[:4]]
    (start,) = struct.unpack_from(order + "L", tiff, 4)
    tags = _entries(tiff, order, start)
    details = _entries(tiff, order, tags[EXIF_DETAILS]) if EXIF_DETAILS in tags else {}
    return {*tags, *details}


def _entries(tiff: bytes, order: str, start: int) -> dict[int, int]:
    """Tag -> value, or where that is."""
    (count,) = struct.unpack_from(order + "H", tiff, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    found = [struct.unpack_from(order + "HHLL", tiff, at) for at in places]
    return {tag: value for tag, _, _, value in found}


def _jpeg_cuts(content: mmap.mmap) -> list[Span]:
    """All metadata if any of it tells: long EXIF goes on in segments that do not."""
    metadata, tells, at = [], False, 2
    while (kind := content[at + 1]) not in (JPEG_SCAN, JPEG_END):
        if content[at] != 0xFF:
            raise _Malformed
        if kind == 0xFF:
            # Any number of these may stand before a marker.
            at += 1
            continue
        (length,) = struct.unpack(">H", content[at + 2 : at + 4])
        end = at + 2 + length
        if kind in JPEG_METADATA:
            metadata.append((at, end))
            tells = tells or not _is_jpeg_plain(content, kind, (at + 4, end))
        at = end
    return metadata if tells else []


def _is_jpeg_plain(content: mmap.mmap, kind: int, span: Span) -> bool:
    is_exif = kind == JPEG_EXIF and content[span[0] : span[0] + len(EXIF_HEAD)] == EXIF_HEAD
    return is_exif and not _exif_tells(content, span)


def _webp_cuts(content: mmap.mmap) -> list[Span]:
    cuts, at = [], 12
    (size,) = struct.unpack("<I", content[4:8])
    if size + 8 > len(content):
        raise _Malformed
    while at < size + 8:
        kind, length = struct.unpack("<4sI", content[at : at + 8])
        end = at + 8 + length + length % 2
        if end > size + 8:
            raise _Malformed
        if kind == b"XMP " or (kind == b"EXIF" and _exif_tells(content, (at + 8, end))):
            cuts.append((at, end))
        at = end
    return cuts


def _mend_webp(content: mmap.mmap, cuts: Iterable[Span], out: BinaryIO) -> None:
    """Have the head announce what is left."""
    (size,) = struct.unpack("<I", content[4:8])
    out.seek(4)
    out.write(struct.pack("<I", size - sum(end - start for start, end in cuts)))
    if content[12:16] == b"VP8X":
        announced = content[WEBP_FLAGS_AT]
        for start, _ in cuts:
            announced &= ~WEBP_METADATA[content[start : start + 4]]
        out.seek(WEBP_FLAGS_AT)
        out.write(bytes([announced]))
