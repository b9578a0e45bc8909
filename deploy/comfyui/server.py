"""A ComfyUI with our plugin in a base folder of ours: how it is called, started and ended."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from .places import LAUNCHER, ComfyUI, link_to_clone
from .provide import succeeds
from .report import HEARTBEAT_SECONDS, Failure, log_file, say_alive, tail

START_SECONDS = 300
STOP_SECONDS = 20
PROBE_SECONDS = 0.5
SEE_LOG = "Its last lines, above, tell why: mend that, then run this again."
ACCELERATOR_PROBE = """
import sys, torch
known = getattr(torch, "accelerator", torch.cuda)
sys.exit(not known.is_available())
"""
# A proxy named in the environment has no business with our own machine.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
def running(comfyui: ComfyUI, base: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a ComfyUI of our own that ends with the block."""
    port = free_port()
    options = ["--listen", "127.0.0.1", "--port", str(port), "--disable-api-nodes"]
    log = log_file("comfyui")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(comfyui, base, options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_up(process, address, log)
            yield address
        except Failure as failure:
            raise Failure(str(failure), failure.details or tail(log)) from failure
        finally:
            stop(process)


def wait_until_up(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    started = shown = time.monotonic()
    while not is_up(address):
        if process.poll() is not None:
            raise Failure(f"ComfyUI ended while it was starting. {SEE_LOG}")
        now = time.monotonic()
        if now - started > START_SECONDS:
            raise Failure(f"ComfyUI was not up after {START_SECONDS} s. {SEE_LOG}")
        if now - shown > HEARTBEAT_SECONDS:
            shown = now
            say_alive(started, log)
        time.sleep(PROBE_SECONDS)


def is_up(address: str) -> bool:
    try:
        with http.open(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
