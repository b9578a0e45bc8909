"""JobRequest: what a caller asks for, and the job that this becomes, wherever jobs are kept."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from ..workflows import Workflow
from .errors import (
    ForbiddenSource,
    IdempotencyKeyReused,
    InvalidParameters,
    StorageUnavailable,
)
from .extras import split
from .idempotency import IdempotencyKey
from .job import LAST_MOMENT, Job, Priority, Submitted
from .owners import DIGEST, MARK, is_owned_name
from .private_files import private_file_violations
from .readable import INPUTS
from .sources import UPLOAD, Embedded, source_of
from .staging import Keep

#: A drawn seed survives JSON parsers that read every number as a double (JavaScript).
SEEDS = 2**53
#: Without the mark of its owner it is named as by earlier versions, whose fingerprints count still.
OWNED_UPLOAD = re.compile(f"((?:upload:|{INPUTS}/){DIGEST}){MARK}")
NOT_YOUR_UPLOAD = "This is no upload of yours on this machine. Upload the picture again."
ID_IN_USE = "The job was not accepted, since its id is in use already. Send the request again."


@dataclass(frozen=True)
class JobRequest:
    """`body` is as the caller gave it; nothing in it has been judged yet."""

    job_id: str
    slug: str
    body: Mapping[str, Any]
    owner: str | None = None
    idempotency_key: IdempotencyKey | None = None
    #: Given with an idempotency key: what a repeated request must equal.
    fingerprint: str | None = None
    #: When the job is to be done, in seconds since the epoch.
    deadline: float | None = None
    #: If it is told beside the body.
    priority: Priority | None = None
    #: Whether it may name uploads that lie on this machine; only those of its owner then.
    may_name_uploads: bool = True

    @classmethod
    def received(
        cls,
        slug: str,
        body: Mapping[str, Any],
        owner: str | None,
        idempotency_key: str | None,
        cancel_after: float | None = None,
    ) -> JobRequest:
        """The id is random: whoever knows the idempotency key does not know the id."""
        request = cls(
            str(uuid4()),
            slug,
            body,
            owner,
            deadline=None if cancel_after is None else time.time() + cancel_after,
        )
        if idempotency_key is None:
            return request
        return replace(
            request,
            idempotency_key=IdempotencyKey.of(idempotency_key, owner),
            fingerprint=_fingerprint(slug, body),
        )

    def replay(self, earlier: Job) -> Submitted:
        """The answer to a repeated request, whose job is there already.

        Raises IdempotencyKeyReused if the request was another one, StorageUnavailable if it has
        no key, so that the job is somebody else's.
        """
        if self.idempotency_key is None:
            raise StorageUnavailable(ID_IN_USE)
        # Of a record that cannot be read, nobody knows what the request was.
        if earlier.is_readable and earlier.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused()
        return Submitted(earlier, is_replay=True)

    def is_former(self, found: Job) -> bool:
        """Whether a job with the former id of the key was made for it by an earlier version.

        Anybody who can send a task to a queue can give it this id.
        """
        return found.owner == self.owner and found.fingerprint is not None and not found.is_shared

    async def job(self, workflow: Workflow, keep: Keep) -> Job:
        """The job to accept: its seed and defaults are fixed, its embedded pictures kept.

        Raises InvalidParameters, ForbiddenSource, or what `keep` raises.
        """
        parameters, extras = split(workflow, self.body)
        self._check_uploads(parameters, workflow)
        parameters |= await _kept(parameters, workflow, keep)
        if violations := (
            workflow.violations(parameters) or private_file_violations(workflow, parameters)
        ):
            raise InvalidParameters(violations)
        now = time.time()
        return Job(
            job_id=self.job_id,
            workflow=self.slug,
            parameters=workflow.complete(parameters, seed=secrets.randbelow(SEEDS)),
            metadata=extras.metadata,
            priority=self.priority or extras.priority,
            webhook=extras.webhook,
            owner=self.owner,
            fingerprint=self.fingerprint,
            delivery=extras.delivery,
            extension=extras.delivery.extension or workflow.extension,
            created_at=now,
            deadline=self.deadline,
            give_up_at=_earlier(self.deadline, now, workflow.max_wait_seconds),
        )

    def _check_uploads(self, parameters: Mapping[str, Any], workflow: Workflow) -> None:
        """An upload is of use to its owner alone, whoever comes to know its name."""
        for name in workflow.images:
            upload = UPLOAD.fullmatch(str(parameters.get(name)))
            if upload and not (self.may_name_uploads and is_owned_name(upload["name"], self.owner)):
                raise ForbiddenSource(f"{name}: {NOT_YOUR_UPLOAD}")


def _earlier(deadline: float | None, now: float, wait_seconds: float | None) -> float | None:
    begin_by = None if wait_seconds is None else now + min(wait_seconds, LAST_MOMENT - now)
    return min((each for each in (deadline, begin_by) if each is not None), default=None)


def _fingerprint(slug: str, body: Mapping[str, Any]) -> str:
    text = OWNED_UPLOAD.sub(r"\1", json.dumps([slug, body], sort_keys=True))
    return hashlib.sha256(text.encode()).hexdigest()


async def _kept(parameters: Mapping[str, Any], workflow: Workflow, keep: Keep) -> dict[str, str]:
    """The references to put in place of `data:` URIs, by parameter."""
    kept = {}
    for name in workflow.images:
        reference = parameters.get(name)
        if isinstance(reference, str) and reference[:5].lower() == "data:":
            source = source_of(reference)
            assert isinstance(source, Embedded)
            kept[name] = await keep(_chunks(source.content))
    return kept


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
