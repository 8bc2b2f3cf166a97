"""What an error of boto3 or of an S3 server means: whether trying again may help, and what a person can do."""

from __future__ import annotations

from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from backupd.archive.s3.place import S3Place
from backupd.errors import ArchiveUnreachable


class OddAnswer(Exception):
    """The server answered, and the answer cannot be true or is not whole."""


# All that a call may fail with; a BackupdError passes through.
FAILURES = (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError, OSError, OddAnswer)

_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})
_TAKEN = frozenset({"412", "PreconditionFailed"})
_REFUSED = frozenset({"403", "AccessDenied", "AccessForbidden", "ObjectLocked", "OperationNotPermitted"})
_AGAIN = frozenset(
    {
        *("408", "429", "SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling", "ThrottlingException"),
        *("RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException", "BandwidthLimitExceeded"),
        *("InternalError", "ServiceUnavailable", "ServerBusy", "OperationAborted", "ConditionalRequestConflict"),
        # Bytes that were damaged on the way are sent again.
        *("BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    }
)
_AGAIN_HERE = (
    *(boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ResponseParserError),
    *(HTTPError, OSError, OddAnswer),
)

_ROLE = "give this role its rights: contrib/s3 has policies for a writer, a pruner and a restore"
# By the server's code: the fact, and what helps.
_BY_CODE = {
    "NoSuchBucket": (
        "there is no bucket {bucket}",
        "make it (aws s3api create-bucket --bucket {bucket}), or correct the policy's archive",
    ),
    "InvalidBucketName": (
        "{bucket} is no name that a bucket can have",
        "correct the policy's archive: s3://BUCKET/PREFIX",
    ),
    "AccessDenied": ("these credentials may not do that ({code})", _ROLE),
    "AllAccessDisabled": ("the account or the bucket is blocked ({code})", "ask the provider of the storage"),
    "InvalidAccessKeyId": (
        "the server does not know this access key",
        "see which one is used: aws sts get-caller-identity; env | grep AWS_",
    ),
    "SignatureDoesNotMatch": (
        "the secret key does not belong to the access key, or a proxy changes requests",
        "set AWS_SECRET_ACCESS_KEY, or the profile in ~/.aws/credentials, anew",
    ),
    "ExpiredToken": ("the session's token has expired", "log in again (aws sso login), or set AWS_SESSION_TOKEN anew"),
    "RequestTimeTooSkewed": (
        "the clock of this host and that of the server are too far apart",
        "set the clock: timedatectl set-ntp true; then see it: timedatectl",
    ),
    "PermanentRedirect": ("the bucket is in another region, or at another endpoint", "set region in the table [s3]"),
    "KMS": ("the key of kms_key_id cannot be used ({code})", "let this role use it (kms:GenerateDataKey, kms:Decrypt)"),
    "InvalidStorageClass": ("the server has no such storage class", "correct storage_class in the table [s3]"),
    "InvalidObjectState": (
        "the object lies in a class that must be brought back first",
        "bring it back (aws s3api restore-object), and use a storage_class that can be read at once",
    ),
    "Full": ("the bucket or the disk below it is full ({code})", "free space there, or prune: backupctl prune"),
    "NotImplemented": ("the server does not know this request ({code})", "see what it honours: backupctl check"),
}
_ALIKE = {
    "403": "AccessDenied",
    "AccessForbidden": "AccessDenied",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "301": "PermanentRedirect",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidToken": "ExpiredToken",
    "RequestExpired": "RequestTimeTooSkewed",
    "AccountProblem": "AllAccessDisabled",
    "QuotaExceeded": "Full",
    "InsufficientStorage": "Full",
    "507": "Full",
    "XMinioStorageFull": "Full",
    "501": "NotImplemented",
}
_CREDENTIALS = (
    *(boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError, boto.NoAuthTokenError),
    *(boto.UnauthorizedSSOTokenError, boto.SSOTokenLoadError, boto.TokenRetrievalError),
)


def code_of(problem: BaseException) -> str:
    """The server's code (``NoSuchKey``), or the HTTP status where it sent none; empty for an error of our own side."""
    return str(problem.response.get("Error", {}).get("Code", "")) if isinstance(problem, boto.ClientError) else ""


def status_of(problem: BaseException) -> int:
    """The HTTP status; 0 when there was no answer."""
    if not isinstance(problem, boto.ClientError):
        return 0
    return int(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(problem: BaseException) -> bool:
    """Whether the object is not there."""
    return code_of(problem) in _MISSING


def is_taken(problem: BaseException) -> bool:
    """Whether the name is taken: the server honours create-once."""
    return code_of(problem) in _TAKEN


def is_refusal(problem: BaseException | str) -> bool:
    """Whether the server does not let us, by lock or by right; also for a code of one key's result."""
    return (problem if isinstance(problem, str) else code_of(problem)) in _REFUSED


def again_may_help(problem: BaseException | str) -> bool:
    """Whether the same call may work a moment later; also for a code of one key's result."""
    if isinstance(problem, str):
        return problem in _AGAIN
    if isinstance(problem, boto.ClientError):
        status = status_of(problem)
        return code_of(problem) in _AGAIN or status in (408, 429) or (500 <= status < 600 and status not in (501, 507))
    return isinstance(problem, _AGAIN_HERE) and not _is_distrust(problem)


def is_away(problem: BaseException) -> bool:
    """Whether nothing answers at that address at all."""
    return isinstance(problem, boto.EndpointConnectionError)


def unreachable(problem: BaseException, what: str, place: S3Place, *, patience: str = "") -> ArchiveUnreachable:
    """The error in three lines; ``patience`` says how long it was tried."""
    because, next_step = _meaning(problem, place)
    return ArchiveUnreachable(
        f"cannot {what} the archive {place.url()}",
        because=f"{because}{patience}",
        next_step=next_step,
        code=code_of(problem),
    )


def _meaning(problem: BaseException, place: S3Place) -> tuple[str, str]:
    code = code_of(problem)
    known = _BY_CODE.get("KMS" if code.startswith("KMS") else _ALIKE.get(code, code))
    if known:
        return known[0].format(bucket=place.bucket, code=code), known[1].format(bucket=place.bucket)
    if isinstance(problem, boto.ClientError):
        said = one_line(problem.response.get("Error", {}).get("Message") or "nothing more")
        if again_may_help(problem):
            return f"the server does not keep up ({code}: {said})", "try later; see the server's own state and log"
        return f"the server says {code}: {said}", "look at the table [s3] of the policy and at the server's log"
    if isinstance(problem, _CREDENTIALS):
        return one_line(problem), "give boto3 credentials: aws configure, or AWS_PROFILE, or the role of this host"
    if _is_distrust(problem):
        return f"its certificate is not trusted ({one_line(problem)})", "name its CA: ca_bundle in the table [s3]"
    if isinstance(problem, boto.EndpointConnectionError | boto.ProxyConnectionError):
        return one_line(problem), "look at endpoint_url, proxy and the name's DNS entry: env | grep -i -e AWS_ -e PROXY"
    if isinstance(problem, boto.ParamValidationError):
        return one_line(problem), "correct the policy's archive: s3://BUCKET/PREFIX"
    return one_line(problem), "look at the network and the server, then run the command again"


def _is_distrust(problem: BaseException) -> bool:
    return isinstance(problem, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(problem)


def one_line(text: Any) -> str:
    """The text without line breaks, and not endless."""
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:299]}…"
