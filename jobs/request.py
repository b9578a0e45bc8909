"""JobRequest: what a caller asks for, and the job that this becomes, wherever jobs are kept."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4, uuid5

from pydantic import ValidationError

from ..workflows import Violation, Workflow
from .errors import IdempotencyKeyReused, InvalidParameters
from .job import Delivery, Job, Submitted
from .sources import Embedded, source_of

#: A drawn seed survives JSON parsers that read every number as a double (JavaScript).
SEEDS = 2**53
#: The space of the ids that idempotency keys make.
IDEMPOTENCY = UUID("6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11")
#: Fields that every workflow takes beside its own, and what they are called in a Delivery.
COMMON = {"output_format": "format", "quality": "quality"}

#: Stores a picture and returns the reference to it.
Keep = Callable[[AsyncIterator[bytes]], Awaitable[str]]


@dataclass(frozen=True)
class JobRequest:
    """`body` is as the caller gave it; nothing in it has been judged yet."""

    job_id: str
    slug: str
    body: Mapping[str, Any]
    owner: str | None = None
    #: Given with an idempotency key: what a repeated request must equal.
    fingerprint: str | None = None

    @classmethod
    def received(
        cls, slug: str, body: Mapping[str, Any], owner: str | None, idempotency_key: str | None
    ) -> JobRequest:
        """A repeated request cannot make a second job: its id is the same."""
        if idempotency_key is None:
            return cls(str(uuid4()), slug, body, owner)
        job_id = str(uuid5(IDEMPOTENCY, f"{owner or ''}\n{idempotency_key}"))
        return cls(job_id, slug, body, owner, _fingerprint(slug, body))

    @property
    def may_be_replay(self) -> bool:
        return self.fingerprint is not None

    def replay(self, earlier: Job) -> Submitted:
        """The job of the same id that is there already. Raises IdempotencyKeyReused."""
        if earlier.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused()
        return Submitted(earlier, is_replay=True)

    async def job(self, workflow: Workflow, keep: Keep) -> Job:
        """The job to accept: its seed and defaults are fixed, its embedded pictures kept.

        Raises InvalidParameters, or what `keep` raises.
        """
        parameters, delivery = _split(workflow, self.body)
        parameters |= await _kept(parameters, workflow, keep)
        if violations := workflow.violations(parameters):
            raise InvalidParameters(violations)
        return Job(
            job_id=self.job_id,
            workflow=self.slug,
            parameters=workflow.complete(parameters, seed=secrets.randbelow(SEEDS)),
            owner=self.owner,
            fingerprint=self.fingerprint,
            delivery=delivery,
            extension=delivery.extension or workflow.extension,
            created_at=time.time(),
        )


def _fingerprint(slug: str, body: Mapping[str, Any]) -> str:
    text = json.dumps([slug, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _split(workflow: Workflow, body: Mapping[str, Any]) -> tuple[dict[str, Any], Delivery]:
    """The workflow's own parameters, and what is common to all. Raises InvalidParameters."""
    common = COMMON.keys() - workflow.schema["properties"].keys()
    given = {COMMON[name]: body[name] for name in common if body.get(name) is not None}
    try:
        delivery = Delivery.model_validate(given, strict=True)
    except ValidationError as error:
        raise InvalidParameters([_violation(fault) for fault in error.errors()]) from None
    return {name: value for name, value in body.items() if name not in common}, delivery


def _violation(fault: Any) -> Violation:
    field = str(fault["loc"][0])
    name = next(name for name, known in COMMON.items() if known == field)
    return Violation(name, f"/{name}", f"{name}: {fault['msg']}")


async def _kept(parameters: Mapping[str, Any], workflow: Workflow, keep: Keep) -> dict[str, str]:
    """The references to put in place of `data:` URIs, by parameter."""
    kept = {}
    for name in workflow.images:
        reference = parameters.get(name)
        if isinstance(reference, str) and reference[:5].lower() == "data:":
            source = source_of(reference, buckets=())
            assert isinstance(source, Embedded)
            kept[name] = await keep(_chunks(source.content))
    return kept


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
