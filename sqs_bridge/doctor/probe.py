"""Probe: whether something is allowed, found out by doing it, and what a refusal means."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..aws import AwsFailed
from .finding import Finding, Level, failed, ok

Use = Callable[[], Awaitable[Any]]

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
    use: Use
    #: Refusals that only those get to hear who are allowed to ask.
    allowed_by: frozenset[str] = frozenset()
    #: What some refusals mean here.
    means: Mapping[str, Trouble] = field(default_factory=dict)
    level: Level = Level.FAILED
    without: str = ""

    def judged(self, failure: AwsFailed | None) -> Finding:
        """What the use has shown that ended so."""
        if failure is None or failure.reason in self.allowed_by:
            return ok(self.action, f"allowed on {self.resource}")
        if failure.reason in DENIED:
            return self._denial(str(failure.answer["Error"].get("Message", "")))
        if known := self.means.get(failure.reason):
            return Finding(self.level, self.action, f"{self.resource}: {known.text}", known.cure)
        trouble = trouble_of(failure)
        return failed(self.action, f"{self.resource}: {trouble.text}", trouble.cure)

    def _denial(self, message: str) -> Finding:
        action, resource = self.action, self.resource
        if key := OF_A_KEY.search(message):
            action, resource = key[1], key[2] or "the KMS key"
        text = f"not allowed on {resource}{f': {self.without}' if self.without else ''}"
        cure = f"Allow {action} on {resource} in the policy of this role."
        return Finding(self.level, action, text, cure, action, resource)


def trouble_of(failure: AwsFailed) -> Trouble:
    fallback = Trouble(str(failure).rstrip("."), "Look this code up in the documentation of AWS.")
    return TROUBLES.get(failure.reason, fallback)
