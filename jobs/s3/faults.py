"""What S3's refusals mean: worth another try, a matter of credentials, or there to stay."""

from __future__ import annotations

from enum import Enum

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    TokenRetrievalError,
)

from ..errors import StorageDenied, StorageUnreachable

CREDENTIAL_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
PASSING_CODES = {
    "BadDigest",
    "IncompleteBody",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "XAmzContentSHA256Mismatch",
}
PASSING_STATUSES = {408, 409, 429}


class Fault(Enum):
    """How to meet a failed call."""

    PASSING = "try again"
    CREDENTIALS = "look for credentials, then try again"
    LASTING = "try again once, it may have been a slip"


def fault_of(error: ClientError | BotoCoreError) -> Fault:
    if isinstance(error, ClientError):
        return _fault_of_answer(str(error.response["Error"]["Code"]), status_of(error))
    if isinstance(error, (NoCredentialsError, CredentialRetrievalError, TokenRetrievalError)):
        return Fault.CREDENTIALS
    return Fault.LASTING if isinstance(error, ParamValidationError) else Fault.PASSING


def failure_of(error: ClientError | BotoCoreError) -> StorageDenied | StorageUnreachable:
    """What to tell of an error when no more is tried."""
    return StorageDenied() if fault_of(error) is Fault.LASTING else StorageUnreachable()


def status_of(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _fault_of_answer(code: str, status: int) -> Fault:
    # To HEAD there is no body: an expired token is a bare 400, which nothing else of ours causes.
    if code in CREDENTIAL_CODES or code == "400":
        return Fault.CREDENTIALS
    if code in PASSING_CODES or status in PASSING_STATUSES:
        return Fault.PASSING
    return Fault.PASSING if status >= 500 and code != "NotImplemented" else Fault.LASTING
