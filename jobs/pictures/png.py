"""PNG: pictures as PNG files, in half of Pillow's time on one core, and on several at once.

Each row is kept as its difference from the one above. Pillow weighs five such filters row by row,
which takes as long as compressing; a file becomes 3 % smaller by it (median of twelve pictures
made by models, level 4). The stripes of a picture are compressed side by side, into the same bytes
on any number of cores.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import partial, reduce

from PIL import Image, ImageChops

from ..threads import on_cores

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Pillow's mode -> PNG's colour type, 8 bits for each channel.
COLOUR_TYPES = {"L": 0, "RGB": 2, "RGBA": 6}
BITS = 8
#: The filter that takes the row above away.
UP = b"\x02"
#: Enough that beginning anew costs nothing, and little enough for every core to get some.
STRIPE_BYTES = 1 << 19
#: A zlib stream's first bytes; each stripe follows as deflate without a head of its own.
ZLIB_HEAD = b"\x78\x01"
RAW_DEFLATE = -15


def png(picture: Image.Image, *, level: int) -> bytes:
    """The file of a picture in mode L, RGB or RGBA, without metadata. `level` is zlib's, 0 to 9."""
    stripes = list(_stripes(_differences(picture), 1 + picture.width * len(picture.getbands())))
    compressed = on_cores(partial(_compressed, level=level), stripes)
    checksum = reduce(lambda value, stripe: zlib.adler32(stripe, value), stripes, 1)
    # An empty last block, since no stripe knows that it is the last.
    tail = zlib.compressobj(wbits=RAW_DEFLATE).flush() + struct.pack(">I", checksum)
    colour_type = COLOUR_TYPES[picture.mode]
    head = struct.pack(">IIBBBBB", *picture.size, BITS, colour_type, 0, 0, 0)
    parts = [_chunk(b"IDAT", data) for data in (ZLIB_HEAD, *compressed, tail)]
    return b"".join([SIGNATURE, _chunk(b"IHDR", head), *parts, _chunk(b"IEND", b"")])


def _differences(picture: Image.Image) -> bytes:
    """Row by row what is to be added to the row above."""
    above = Image.new(picture.mode, picture.size, 0)
    above.paste(picture, (0, 1))
    return ImageChops.subtract_modulo(picture, above).tobytes()


def _stripes(rows: bytes, row_bytes: int) -> Iterator[bytes]:
    """Whole rows, each led by the name of its filter."""
    width = row_bytes - 1
    filtered = [UP + rows[at : at + width] for at in range(0, len(rows), width)]
    height = max(1, STRIPE_BYTES // row_bytes)
    for top in range(0, len(filtered), height):
        yield b"".join(filtered[top : top + height])


def _compressed(stripe: bytes, *, level: int) -> bytes:
    deflate = zlib.compressobj(level, wbits=RAW_DEFLATE)
    return deflate.compress(stripe) + deflate.flush(zlib.Z_SYNC_FLUSH)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
