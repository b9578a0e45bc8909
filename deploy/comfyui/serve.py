"""Runs ComfyUI with the plugin, and restarts it when it dies."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from .places import SERVE_BASE, ComfyUI
from .report import Failure, say
from .server import command, is_taken, prepare
from .supervisor import Limits, can_supervise, supervise

EVERYWHERE = {"0.0.0.0", "::", "0.0.0.0,::"}
#: Tells the plugin that there is a supervisor: it ends ComfyUI when the worker thread has died.
EXIT_ON_HANG = "UNIFIED_API_EXIT_ON_HANG"
MAX_QUICK_DEATHS = "UNIFIED_API_MAX_QUICK_DEATHS"


def serve(comfyui: ComfyUI, options: list[str]) -> int:
    """Returns ComfyUI's exit status."""
    limits = limits_from(os.environ)
    address = listening_at(options)
    say(f"API        {address}/api/v1")
    say(f"Docs       {address}/api/v1/docs")
    say(f"Dashboard  {address}/api/v1/dashboard")
    say(f"Health     {address}/health")
    say(f"Editor     {address}/")
    say("ComfyUI starts now, in about half a minute they answer. Ctrl-C ends it.")
    call = command(comfyui, prepare(SERVE_BASE), options)
    if not can_supervise():
        # Only Linux ties a child to its parent. Elsewhere this process becomes ComfyUI.
        os.execv(call[0], call)
    return supervise(call, supervised(os.environ), limits=limits)


def supervised(environment: Mapping[str, str]) -> dict[str, str]:
    """What the user says about `EXIT_ON_HANG` counts."""
    chosen = environment.get(EXIT_ON_HANG, "").strip()
    return {**environment, EXIT_ON_HANG: chosen or "1"}


def limits_from(environment: Mapping[str, str]) -> Limits:
    number = environment.get(MAX_QUICK_DEATHS, "").strip()
    if not number:
        return Limits()
    if not (number.isdecimal() and int(number) > 0):
        raise Failure(f"{MAX_QUICK_DEATHS} is '{number}': write a whole number, 1 or more.")
    return Limits(max_quick_deaths=int(number))


def listening_at(options: list[str]) -> str:
    """The address where ComfyUI will answer with these options; refuses one that is taken."""
    known, _ = comfyui_options().parse_known_args(options)
    host = "127.0.0.1" if known.listen in EVERYWHERE else known.listen.split(",")[0]
    if is_taken(host, known.port):
        raise Failure(f"Port {known.port} is taken: run ./install.sh serve --port N with a free N.")
    scheme = "https" if known.tls_keyfile else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{known.port}"


def comfyui_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--listen", default="127.0.0.1", nargs="?", const="0.0.0.0")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--tls-keyfile")
    return parser
