"""S3Results: results in a bucket. The first output is the mark that a job is published.

Its key follows from the job alone, it is written last, and its metadata tell all outputs. The
others have their content in their keys, so outputs of two attempts never mix. A task of a queue may
have the id of a job that was submitted over HTTP, so the metadata tell the source of the job too,
and no job takes the result of another source for its own.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from ..errors import (
    InputFetchFailed,
    JobFailed,
    ObjectUnknown,
    OutputLost,
    PublishFailed,
    UnknownOutput,
)
from ..job import Job, Output
from ..links import Links, key_of
from ..outputs import describe, intact
from ..owners import owner_mark
from ..pictures.media import extension_of
from ..threads import off_loop
from .bucket import Bucket, Found, NewObject
from .client import PATIENCE_SECONDS
from .published import REMOVAL_SECONDS, document_of, listing_of, outputs_in, remove_objects

log = logging.getLogger(__name__)

UNREADABLE = "The result cannot be read from the bucket now, or is no longer there."


class S3Results:
    """Keeps results under `{prefix}/{workflow}/{job_id}`."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        prefix: str,
        links: Links,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.link = links.link
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._patience = patience

    @property
    def trouble(self) -> JobFailed | None:
        """Why the bucket cannot be used; None while it can."""
        return self._bucket.trouble

    async def probe(self) -> None:
        """Ask the bucket how it is."""
        await self._bucket.probe()

    async def open(self) -> None:
        """Nothing to prepare: the service starts whether or not the bucket can be reached."""

    async def find(self, job: Job) -> tuple[Output, ...] | None:
        """What was published for a job, if it was and the bucket tells.

        A job that is then run again does no harm: what was published stays. Raises StorageDenied
        or StorageUnreachable.
        """
        try:
            mark = await self._bucket.head(self._first_key(job), patience=self._patience)
        except ObjectUnknown as error:
            log.warning("job %s: %s", job.job_id, error)
            return None
        if mark is None or not mark.belongs_to(
            job.job_id, source=job.source, created_at=job.created_at
        ):
            return None
        return await self._read(mark)

    async def publish(self, job: Job) -> tuple[Output, ...]:
        """Publish the rendered files of a job; what was published before stays as it is.

        Raises OutputLost if a file is gone or changed, PublishFailed if the disk refuses,
        StorageDenied, StorageUnreachable, ObjectTaken or ObjectUnknown.
        """
        if not await intact(job.rendered):
            raise OutputLost()
        try:
            return await self._upload(job, await off_loop(self._describe, job))
        except OSError as error:
            raise PublishFailed() from error

    async def remove(self, job: Job) -> None:
        """Delete what was published for a job. Raises StorageDenied or StorageUnreachable."""
        patience = min(self._patience, REMOVAL_SECONDS)
        await remove_objects(self._bucket, job, patience=patience)

    def path(self, job: Job, number: int) -> Path:
        """Raises UnknownOutput: the files are not on this machine."""
        raise UnknownOutput()

    async def read(self, job: Job, number: int) -> bytes:
        """The content of one output of a completed job. Raises UnknownOutput without it."""
        uri = job.outputs[number].s3_uri or ""
        if not uri.startswith(self._bucket.uri("")):
            raise UnknownOutput()
        try:
            return b"".join([chunk async for chunk in self._bucket.download(key_of(uri))])
        except InputFetchFailed as error:
            raise UnknownOutput(UNREADABLE) from error

    async def _upload(self, job: Job, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
        for number in range(1, len(outputs)):
            await self._put(self._object(job, number, outputs[number], {}))
        if await self._put(await self._mark(job, outputs)):
            return outputs
        # Another attempt was first, perhaps with other outputs; or this one, and was not told.
        published = await self.find(job)
        if published is None:
            raise ObjectUnknown()
        return published

    async def _mark(self, job: Job, outputs: tuple[Output, ...]) -> NewObject:
        """The first output. Its metadata tell of all, or where that is told if they are many."""
        document = document_of(outputs)
        mark = self._object(job, 0, outputs[0], {"outputs": document.decode()})
        if mark.metadata_fits:
            return mark
        listing = listing_of(self._stem(job), job, document)
        await self._put(listing)
        return self._object(job, 0, outputs[0], {"outputs-key": listing.key})

    async def _read(self, mark: Found) -> tuple[Output, ...]:
        if key := mark.metadata.get("outputs-key"):
            document: str | bytes = await self._bucket.read(key, patience=self._patience)
        else:
            document = mark.metadata["outputs"]
        return outputs_in(document)

    async def _put(self, new: NewObject) -> bool:
        return await self._bucket.put_once(new, patience=self._patience)

    def _object(self, job: Job, number: int, output: Output, metadata: dict[str, str]) -> NewObject:
        plain = NewObject(
            key=self._key(job, number, output),
            body=job.rendered[number].path,
            sha256=output.sha256,
            content_type=output.content_type,
            job_id=job.job_id,
            metadata={
                "attempt": str(job.attempt),
                "owner": owner_mark(job.owner, job.job_id),
                **metadata,
            },
            source=job.source,
            created_at=job.created_at,
        )
        told = replace(plain, metadata={**plain.metadata, "job-metadata": json.dumps(job.metadata)})
        return told if job.metadata and told.metadata_fits else plain

    def _describe(self, job: Job) -> tuple[Output, ...]:
        outputs = [describe(file) for file in job.rendered]
        uris = [self._bucket.uri(self._key(job, *numbered)) for numbered in enumerate(outputs)]
        return tuple(
            output.model_copy(update={"s3_uri": uri})
            for output, uri in zip(outputs, uris, strict=True)
        )

    def _key(self, job: Job, number: int, output: Output) -> str:
        if number == 0:
            return self._first_key(job)
        extension = extension_of(output.content_type)
        return f"{self._stem(job)}-{number}-{output.sha256[:12]}.{extension}"

    def _first_key(self, job: Job) -> str:
        return f"{self._stem(job)}.{job.extension}"

    def _stem(self, job: Job) -> str:
        return "/".join(filter(None, (self._prefix, job.workflow, job.job_id)))
