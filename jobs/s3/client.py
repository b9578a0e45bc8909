"""S3: the one client of it, patient. Imported only for a bucket."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from ..boto import new_session
from ..errors import InputFetchFailed, StorageDenied, StorageUnreachable
from ..object_owners import Admit
from ..threads import off_loop
from .faults import Fault, failure_of, fault_of

T = TypeVar("T")

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 20.0
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
#: Fewer than the pool beside the loop has threads: a bucket that hangs must not stop other work.
CALLS_AT_ONCE = 4
CHUNK_BYTES = 1 << 20
DOWNLOAD_ATTEMPTS = 3


class S3:
    """S3, or what speaks like it, by boto3's default credentials and endpoint.

    Making one asks nothing of the network.
    """

    def __init__(
        self,
        region: str,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        #: Why calls fail, while they do. Downloads do not count: callers name those.
        self.trouble: StorageDenied | StorageUnreachable | None = None
        self._make_client = partial(_make_client, region, connect_seconds, read_seconds)
        self._client: Any = None
        self._making = asyncio.Lock()
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    async def call(self, work: Callable[[Any], T], *, patience: float) -> T:
        """Let `work` use the client, again and again while its trouble may pass.

        The pauses are random and grow. Raises StorageDenied after a second refusal, and
        StorageUnreachable when another attempt would begin later than `patience` seconds from now.
        """
        until = time.monotonic() + patience
        attempt = refusals = 0
        while True:
            try:
                answer = await self.call_once(work)
            except (ClientError, BotoCoreError) as error:
                self.trouble = failure_of(error)
                attempt += 1
                refusals += fault_of(error) is Fault.LASTING
                pause = _pause(attempt)
                if refusals == 2 or time.monotonic() + pause > until:
                    raise failure_of(error) from error
            else:
                self.trouble = None
                return answer
            await asyncio.sleep(pause)

    async def call_once(self, work: Callable[[Any], T]) -> T:
        """Let `work` use the client. Raises what it raises."""
        async with self._calls:
            client = await self._ready_client()
            try:
                return await off_loop(work, client)
            except (ClientError, BotoCoreError) as error:
                log.warning("S3 failed: %s", error)
                # A client never looks again for credentials that it lacks or that were replaced.
                if fault_of(error) is Fault.CREDENTIALS and self._client is client:
                    self._client = None
                raise

    async def sign(self, work: Callable[[Any], T]) -> T:
        """Let `work` use the client for what asks nothing of S3. Raises StorageUnreachable."""
        try:
            return await off_loop(work, await self._ready_client())
        except (ClientError, BotoCoreError) as error:
            raise StorageUnreachable() from error

    async def download(
        self, bucket: str, key: str, admit: Admit | None = None
    ) -> AsyncIterator[bytes]:
        """The content of an object, complete or not ended. Resumes where an answer broke off.

        `admit` is called with the metadata before anything is read, and may raise. Raises
        InputFetchFailed.
        """
        position, etag, failures = 0, None, 0
        while True:
            try:
                answer = await self.call_once(partial(_get, bucket, key, position, etag))
                etag = answer["ETag"]
                with closing(answer["Body"]) as body:
                    if admit:
                        await admit(metadata_of(answer))
                    while chunk := await self.call_once(partial(_next_chunk, body)):
                        position += len(chunk)
                        yield chunk
                return
            except (ClientError, BotoCoreError) as error:
                failures += 1
                if fault_of(error) is Fault.LASTING or failures == DOWNLOAD_ATTEMPTS:
                    raise InputFetchFailed("The object could not be read from S3.") from error
            await asyncio.sleep(_pause(failures))

    async def _ready_client(self) -> Any:
        """Made when first used: credentials may have to be fetched."""
        async with self._making:
            if self._client is None:
                self._client = await off_loop(self._make_client)
            return self._client


def metadata_of(answer: Any) -> dict[str, str]:
    """What `NewObject.headers` made of an object's metadata."""
    return {name: unquote(value) for name, value in answer["Metadata"].items()}


def _get(bucket: str, key: str, position: int, etag: str | None, client: Any) -> Any:
    rest = {"Range": f"bytes={position}-", "IfMatch": etag} if position else {}
    return client.get_object(Bucket=bucket, Key=key, **rest)


def _next_chunk(body: Any, _client: Any) -> bytes:
    return bytes(body.read(CHUNK_BYTES))


def _pause(attempt: int) -> float:
    return random.uniform(0, min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * 2.0**attempt))


def _make_client(region: str, connect_seconds: float, read_seconds: float) -> Any:
    config = Config(
        # URLs signed the older way cannot open encrypted objects.
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 2},
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        tcp_keepalive=True,
        # By default URLs are signed for a host that sends readers of most regions elsewhere.
        s3={"addressing_style": "virtual"},
    )
    session = new_session(region)
    try:
        client = session.client("s3", config=config)
    except ValueError as error:
        raise ParamValidationError(report=f"the endpoint of S3: {error}") from error
    if ".amazonaws." in client.meta.endpoint_url:
        return client
    # Many servers that speak S3 know neither the newer checksums nor buckets as host names.
    lenient = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    return session.client("s3", config=config.merge(lenient))
