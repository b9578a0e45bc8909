"""What a file is, told by its content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ...workflows import is_passing

#: First bytes -> media type, for files that ComfyUI's nodes leave.
SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (0, b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (8, b"WEBP", "image/webp", "webp"),
    (0, b"GIF8", "image/gif", "gif"),
    (4, b"ftypavif", "image/avif", "avif"),
    (4, b"ftypM4A", "audio/mp4", "m4a"),
    (4, b"ftypqt", "video/quicktime", "mov"),
    (4, b"ftyp", "video/mp4", "mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm", "webm"),
    (8, b"WAVE", "audio/wav", "wav"),
    (0, b"fLaC", "audio/flac", "flac"),
    (0, b"OggS", "audio/ogg", "ogg"),
    (0, b"ID3", "audio/mpeg", "mp3"),
    (0, b"\xff\xfb", "audio/mpeg", "mp3"),
    (0, b"glTF", "model/gltf-binary", "glb"),
)

#: How Pillow says that it cannot, or will not, read a file.
UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    ValueError,
)

UNKNOWN_TYPE = "application/octet-stream"
EXTENSIONS = {content_type: extension for _, _, content_type, extension in SIGNATURES}


@dataclass(frozen=True)
class Media:
    """What a file is, told by its content. Width and height in pixels, of pictures only."""

    content_type: str
    width: int | None = None
    height: int | None = None


def media_of(path: Path) -> Media:
    """Look into a file."""
    with path.open("rb") as file:
        head = file.read(32)
    for offset, signature, content_type, _ in SIGNATURES:
        if head[offset:].startswith(signature):
            return Media(content_type, *_size(path, content_type))
    return Media(UNKNOWN_TYPE)


def extension_of(content_type: str) -> str:
    """'image/png' -> 'png'; 'bin' for what is not known."""
    return EXTENSIONS.get(content_type, "bin")


def _size(path: Path, content_type: str) -> tuple[int | None, int | None]:
    if not content_type.startswith("image/"):
        return None, None
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            return width, height
    except UNREADABLE as error:
        if isinstance(error, OSError) and is_passing(error):
            raise
        return None, None
