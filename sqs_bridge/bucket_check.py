"""BucketCheck: the bucket of a deployment, used as its roles use it, and by its links."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..jobs.bucket import Bucket
from ..jobs.doctor import Finding, Level, failed, ok, skipped, warning
from ..jobs.s3 import S3
from .aws import AwsFailed
from .deposit import INPUTS
from .link_check import CONTENT, linked
from .patient import Patient, below
from .probe import Probe

PROBE = "unified-api-doctor.txt"
NOTHING = "unified-api-doctor-none.txt"
NO_BUCKET = "S3_BUCKET is not set"
#: What an orchestrator keeps lies below it.
OURS = INPUTS.partition("/")[0]
UNSURE = "or it is s3:ListBucket that is missing, which cannot be told from here"
UNTOLD = "or there is nothing: run a worker's doctor first, which leaves an object there"
ABSENT = frozenset({"404", "NoSuchKey"})


async def worker_bucket(patient: Patient) -> AsyncIterator[Finding]:
    settings, check = patient.settings, BucketCheck(patient)
    if settings.bucket and settings.url_mode != "local":
        findings = check.of_worker()
    else:
        yield skipped("bucket", "results stay on this machine")
        findings = check.of_inputs(settings.read_buckets)
    async for finding in findings:
        yield finding


async def orchestrator_bucket(patient: Patient) -> AsyncIterator[Finding]:
    if patient.settings.bucket is None:
        yield warning("bucket", NO_BUCKET, "Set it, or there are no uploads and no large requests.")
        return
    async for finding in BucketCheck(patient).of_orchestrator():
        yield finding


class BucketCheck:
    """Objects are written at fixed keys, so that no more than one is ever left at each."""

    def __init__(self, patient: Patient) -> None:
        settings = patient.settings
        self._examine = patient.examiner.examine
        self._settings = settings
        self._names = patient.names
        self._name = settings.bucket or ""
        self._s3 = S3(settings.region, connect_seconds=5, read_seconds=5)
        self._bucket = Bucket(self._s3, self._name)
        self._results = settings.prefix.strip("/")

    async def of_worker(self) -> AsyncIterator[Finding]:
        key = below(self._results, PROBE)
        written = await self._examine(self._put(key, self._results))
        yield written
        if written.is_general:
            return
        yield await self._region()
        listed = await self._examine(self._list())
        yield listed
        is_told = Level.OK in (written.level, listed.level)
        yield await self._examine(self._get(key, "", None if is_told else UNSURE))
        async for finding in self.of_inputs(self._settings.read_buckets - {self._name}):
            yield finding
        if written.level is Level.OK:
            yield await linked(self._settings, self._names, self._bucket, key)
            yield await self._removed(key)

    async def of_inputs(self, buckets: frozenset[str]) -> AsyncIterator[Finding]:
        """Of buckets that are read alone."""
        for name in sorted(buckets):
            yield await self._examine(self._get_from(name))

    async def of_orchestrator(self) -> AsyncIterator[Finding]:
        key = f"{INPUTS}/{PROBE}"
        written = await self._examine(self._put(key, OURS))
        yield written
        if written.is_general:
            return
        yield await self._region()
        is_written = written.level is Level.OK
        yield await self._examine(self._get(key, OURS, None if is_written else UNSURE))
        yield await self._examine(self._delete_nothing())
        if self._settings.cdn_domain and self._settings.url_mode != "presigned":
            yield skipped("links", "lead to the CDN: a worker's doctor fetches by it")
        else:
            at = below(self._results, PROBE)
            yield await self._examine(self._get(at, self._results, UNTOLD))
            if is_written:
                yield await linked(self._settings, self._names, self._bucket, key)
        if is_written:
            yield await self._removed(key)

    def _put(self, key: str, folder: str) -> Probe:
        kms = self._settings.kms_key_id
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms} if kms else {}
        new = {"Body": CONTENT, "ContentType": "text/plain", "CacheControl": "no-store"}
        use = self._use("put_object", Key=key, **new, **encryption)
        return Probe("s3:PutObject", self._names.objects(self._name, folder), use)

    def _get(self, key: str, folder: str, doubt: str | None) -> Probe:
        """`doubt`: what else a denial may mean."""
        resource, use = self._names.objects(self._name, folder), self._use("get_object", Key=key)
        level = Level.WARNING if doubt else Level.FAILED
        return Probe("s3:GetObject", resource, use, ABSENT, level=level, without=doubt or "")

    def _get_from(self, bucket: str) -> Probe:
        """Of a bucket in which we know no object."""
        use = self._use("get_object", Bucket=bucket, Key=NOTHING)
        resource = self._names.objects(bucket)
        return Probe("s3:GetObject", resource, use, ABSENT, level=Level.WARNING, without=UNSURE)

    def _list(self) -> Probe:
        """Who may not list is told that what is absent is forbidden."""
        use = self._use("head_object", Key=below(self._results, NOTHING))
        return Probe("s3:ListBucket", self._names.bucket(self._name), use, ABSENT)

    def _delete_nothing(self) -> Probe:
        use = self._use("delete_object", Key=below(self._results, NOTHING))
        resource = self._names.objects(self._name, self._results)
        without = "the results of deleted jobs stay"
        return Probe("s3:DeleteObject", resource, use, level=Level.WARNING, without=without)

    async def _region(self) -> Finding:
        """Signed links lead to the region of the settings, from which other calls are led on."""
        try:
            answer = await self._use("head_bucket")()
        except AwsFailed as failure:
            answer = failure.answer
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        there = headers.get("x-amz-bucket-region", self._settings.region)
        if there != self._settings.region:
            return failed("bucket", f"lies in {there}", f"Set AWS_REGION={there}.")
        return ok("bucket", f"{self._name} in {there}")

    async def _removed(self, key: str) -> Finding:
        uri = self._bucket.uri(key)
        try:
            await self._use("delete_object", Key=key)()
        except AwsFailed:
            return skipped("probe", f"{uri} stays: this role may not delete it, and need not")
        return ok("probe", f"{uri} is removed again")

    def _use(self, operation: str, **arguments: Any) -> Callable[[], Awaitable[Any]]:
        work = partial(_do, operation, {"Bucket": self._name, **arguments})

        async def use() -> Any:
            try:
                return await self._s3.call_once(work)
            except (ClientError, BotoCoreError) as error:
                raise AwsFailed("s3", error) from error

        return use


def _do(operation: str, arguments: dict[str, Any], client: Any) -> Any:
    answer = getattr(client, operation)(**arguments)
    if body := answer.get("Body"):
        body.close()
    return answer
