"""Small: a picture to be looked at, not to be worked on."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from .encode import FORMATS, simple
from .media import UNREADABLE

SIDE = 256


def shrunk(content: bytes) -> Image.Image | None:
    """Upright, grey, RGB or RGBA, its longest side SIDE at most; None if it is no picture."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            # A JPEG is then decoded no larger than is needed.
            picture.draft(None, (2 * SIDE, 2 * SIDE))
            small = simple(ImageOps.exif_transpose(picture))
    except UNREADABLE:
        return None
    small.thumbnail((SIDE, SIDE))
    return small
