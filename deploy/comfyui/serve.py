"""Starts ComfyUI with the plugin and becomes it: its signals and exit status are ours."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from .places import SERVE_BASE, ComfyUI
from .report import Failure, say
from .server import command, is_taken, prepare

EVERYWHERE = {"0.0.0.0", "::", "0.0.0.0,::"}


def serve(comfyui: ComfyUI, options: list[str]) -> NoReturn:
    address = listening_at(options)
    say(f"API        {address}/api/v1")
    say(f"Docs       {address}/api/v1/docs")
    say(f"Dashboard  {address}/api/v1/dashboard")
    say(f"Health     {address}/health")
    say(f"Editor     {address}/")
    say("ComfyUI starts now, in about half a minute they answer. Ctrl-C ends it.")
    call = command(comfyui, prepare(SERVE_BASE), options)
    os.execv(call[0], call)


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
