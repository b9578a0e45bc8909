"""Probe: whether something is allowed, found out by doing it, and what a refusal means."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from ..jobs.doctor import Finding, Level, failed, ok, skipped, warning
from .aws import AwsFailed

DENIED = {
    "403",
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "KMS.AccessDeniedException",
    "KmsAccessDenied",
    "UnauthorizedOperation",
}
#: AWS itself names the key that is missing behind what was asked for.
OF_A_KEY = re.compile(r"not authorized to perform: (kms:\w+)(?: on resource: \W?(arn:[^\s\"']+))?")
#: Signatures count for five minutes; leases are compared by the clocks of the machines.
LARGEST_SKEW_SECONDS, WORRYING_SKEW_SECONDS = 300, 10


class Trouble(NamedTuple):
    """Why nothing could be learnt of a permission."""

    text: str
    cure: str


NO_CREDENTIALS = Trouble(
    "there are no credentials",
    "Give this machine a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
)
BAD_CREDENTIALS = Trouble(
    "the credentials do not count", "Renew them, and set the clock of this machine."
)
BAD_CLOCK = Trouble("the clock of this machine is wrong", "Set it by NTP.")
ELSEWHERE = Trouble("it lies in another region", "Set AWS_REGION to the region it lies in.")
ABSENT = Trouble("it does not exist", "Check its name in the settings, AWS_REGION and the account.")
UNREACHABLE = Trouble(
    "it cannot be reached",
    "Check network, DNS, proxy and VPC endpoint, and that AWS_REGION is spelt right.",
)
CODES = {
    NO_CREDENTIALS: "ConfigNotFound CredentialRetrievalError MetadataRetrievalError"
    " NoCredentialsError PartialCredentialsError ProfileNotFound SSOTokenLoadError"
    " TokenRetrievalError UnauthorizedSSOTokenError",
    BAD_CREDENTIALS: "AuthFailure ExpiredToken ExpiredTokenException InvalidAccessKeyId"
    " InvalidClientTokenId InvalidSignatureException InvalidToken SignatureDoesNotMatch"
    " UnrecognizedClientException",
    BAD_CLOCK: "RequestExpired RequestTimeTooSkewed",
    ELSEWHERE: "301 AuthorizationHeaderMalformed PermanentRedirect TemporaryRedirect",
    ABSENT: "AWS.SimpleQueueService.NonExistentQueue InvalidAddress InvalidInstanceID.Malformed"
    " InvalidInstanceID.NotFound NoSuchBucket QueueDoesNotExist ResourceNotFoundException",
    UNREACHABLE: "ConnectTimeoutError ConnectionClosedError ConnectionError"
    " EndpointConnectionError HTTPClientError ProxyConnectionError ReadTimeoutError SSLError",
}
TROUBLES = {code: trouble for trouble, codes in CODES.items() for code in codes.split()}


@dataclass(frozen=True)
class Probe:
    """One use of one permission. Where it is missing, `without` says what does not work."""

    action: str
    resource: str
    use: Callable[[], Awaitable[Any]]
    #: Refusals that only those get to hear who are allowed to ask.
    allowed_by: frozenset[str] = frozenset()
    #: What some refusals mean here.
    means: Mapping[str, Trouble] = field(default_factory=dict)
    level: Level = Level.FAILED
    without: str = ""


class Examiner:
    """Makes findings of probes, and learns from all answers how late it is."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._skew: float | None = None

    async def ask(self, use: Callable[[], Awaitable[Any]]) -> Any:
        """The answer. Raises AwsFailed."""
        try:
            answer = await use()
        except AwsFailed as failure:
            self._note_time(failure.answer)
            raise
        self._note_time(answer)
        return answer

    async def examine(self, probe: Probe) -> Finding:
        try:
            await self.ask(probe.use)
        except AwsFailed as failure:
            return _finding(probe, failure)
        return ok(probe.action, f"allowed on {probe.resource}")

    async def examine_all(self, probes: Iterable[Probe]) -> AsyncIterator[Finding]:
        """One after the other, as long as they tell something."""
        for probe in probes:
            finding = await self.examine(probe)
            yield finding
            if finding.is_general:
                return

    @property
    def clock(self) -> Finding:
        """How the clock of this machine differs from that of AWS."""
        if self._skew is None:
            return skipped("clock", "nobody answered who knows what time it is")
        told = f"{abs(self._skew):.0f} s {'ahead of' if self._skew > 0 else 'behind'} that of AWS"
        if abs(self._skew) > LARGEST_SKEW_SECONDS:
            return failed("clock", told, "Set it by NTP: AWS refuses what is signed so.")
        if abs(self._skew) > WORRYING_SKEW_SECONDS:
            return warning("clock", told, "Set it by NTP: leases are compared by these clocks.")
        return ok("clock", "agrees with that of AWS")

    def _note_time(self, answer: Mapping[str, Any]) -> None:
        try:
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, TypeError, ValueError):
            return
        self._skew = self._clock() - date.timestamp()


def trouble_of(failure: AwsFailed) -> Trouble:
    fallback = Trouble(str(failure).rstrip("."), "Look this code up in the documentation of AWS.")
    return TROUBLES.get(failure.reason, fallback)


def _finding(probe: Probe, failure: AwsFailed) -> Finding:
    if failure.reason in probe.allowed_by:
        return ok(probe.action, f"allowed on {probe.resource}")
    if failure.reason in DENIED:
        return _denial(probe, str(failure.answer["Error"].get("Message", "")))
    trouble = probe.means.get(failure.reason) or trouble_of(failure)
    return failed(probe.action, f"{probe.resource}: {trouble.text}", trouble.cure)


def _denial(probe: Probe, message: str) -> Finding:
    action, resource = probe.action, probe.resource
    if key := OF_A_KEY.search(message):
        action, resource = key[1], key[2] or "the KMS key"
    text = f"not allowed on {resource}{f': {probe.without}' if probe.without else ''}"
    cure = f"Allow {action} on {resource} in the policy of this role."
    return Finding(probe.level, action, text, cure, action, resource)
