"""What the tests of several commands share."""

from __future__ import annotations

from .machine import machine

__all__ = ["machine"]
