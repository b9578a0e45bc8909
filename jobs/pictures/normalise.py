"""Makes an input picture plain: 8-bit RGB or RGBA, upright, one frame, nothing but pixels."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ...workflows import is_passing
from ..errors import InputInvalid
from .png import png

MAX_SIDE = 16_384
DECODE_SECONDS = 10.0
#: Pillow reads a header piece by piece: millions of tiny pieces would cost minutes and gigabytes.
MAX_READS = 200_000
#: Between two reads a JPEG's decoder cannot be stopped, and a thousand bytes may hold many scans.
READ_BYTES = 1024
#: The smallest part of its sides that a JPEG can be decoded to.
DRAFT_PART = 8
#: Large files do not profit from more, and the GPU waits.
COMPRESS_LEVEL = 1


class _JpegFile(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Left out: nobody needs it, and an older Pillow reads gigabytes for a hostile block."""


#: First bytes -> reader. `Image.open` would also try others, and warn of sizes we judge ourselves.
READERS: tuple[tuple[int, bytes, type[ImageFile]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"\xff\xd8\xff", _JpegFile),
    (8, b"WEBP", WebPImageFile),
)
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT", b"bKGD"}
PLAIN_SEGMENTS = {"APP0", "APP14"}
END_OF_JPEG = b"\xff\xd9"

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: What Pillow raises for files that are not what they seem.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error,
          zlib.error, ArithmeticError)  # fmt: skip


def normalise(
    path: Path,
    *,
    max_pixels: int,
    max_side: int = MAX_SIDE,
    max_seconds: float = DECODE_SECONDS,
) -> str:
    """Make the picture at `path` plain, in place; its extension then, 'png' or 'jpg'.

    A picture that is plain already keeps its bytes. Raises InputInvalid for what is no PNG, JPEG
    or WebP, is too large, damaged, or takes too long to decode.
    """
    with _BoundedFile(path, max_seconds) as file:
        try:
            picture = _open(file)
            _check_size(*picture.size, max_pixels=max_pixels, max_side=max_side)
            if isinstance(picture, JpegImageFile):
                picture.decodermaxblock = READ_BYTES
                _skip_pixels(picture, file)
            picture.load()
            if _is_plain(picture, file):
                return "png" if isinstance(picture, PngImageFile) else "jpg"
            plain = _plain(picture)
        except Image.DecompressionBombError as error:
            raise InputInvalid(f"The picture has more than {max_pixels} pixels.") from error
        except DAMAGE as error:
            if isinstance(error, OSError) and is_passing(error):
                raise
            raise InputInvalid("The picture is damaged. Export it again, and send that.") from error
    _replace(path, plain)
    return "png"


class _BoundedFile(io.BufferedReader):
    """A file that ends a decoder which asks too often, for too long, or for more than there is.

    The last is judged here since other plugins set LOAD_TRUNCATED_IMAGES for the whole process.
    """

    def __init__(self, path: Path, max_seconds: float) -> None:
        super().__init__(io.FileIO(path))
        self._reads_left = MAX_READS
        self._deadline = time.monotonic() + max_seconds

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0 or time.monotonic() > self._deadline:
            raise InputInvalid("The picture takes too long to read. Export it again, simpler.")
        content = super().read(size)
        if size and not content:
            raise InputInvalid("The picture is cut off. Send the whole file.")
        return content


def _open(file: _BoundedFile) -> ImageFile:
    head = file.peek(16)
    for offset, signature, reader in READERS:
        if head[offset:].startswith(signature):
            return reader(file)
    raise InputInvalid()


def _check_size(width: int, height: int, *, max_pixels: int, max_side: int) -> None:
    if width * height > max_pixels:
        raise InputInvalid(
            f"The picture has {width} x {height} pixels; {max_pixels} are allowed. Make it smaller."
        )
    if max(width, height) > max_side:
        raise InputInvalid(
            f"The picture has {width} x {height} pixels; a side may have {max_side}."
        )


def _skip_pixels(picture: JpegImageFile, file: _BoundedFile) -> None:
    """Have a JPEG that keeps its bytes decoded to its last coefficient, but to few pixels."""
    if _is_plain(picture, file):
        width, height = (max(1, side // DRAFT_PART) for side in picture.size)
        picture.draft(picture.mode, (width, height))


def _is_plain(picture: ImageFile, file: _BoundedFile) -> bool:
    if isinstance(picture, PngImageFile):
        return picture.mode in ("RGB", "RGBA") and _is_plain_png(file)
    if isinstance(picture, JpegImageFile):
        return picture.mode == "RGB" and _is_plain_jpeg(picture, file)
    return False


def _is_plain_png(file: _BoundedFile) -> bool:
    file.seek(24)
    bit_depth = file.read(1)[0]
    return bit_depth == 8 and PLAIN_CHUNKS.issuperset(_chunks(file)) and not file.peek(1)


def _chunks(file: _BoundedFile) -> Iterator[bytes]:
    file.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">L4s", file.read(8))
        file.seek(length + 4, os.SEEK_CUR)
        yield kind


def _is_plain_jpeg(picture: JpegImageFile, file: _BoundedFile) -> bool:
    file.seek(-len(END_OF_JPEG), os.SEEK_END)
    ends = file.read(2) == END_OF_JPEG
    return ends and PLAIN_SEGMENTS.issuperset(name for name, _ in picture.applist)


def _plain(picture: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(picture.info.get("exif", b"")))
    if picture.mode.startswith("I"):
        picture = _eight_bit(picture)
    has_alpha = picture.mode.endswith("A") or "transparency" in picture.info
    plain = picture.convert("RGBA" if has_alpha else "RGB")
    # Pillow would write some of it into the new file.
    plain.info.clear()
    return plain if turn is None else plain.transpose(turn)


def _eight_bit(grey: Image.Image) -> Image.Image:
    """16-bit grey in 8 bits. Pillow's own conversion would clip it instead of scaling it."""
    scaled = grey.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    scaled.info.clear()
    return scaled


def _orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 if it has none. Reads nothing else of it."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHLH", tiff, entry)
            if tag == ORIENTATION:
                return int(value)
    except struct.error:
        return 1
    return 1


def _replace(path: Path, picture: Image.Image) -> None:
    part = path.with_name(f"{path.stem}-plain.part")
    try:
        part.write_bytes(png(picture, level=COMPRESS_LEVEL))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
