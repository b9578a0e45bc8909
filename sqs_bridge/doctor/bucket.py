"""Bucket: used as the roles use it. No more than one object is ever left at each key.

Where the bucket keeps versions, a deletion leaves a marker of nothing at that key, each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ...jobs.readable import INPUTS, Prefix
from ...jobs.s3.bucket import Bucket
from ...jobs.s3.client import S3
from ..aws import AwsFailed
from .examination import Examination, below
from .finding import Finding, Level, failed, ok, skipped, warning
from .links import CONTENT, linked
from .probe import Probe, Use

PROBE = "unified-api-doctor.txt"
NOTHING = "unified-api-doctor-none.txt"
CONNECT_SECONDS = READ_SECONDS = 5.0
#: What an orchestrator keeps lies below it.
OURS = INPUTS.partition("/")[0]
UNSURE = "or it is s3:ListBucket that is missing, which cannot be told from here"
UNTOLD = "or there is nothing: run a worker's doctor first, which leaves an object there"
NOT_LEFT = "cannot be tried: a worker's doctor leaves an object for that, if it may not delete it"
ABSENT = frozenset({"404", "NoSuchKey"})


async def worker_bucket(examination: Examination) -> None:
    settings, check = examination.settings, BucketCheck(examination)
    if settings.bucket and settings.url_mode != "local":
        await check.of_worker()
    else:
        examination.tell(skipped("bucket", "results stay on this machine"))
        await check.of_inputs([Prefix(settings.bucket)] if settings.bucket else [])
        await check.of_inputs(check.others)


async def orchestrator_bucket(examination: Examination) -> None:
    if examination.settings.bucket is None:
        cure = "Set it, or there are no uploads and no large requests."
        examination.tell(warning("bucket", "S3_BUCKET is not set", cure))
    else:
        await BucketCheck(examination).of_orchestrator()


class BucketCheck:
    """The uses that the roles make of one bucket, and of those that are only read."""

    def __init__(self, examination: Examination) -> None:
        settings = examination.settings
        self._examination = examination
        self._settings = settings
        self._arns = examination.arns
        self._name = settings.bucket or ""
        self._s3 = S3(settings.region, connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS)
        self._bucket = Bucket(self._s3, self._name)
        self._results = settings.prefix.strip("/")

    @property
    def others(self) -> list[Prefix]:
        """What is read of other buckets than the results bucket."""
        opened = self._settings.readable.opened
        return [prefix for prefix in opened if prefix.bucket != self._name]

    async def of_worker(self) -> None:
        key = below(self._results, PROBE)
        written = await self._examination.make(self._put(key, self._results))
        if written.is_general:
            return
        self._examination.tell(await self._region())
        listed = await self._examination.make(self._list())
        is_told = Level.OK in (written.level, listed.level)
        await self._examination.make(self._get(key, "", None if is_told else UNSURE))
        await self.of_inputs(self.others)
        if written.level is Level.OK:
            self._examination.tell(await self._linked(key), await self._removed(key))

    async def of_inputs(self, opened: Iterable[Prefix]) -> None:
        """Of buckets that are read alone."""
        for prefix in opened:
            await self._examination.make(self._get_from(prefix))

    async def of_orchestrator(self) -> None:
        key = f"{INPUTS}/{PROBE}"
        written = await self._examination.make(self._put(key, OURS))
        if written.is_general:
            return
        self._examination.tell(await self._region())
        await self._examination.make(self._delete_nothing())
        if self._settings.cdn_domain and self._settings.url_mode != "presigned":
            told = skipped("links", "lead to the CDN: a worker's doctor fetches by it")
            self._examination.tell(told)
        else:
            await self._sign_for_results()
        if written.level is Level.OK:
            self._examination.tell(await self._removed(key))

    async def _sign_for_results(self) -> None:
        """By what a worker's doctor has left, since nothing may be written there."""
        key = below(self._results, PROBE)
        await self._examination.make(self._get(key, self._results, UNTOLD))
        try:
            await self._use("head_object", Key=key)()
        except AwsFailed:
            self._examination.tell(skipped("links", NOT_LEFT))
        else:
            self._examination.tell(await self._linked(key))

    def _put(self, key: str, folder: str) -> Probe:
        kms = self._settings.kms_key_id
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms} if kms else {}
        new = {"Body": CONTENT, "ContentType": "text/plain", "CacheControl": "no-store"}
        use = self._use("put_object", Key=key, **new, **encryption)
        return Probe("s3:PutObject", self._arns.objects(self._name, folder), use)

    def _get(self, key: str, folder: str, doubt: str | None) -> Probe:
        """`doubt`: what else a denial may mean."""
        resource, use = self._arns.objects(self._name, folder), self._use("get_object", Key=key)
        level = Level.WARNING if doubt else Level.FAILED
        return Probe("s3:GetObject", resource, use, ABSENT, level=level, without=doubt or "")

    def _get_from(self, prefix: Prefix) -> Probe:
        """Of a folder in which we know no object."""
        folder = "/".join(prefix.folders)
        use = self._use("get_object", Bucket=prefix.bucket, Key=below(folder, NOTHING))
        resource = self._arns.objects(prefix.bucket, folder)
        return Probe("s3:GetObject", resource, use, ABSENT, level=Level.WARNING, without=UNSURE)

    def _list(self) -> Probe:
        """Who may not list is told that what is absent is forbidden."""
        use = self._use("head_object", Key=below(self._results, NOTHING))
        return Probe("s3:ListBucket", self._arns.bucket(self._name), use, ABSENT)

    def _delete_nothing(self) -> Probe:
        """Among the results: nowhere else the role may. No version is named, for that is another
        permission."""
        use = self._use("delete_object", Key=below(self._results, NOTHING))
        resource = self._arns.objects(self._name, self._results)
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

    async def _linked(self, key: str) -> Finding:
        return await linked(self._settings, self._arns, self._bucket, key)

    async def _removed(self, key: str) -> Finding:
        uri = self._bucket.uri(key)
        try:
            await self._use("delete_object", Key=key)()
        except AwsFailed:
            return skipped("probe", f"{uri} stays: this role may not delete it, and need not")
        return ok("probe", f"{uri} is removed again")

    def _use(self, operation: str, **arguments: Any) -> Use:
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
