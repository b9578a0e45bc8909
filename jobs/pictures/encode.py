"""Encode: a picture that ComfyUI made, in the format that the caller wants."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from ...workflows import is_passing
from ..errors import ConversionFailed
from ..job import Delivery, Format
from .png import png

#: What nodes save pictures as. Without a list Pillow would start Ghostscript for an EPS file.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
#: As ComfyUI does.
PNG_LEVEL = 4


def encoded(picture: Image.Image, delivery: Delivery, *, png_level: int) -> bytes:
    """The file of a picture in mode L, RGB or RGBA; a PNG unless told otherwise."""
    if delivery.format in (None, "png"):
        return png(picture, level=png_level)
    out = io.BytesIO()
    _fit(picture, delivery.format).save(out, delivery.format.upper(), quality=delivery.quality)
    return out.getvalue()


def convert(
    path_in: Path, path_out: Path, *, format: Format, quality: int, png_level: int = PNG_LEVEL
) -> None:
    """Write a picture anew, the first one of an animation, with nothing embedded but its colours.

    What is transparent becomes white in a JPEG. `quality` (1 to 100) is for JPEG and WebP, and
    `png_level` (0 to 9) for PNG. Raises ConversionFailed if the file is no picture, and
    OSError if the disk refuses.
    """
    picture = _load(path_in)
    # The profile of other modes does not fit what they become.
    profile = picture.info.get("icc_profile") if picture.mode in ("RGB", "RGBA", "P") else None
    picture = _fit(simple(picture), format)
    picture.info.clear()
    if format == "png":
        path_out.write_bytes(png(picture, level=png_level, profile=profile))
        return
    with path_out.open("wb") as out:
        picture.save(out, format.upper(), icc_profile=profile, quality=quality)


def _load(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and is_passing(error):
            raise
        raise ConversionFailed(
            "The result is not a picture, so its format cannot change."
        ) from error


def simple(picture: Image.Image) -> Image.Image:
    """Grey, RGB or RGBA of 8 bits."""
    if picture.mode.startswith("I"):
        # Pillow would cut 16 bits off at 255 instead of scaling them.
        return picture.point(lambda value: value / 257).convert("L")
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.copy() if picture.mode == "L" else picture.convert("RGB")


def _fit(picture: Image.Image, format: Format) -> Image.Image:
    """What is transparent becomes white where a format knows no transparency."""
    return _on_white(picture) if format == "jpeg" and picture.mode == "RGBA" else picture


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
