"""`./install.sh demo --aws`, in a Python that has boto3 and moto."""

from __future__ import annotations

import sys
from pathlib import Path

from ..comfyui.places import ComfyUI
from ..comfyui.report import guarded
from .demo import demo


def main(arguments: list[str]) -> int:
    tree, python = map(Path, arguments)
    demo(ComfyUI(tree, python))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
