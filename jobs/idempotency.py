"""IdempotencyKey: what is kept of the key by which a repeated request finds its job.

The id of a job is random and says nothing of the key. The key is kept beside the job, once, and
only as a hash together with the owner: nobody reads it there, and nobody's key is another's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from uuid import UUID, uuid5

#: The namespace of the job ids that earlier versions made of owner and key.
FORMER_IDS = UUID("6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11")


@dataclass(frozen=True)
class IdempotencyKey:
    """The key of one owner."""

    #: What is stored, and unique there.
    digest: str
    #: The id that earlier versions gave to the job of this key. Anybody can compute it.
    former_job_id: str

    @classmethod
    def of(cls, key: str, owner: str | None) -> IdempotencyKey:
        text = json.dumps([owner, key])
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls(digest, str(uuid5(FORMER_IDS, f"{owner or ''}\n{key}")))
