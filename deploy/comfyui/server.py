"""A ComfyUI with our plugin in a base folder of ours: how it is called and run."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from .places import LAUNCHER, ComfyUI, link_to_clone
from .process import serving
from .provide import succeeds

ACCELERATOR_PROBE = """
import sys, torch
known = getattr(torch, "accelerator", torch.cuda)
sys.exit(not known.is_available())
"""


def command(comfyui: ComfyUI, base: Path, options: list[str]) -> list[str]:
    """What starts this ComfyUI, on its GPU when it has one, with the user's models at hand."""
    start = [str(comfyui.python), str(LAUNCHER), str(comfyui.tree), "--base-directory", str(base)]
    return [*start, *users_models(comfyui, base), *device(comfyui.python, options), *options]


def prepare(base: Path) -> Path:
    """A base folder in which this clone is the only custom node."""
    for name in ("models", "input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link_to_clone(base / "custom_nodes" / "unified-api")
    return base


def users_models(comfyui: ComfyUI, base: Path) -> list[str]:
    if comfyui.is_ours:
        return []
    folders = {f.name: str(f) for f in (comfyui.tree / "models").glob("*") if f.is_dir()}
    config = base / "users_models.yaml"
    # JSON is YAML, and needs no package to be written.
    config.write_text(json.dumps({"existing": folders}, indent=2), encoding="utf-8")
    return ["--extra-model-paths-config", str(config)]


def device(python: Path, options: list[str]) -> list[str]:
    if succeeds([str(python), "-c", ACCELERATOR_PROBE]):
        return []
    chosen = any(option.startswith("--use-") for option in options)
    return ["--cpu"] if chosen else ["--cpu", "--use-pytorch-cross-attention"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_taken(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(comfyui: ComfyUI, base: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of a ComfyUI of our own that ends with the block."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    options = ["--listen", "127.0.0.1", "--port", str(port), "--disable-api-nodes"]
    call = command(comfyui, base, options)
    with serving("ComfyUI", call, probe=f"{address}/health", environment=environment):
        yield address
