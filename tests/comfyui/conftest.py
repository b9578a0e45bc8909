"""A ComfyUI of each version for the whole test session, and pictures to send it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_process import ComfyProcess
from picture_server import PictureServer
from PIL import Image

NEWEST, OLDEST = "0.30.0", "0.16.3"
#: Nobody listens there.
NOBODY = "127.0.0.1:9"

StartComfy = Callable[..., ComfyProcess]


@pytest.fixture(scope="session")
def pictures() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server


@pytest.fixture(scope="session")
def allowed(pictures: PictureServer) -> dict[str, str]:
    """The setting that lets a ComfyUI fetch from the picture server, and from where nobody is."""
    return {"UNIFIED_API_ALLOW_HOSTS": f"{pictures.address}, {NOBODY}"}


@pytest.fixture(scope="session")
def newest(
    tmp_path_factory: pytest.TempPathFactory, allowed: dict[str, str]
) -> Iterator[ComfyProcess]:
    process = ComfyProcess(NEWEST, tmp_path_factory.mktemp("newest"), **allowed).start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    process = ComfyProcess(OLDEST, tmp_path_factory.mktemp("oldest")).start()
    yield process
    process.kill()


@pytest.fixture
def start_comfy(tmp_path: Path, allowed: dict[str, str]) -> Iterator[StartComfy]:
    """Start a ComfyUI of one's own, to be killed or misconfigured."""
    started: list[ComfyProcess] = []

    def start(version: str = NEWEST, base: Path | None = None, **more: Any) -> ComfyProcess:
        base = base or tmp_path / f"base {len(started)}"
        process = ComfyProcess(version, base, **{**allowed, **more})
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
