"""Which inputs of a node class take the names of files, as far as its declaration tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

#: Types of inputs whose value is the name of a file that the editor uploaded.
FILE_TYPES = {"WEBCAM", "AUDIO_RECORD", "LOAD_3D", "IMAGEUPLOAD", "FILEUPLOAD"}
TEXTS = ("STRING", "COMBO")
#: What inputs for files declare beside `image_upload`, `video_upload` and the like.
FILE_DETAILS = {"image_folder", "vhs_path_extensions"}
#: Endings of what people upload and nodes save. Models, fonts and styles are the operator's files.
MEDIA = re.compile(
    r".*\.(?:png|apng|jpe?g|jfif|webp|gif|bmp|tiff?|avif|heic|exr|mp4|m4v|mov|mkv|webm|avi|mpe?g"
    r"|wav|mp3|flac|ogg|opus|m4a|aac|latent|glb|gltf|obj|fbx|stl|ply|splat|ksplat|usdz?)"
    r"(?: \[(?:input|output|temp)\])?",
    re.IGNORECASE | re.DOTALL,
)
#: image_path, filename, save_dir, file_name, path_2, audiofile, but not file_format or profile.
PATH_NAME = re.compile(
    r"(?:.*_|.*(?:image|img|picture|photo|mask|video|audio|mesh|latent|text|input|output))?"
    r"(?:path|pathname|file|filename|filepath|dir|directory|folder|subfolder)"
    r"(?:_?(?:path|name))?s?_?\d*"
)
#: Of lists that are empty; those of models are called otherwise.
MEDIA_NAMES = {"image", "images", "mask", "video", "videos", "audio", "latent", "mesh"}
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+")
#: Of a default or a placeholder.
PATH = re.compile(r"(?:[A-Za-z]:)?[.~]{0,2}[/\\]\S*|.*insert/path.*", re.IGNORECASE)
URL = re.compile(r"https?://", re.IGNORECASE)
#: Among the names of files one for no file.
NO_FILE = {"none", "no file", ""}
#: So many choices tell whether they are files.
CHOICES_LOOKED_AT = 20

IsFile = Callable[[str], bool]


def names_file(
    name: str, kind: Any, details: Mapping[str, Any], choices: Sequence[Any] | None, is_file: IsFile
) -> bool:
    """Whether the value of an input is a file's or a folder's name, outside of the models' folders.

    `choices` are those of its list; None if it has none, or the list is made elsewhere. `is_file`
    tells of a name whether there is a file, or a folder, of that name in ComfyUI's folders.
    """
    # Of other people's nodes: it may be anything.
    kind = kind if isinstance(kind, str) else None
    if kind in FILE_TYPES or any(_is_file_detail(*each) for each in details.items()):
        return True
    if choices:
        return _are_files(choices, is_file)
    if choices is not None and name.lower() in MEDIA_NAMES:
        # The folder that is listed here is empty now.
        return True
    is_text = kind in TEXTS or choices is not None
    return is_text and (_is_path_name(name) or _shows_path(details))


def _is_file_detail(key: Any, value: Any) -> bool:
    return bool(value) and (str(key).endswith("_upload") or key in FILE_DETAILS)


def _are_files(choices: Sequence[Any], is_file: IsFile) -> bool:
    texts = (each for each in choices if isinstance(each, str) and each.lower() not in NO_FILE)
    found = list(islice(texts, CHOICES_LOOKED_AT))
    if any(map(MEDIA.fullmatch, found)):
        return True
    return bool(found) and all(map(is_file, found))


def _is_path_name(name: str) -> bool:
    return PATH_NAME.fullmatch(WORDS.sub("_", name).lower()) is not None


def _shows_path(details: Mapping[str, Any]) -> bool:
    shown = (details.get("default"), details.get("placeholder"))
    texts = [each for each in shown if isinstance(each, str) and not URL.match(each)]
    return any(PATH.fullmatch(each) or MEDIA.fullmatch(each) for each in texts)
