"""How long a result takes to become a PNG: as SaveImage does it, and as we do."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from PIL import Image
from unified_api.jobs.pictures.png import png

from .bench import a_picture
from .report import row

TIMES = 9
#: SaveImage's own.
LEVEL = 4
LEVELS = (0, 1, 4, 6, 9)


def encoding() -> tuple[str, float]:
    """A table of times and sizes by level; and the milliseconds that SaveImage takes."""
    picture = a_picture(0)
    lines = [row(["level", "SaveImage's way", "ours"]), row(["---"] * 3)]
    ways = {level: _both(picture, level) for level in LEVELS}
    for level, both in ways.items():
        told = (f"{each.milliseconds:.0f} ms, {each.megabytes:.2f} MB" for each in both)
        lines.append(row([str(level), *told]))
    note = "Alone on the machine; medians. SaveImage's level is 4, and so is ours by default."
    title = "### One megapixel as PNG"
    return "\n".join([title, "", note, "", *lines, ""]), ways[LEVEL][0].milliseconds


class Encoded(NamedTuple):
    milliseconds: float
    megabytes: float


def _both(picture: Image.Image, level: int) -> tuple[Encoded, Encoded]:
    by_pillow = _measured(lambda: _by_pillow(picture, level))
    return by_pillow, _measured(lambda: png(picture, level=level))


def _measured(way: Callable[[], bytes]) -> Encoded:
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        content = way()
        seconds.append(time.perf_counter() - began)
    return Encoded(median(seconds) * 1000, len(content) / 1e6)


def _by_pillow(picture: Image.Image, level: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=level)
    return out.getvalue()
