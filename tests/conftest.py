"""Loads the package as ComfyUI does: from its folder, whatever that is called."""

import importlib.util
import sys
from pathlib import Path

pytest_plugins = ["tests.common.runs"]

ROOT = Path(__file__).resolve().parent.parent


def _load_package() -> None:
    spec = importlib.util.spec_from_file_location("unified_api", ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["unified_api"] = package
    spec.loader.exec_module(package)


if "unified_api" not in sys.modules:
    _load_package()
