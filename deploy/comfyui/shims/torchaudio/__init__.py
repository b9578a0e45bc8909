"""Lets ComfyUI be imported where torchaudio does not load; image graphs never call it."""

from __future__ import annotations

__version__ = "0.0.0"


def __getattr__(name: str) -> object:
    # Python itself probes a module for such names while it imports it.
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(f"torchaudio.{name} was used, but torchaudio does not load on this machine")
