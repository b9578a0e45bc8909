"""Objects to write, and what became of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from unified_api.jobs.s3.bucket import NewObject

KEY = "images/a.png"


def new_object(
    body: Path | bytes = b"picture", *, key: str = KEY, job_id: str = "mine", **metadata: str
) -> NewObject:
    content = body if isinstance(body, bytes) else body.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return NewObject(key, body, sha256, "image/png", job_id, metadata)


def stored(aws: Any, bucket_name: str, key: str = KEY) -> bytes:
    return bytes(aws.get_object(Bucket=bucket_name, Key=key)["Body"].read())


def keys(aws: Any, bucket_name: str) -> list[str]:
    listed = aws.list_objects_v2(Bucket=bucket_name).get("Contents", [])
    return [entry["Key"] for entry in listed]
