"""Embedded: takes the prompt and graph that ComfyUI writes into pictures out of them.

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
KEYWORDS = (b"prompt", b"workflow")
#: Any of the words, also where EXIF holds text as UTF-16.
TELLING = re.compile(
    b"|".join(rb"\0?".join(bytes([letter]) for letter in word) for word in KEYWORDS), re.IGNORECASE
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The last is ComfyUI's own, in animations.
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"comf")
PNG_LONGEST_KEYWORD = 79

#: EXIF and XMP, and comments.
JPEG_METADATA = (0xE1, 0xFE)
JPEG_SCAN, JPEG_END = 0xDA, 0xD9

#: Chunk -> the bit that announces it in the VP8X chunk.
WEBP_METADATA = {b"EXIF": 0x08, b"XMP ": 0x04}
WEBP_FLAGS_AT = 20


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
        start, end = span
        keyword, _, _ = content[start : min(end, start + PNG_LONGEST_KEYWORD + 1)].partition(b"\0")
        return keyword.lower() in KEYWORDS
    return kind == b"eXIf" and _tells(content, span)


def _jpeg_cuts(content: mmap.mmap) -> list[Span]:
    """All metadata if any of it tells: long EXIF goes on in segments that do not."""
    metadata, at = [], 2
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
        at = end
    return metadata if any(_tells(content, span) for span in metadata) else []


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
        if kind in WEBP_METADATA and _tells(content, (at, end)):
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
