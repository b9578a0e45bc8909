"""How long a result takes to become a PNG: as SaveImage does it, and as we do."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from statistics import median

from PIL import Image
from unified_api.jobs.png import png

from .bench import a_picture
from .report import row

TIMES = 9
#: SaveImage's own.
LEVEL = 4
LEVELS = (0, 1, 4, 6, 9)


def encoding() -> str:
    """A table of times and sizes by level."""
    picture = a_picture(0)
    lines = [row(["level", "SaveImage's way", "ours"]), row(["---"] * 3)]
    for level in LEVELS:
        ways = (lambda: _by_pillow(picture, level), lambda: png(picture, level=level))  # noqa: B023
        lines.append(row([str(level), *(_told(way) for way in ways)]))
    note = "Alone on the machine; medians. SaveImage's level is 4, and so is ours by default."
    return "\n".join(["### One megapixel as PNG", "", note, "", *lines, ""])


def _told(way: Callable[[], bytes]) -> str:
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        content = way()
        seconds.append(time.perf_counter() - began)
    return f"{median(seconds) * 1000:.0f} ms, {len(content) / 1e6:.2f} MB"


def _by_pillow(picture: Image.Image, level: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=level)
    return out.getvalue()
