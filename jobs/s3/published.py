"""Published: which objects a job has in the bucket, as its outputs tell. No file is looked at."""

from __future__ import annotations

import hashlib

from pydantic import TypeAdapter

from ..job import Job, Output
from ..links import key_of
from .bucket import Bucket, NewObject

#: Somebody waits for a removal, and can ask again.
REMOVAL_SECONDS = 10.0

_outputs = TypeAdapter(tuple[Output, ...])


def document_of(outputs: tuple[Output, ...]) -> bytes:
    """All outputs of a job, to be read by `outputs_in`."""
    return _outputs.dump_json(outputs, exclude_defaults=True)


def outputs_in(document: str | bytes) -> tuple[Output, ...]:
    return _outputs.validate_json(document)


def listing_of(stem: str, job: Job, document: bytes) -> NewObject:
    """Where that lies if it is too long for the metadata of the first output."""
    sha256 = hashlib.sha256(document).hexdigest()
    key = f"{stem}-outputs-{sha256[:12]}.json"
    return NewObject(
        key,
        document,
        sha256,
        "application/json",
        job.job_id,
        source=job.source,
        created_at=job.created_at,
    )


async def remove_objects(bucket: Bucket, job: Job, *, patience: float = REMOVAL_SECONDS) -> None:
    """Delete what was published for a job. Raises StorageDenied or StorageUnreachable."""
    ours = bucket.uri("")
    uris = [output.s3_uri for output in job.outputs if output.s3_uri]
    keys = [key_of(uri) for uri in uris if uri.startswith(ours)]
    # A table that others write to may name anything.
    if keys := [key for key in keys if _is_of(job, key)]:
        stem = keys[0].rpartition(".")[0]
        listing = listing_of(stem, job, document_of(job.outputs))
        # The first output goes last: until then it can be told what there is.
        await bucket.delete([listing.key, *reversed(keys)], patience=patience)


def _is_of(job: Job, key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith((f"{job.job_id}.", f"{job.job_id}-"))
