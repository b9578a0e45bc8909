"""Signatures: how a receiver tells our webhooks from others' (Standard Webhooks, version 1)."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

PREFIX = "whsec_"
#: What the standard asks of a secret.
FEWEST_BYTES, MOST_BYTES = 24, 64
SYNTAX = f"write {PREFIX} and {FEWEST_BYTES} to {MOST_BYTES} random bytes in base64"


@dataclass(frozen=True)
class Secret:
    """What a receiver shares with us."""

    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Secret:
        """'whsec_MfKQ9r8G…' -> a secret. Raises ValueError, which quotes none of it."""
        given = text.removeprefix(PREFIX)
        try:
            key = b64decode(given + "=" * (-len(given) % 4), validate=True)
        except ValueError:
            raise ValueError(SYNTAX) from None
        if given == text or not FEWEST_BYTES <= len(key) <= MOST_BYTES:
            raise ValueError(SYNTAX)
        return cls(key)

    def sign(self, content: bytes) -> str:
        return f"v1,{b64encode(hmac.digest(self.key, content, 'sha256')).decode()}"


def signed(
    body: bytes, *, webhook_id: str, sent_at: float, secrets: Sequence[Secret]
) -> dict[str, str]:
    """The headers of a webhook, with a signature by each secret: of several, one is being changed.

    `sent_at` is of this try: receivers refuse what is some minutes old.
    """
    timestamp = str(int(sent_at))
    headers = {"webhook-id": webhook_id, "webhook-timestamp": timestamp}
    if secrets:
        content = f"{webhook_id}.{timestamp}.".encode() + body
        headers["webhook-signature"] = " ".join(secret.sign(content) for secret in secrets)
    return headers
