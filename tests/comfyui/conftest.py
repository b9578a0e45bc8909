"""A ComfyUI of each version for the whole test session, and pictures to send it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, open_page
from comfy_process import ComfyProcess
from forked import ForkedComfy
from picture_server import PictureServer
from PIL import Image

from tests.common.ports import free_port

__all__ = ["chromium", "open_page"]

NEWEST, OLDEST = "0.30.0", "0.16.3"
#: For `parametrize`, and for fixtures of these names.
EACH_VERSION = [NEWEST, pytest.param(OLDEST, marks=pytest.mark.full)]
EACH_SHARED = ["newest", pytest.param("oldest", marks=pytest.mark.full)]
#: Nobody listens there.
NOBODY = "127.0.0.1:9"
RECEIVER_SECRET = "whsec_" + "c2hhcmVkIHdpdGggdGhlIHJlY2VpdmVyIQ=="

StartComfy = Callable[..., ComfyProcess]


@pytest.fixture(scope="session")
def pictures() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server


@pytest.fixture(scope="session")
def receiver_place() -> str:
    """Where a test may take webhooks, of ComfyUIs that have what is `allowed`."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def allowed(pictures: PictureServer, receiver_place: str) -> dict[str, str]:
    """The settings that let a ComfyUI reach the picture server, a receiver, and nobody's port."""
    return {
        "UNIFIED_API_ALLOW_HOSTS": f"{pictures.address}, {receiver_place}, {NOBODY}",
        "UNIFIED_API_WEBHOOK_SECRET": RECEIVER_SECRET,
    }


@pytest.fixture(scope="session")
def newest(
    tmp_path_factory: pytest.TempPathFactory, allowed: dict[str, str]
) -> Iterator[ComfyProcess]:
    process = ForkedComfy(NEWEST, tmp_path_factory.mktemp("newest"), **allowed).start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    process = ForkedComfy(OLDEST, tmp_path_factory.mktemp("oldest")).start()
    yield process
    process.kill()


@pytest.fixture
def start_comfy(tmp_path: Path, allowed: dict[str, str]) -> Iterator[StartComfy]:
    """Start a ComfyUI of one's own, to be killed or misconfigured.

    Where the environment is for Python itself, pass `kind=ComfyProcess`: a new interpreter.
    """
    started: list[ComfyProcess] = []

    def start(
        version: str = NEWEST,
        base: Path | None = None,
        kind: type[ComfyProcess] = ForkedComfy,
        **more: Any,
    ) -> ComfyProcess:
        base = base or tmp_path / f"base {len(started)}"
        process = kind(version, base, **{**allowed, **more})
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
