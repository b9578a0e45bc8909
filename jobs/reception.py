"""Reception: makes an accepted job of a request, or says why not."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4, uuid5

from pydantic import ValidationError

from ..workflows import Violation, Workflow
from .errors import (
    IdempotencyKeyReused,
    InvalidParameters,
    NoRoom,
    NotReady,
    QueueFull,
    StorageUnavailable,
)
from .job import Delivery, Job, Submitted
from .workshop import Workshop

log = logging.getLogger(__name__)

#: A drawn seed survives JSON parsers that read every number as a double (JavaScript).
SEEDS = 2**53
#: The space of the ids that idempotency keys make.
IDEMPOTENCY = UUID("6f0b9a3e-6f0d-4c1e-9b53-5a1f0d2b7c11")
#: Fields that every workflow takes beside its own, and what they are called in a Delivery.
COMMON = {"output_format": "format", "quality": "quality"}


class Reception:
    """The door of the store. `waiting` counts the jobs that nobody has taken up yet."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self.waiting = 0
        #: Why no jobs are accepted at all.
        self.closed: str | None = "The service is starting."

    async def submit(
        self, slug: str, body: Mapping[str, Any], owner: str | None, idempotency_key: str | None
    ) -> Submitted:
        """Accept a job: it is on disk when this returns. See Engine.submit for what it raises."""
        job_id = _job_id(owner, idempotency_key)
        fingerprint = _fingerprint(slug, body) if idempotency_key else None
        if idempotency_key and (earlier := await self._stored(job_id)):
            return _replay(earlier, fingerprint)
        workflow = self._open_for(slug)
        parameters, delivery = _split(workflow, body)
        parameters |= await self._shop.inputs.keep_embedded(parameters, workflow.images)
        if violations := workflow.violations(parameters):
            raise InvalidParameters(violations)
        job = Job(
            job_id=job_id,
            workflow=slug,
            parameters=workflow.complete(parameters, seed=secrets.randbelow(SEEDS)),
            owner=owner,
            fingerprint=fingerprint,
            delivery=delivery,
            extension=delivery.extension or workflow.extension,
            created_at=time.time(),
        )
        if await self._insert(job):
            return Submitted(job, is_replay=False)
        # Somebody with the same key was faster.
        faster = await self._stored(job_id)
        return _replay(faster or job, fingerprint)

    def _open_for(self, slug: str) -> Workflow:
        """The workflow, if a job of it can be accepted now."""
        if problem := self.closed or self._shop.spool.problem:
            raise NotReady(problem)
        if problem := self._shop.disk.problem:
            raise NoRoom(problem)
        if self.waiting >= self._shop.settings.max_pending:
            raise QueueFull()
        return self._shop.offer.healthy(slug)

    async def _stored(self, job_id: str) -> Job | None:
        try:
            return await self._shop.store.get(job_id)
        except sqlite3.Error as error:
            log.exception("the job store could not be read")
            raise StorageUnavailable() from error

    async def _insert(self, job: Job) -> bool:
        try:
            is_new = await self._shop.store.insert(job)
        except sqlite3.Error as error:
            log.exception("a job could not be stored")
            raise StorageUnavailable() from error
        self.waiting += is_new
        return is_new


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


def _job_id(owner: str | None, idempotency_key: str | None) -> str:
    """A repeated request cannot make a second job: its id is the same."""
    if idempotency_key is None:
        return str(uuid4())
    return str(uuid5(IDEMPOTENCY, f"{owner or ''}\n{idempotency_key}"))


def _fingerprint(slug: str, body: Mapping[str, Any]) -> str:
    text = json.dumps([slug, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _replay(job: Job, fingerprint: str | None) -> Submitted:
    if job.fingerprint != fingerprint:
        raise IdempotencyKeyReused()
    return Submitted(job, is_replay=True)
