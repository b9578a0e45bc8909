"""Ear: stands among the websockets of ComfyUI's server, and hears what they are told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

#: Called with an event and its data.
Hear = Callable[[str, dict[str, Any]], None]

#: The first four bytes of such a message.
PREVIEW_IMAGE_WITH_METADATA = 4


class Ear:
    """What ComfyUI takes for a websocket. An exception out of it would end ComfyUI."""

    def __init__(self, heard: Hear) -> None:
        self._heard = heard

    async def send_json(self, message: dict[str, Any]) -> None:
        try:
            self._heard(message["type"], message.get("data") or {})
        except Exception:
            log.exception("an event of ComfyUI could not be used")

    async def send_bytes(self, message: bytearray) -> None:
        try:
            if preview := _preview(memoryview(message)):
                self._heard("preview", preview)
        except Exception:
            log.exception("a preview of ComfyUI could not be used")


def _preview(message: memoryview) -> dict[str, Any] | None:
    """The picture of a message, with what ComfyUI says of it.

    None for one that does not name its prompt: it may be of another.
    """
    if int.from_bytes(message[:4], "big") != PREVIEW_IMAGE_WITH_METADATA:
        return None
    end = 8 + int.from_bytes(message[4:8], "big")
    return {**json.loads(bytes(message[8:end])), "image": message[end:]}
