"""Prints where a ComfyUI keeps what: `python folders.py [ComfyUI options]`, in its folder.

It runs on ComfyUI's Python, asks ComfyUI itself, and makes no folder.
"""

from __future__ import annotations

import importlib
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

#: Read by ComfyUI unasked, if it is there.
USUAL = Path("extra_model_paths.yaml")


def main() -> None:
    # Modules of ours must not be found by their plain names, and those of ComfyUI must.
    sys.path[0] = str(Path.cwd())
    sys.addaudithook(refuse_to_make_folders)
    importlib.import_module("comfy.options").enable_args_parsing()
    print(json.dumps(folders(importlib.import_module("comfy.cli_args").args)))


def refuse_to_make_folders(event: str, _: tuple[object, ...]) -> None:
    """ComfyUI makes its input folder as soon as it is asked for any; here it would be root's."""
    if event == "os.mkdir":
        raise PermissionError


def folders(args: Namespace) -> dict[str, Any]:
    """Those of ComfyUI by name, and for each kind of model all that it may lie in."""
    paths = importlib.import_module("folder_paths")
    load = importlib.import_module("utils.extra_config").load_extra_path_config
    for file in configurations(args):
        load(str(file))
    kinds = {kind: found[0] for kind, found in paths.folder_names_and_paths.items()}
    return {
        "output": absolute(args.output_directory or paths.get_output_directory()),
        "input": absolute(args.input_directory or paths.get_input_directory()),
        "user": absolute(args.user_directory or paths.get_user_directory()),
        "models": absolute(paths.models_dir),
        "kinds": kinds,
    }


def configurations(args: Namespace) -> Iterator[Path | str]:
    if USUAL.is_file():
        yield USUAL
    yield from chain(*args.extra_model_paths_config or ())


def absolute(folder: str) -> str:
    return str(Path(folder).absolute())


if __name__ == "__main__":
    main()
