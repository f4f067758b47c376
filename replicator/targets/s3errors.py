"""What boto's exceptions, and the answers of S3 that they hold, mean for delivery."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)
from botocore.parsers import ResponseParserError

from replicator.errors import Corrupt, Refused, TargetError, Unavailable
from replicator.targets.httperrors import PASSING, UNANSWERED, seconds_to_wait

_RIGHTS = (
    "allow s3:PutObject, s3:GetObject, s3:DeleteObject and s3:AbortMultipartUpload on the bucket's files, and "
    "s3:ListBucket on the bucket"
)
_KEYS = "see the storage's access_key and secret_key, or where else boto finds credentials"
_PLACE = "see the storage's bucket_name, region_name and endpoint_url"
_READING = (
    "allow s3:GetObject on the bucket's files, and s3:ListBucket on the bucket: without that, S3 says the same of "
    "each file that is missing"
)
_PARAMETERS = "see the storage's object_parameters and default_acl"
#: What to change, by the code of S3's error; by the status, where there is no such code (answers to HEAD have none).
CURES = {
    "AccessControlListNotSupported": "the bucket takes no ACLs: remove the storage's default_acl",
    "AccessDenied": _RIGHTS,
    "AuthorizationHeaderMalformed": _PLACE,
    "EntityTooLarge": "the file is larger than it takes",
    "IllegalLocationConstraintException": _PLACE,
    "InvalidAccessKeyId": _KEYS,
    "InvalidArgument": _PARAMETERS,
    "InvalidBucketName": _PLACE,
    "InvalidObjectState": "it is in an archive: restore it there first",
    "InvalidRequest": _PARAMETERS,
    "InvalidStorageClass": _PARAMETERS,
    "InvalidToken": _KEYS,
    "KeyTooLongError": "the name is longer than it takes; rename the file",
    "MethodNotAllowed": _PLACE,
    "NoSuchBucket": f"there is no such bucket: {_PLACE}",
    "NotImplemented": f"it does not know something that was asked: {_PARAMETERS}",
    "PermanentRedirect": _PLACE,
    "SignatureDoesNotMatch": _KEYS,
    "301": _PLACE,
    "400": _PLACE,
    "401": _KEYS,
    "403": _RIGHTS,
    "404": _PLACE,
    "405": _PLACE,
    "413": "the file is larger than it, or a proxy before it, takes",
    "501": f"it does not know something that was asked: {_PARAMETERS}",
}
#: Of who only reads.
READ_CURES = {**CURES, "AccessDenied": _READING, "403": _READING}
#: 4xx that only time cures, or a new attempt.
PASSING_CODES = {
    "BandwidthLimitExceeded": "too many requests",
    "ConditionalRequestConflict": "something else changes the same key",
    "ExpiredToken": "the credentials have expired, and nothing has renewed them yet",
    "IncompleteBody": "less of the file arrived than was sent",
    "InvalidPart": "the upload was ended from elsewhere",
    "NoSuchUpload": "the upload was ended from elsewhere",
    "OperationAborted": "something else changes the same key",
    "QuotaExceeded": "its quota is used up",
    "RequestTimeTooSkewed": "its clock and this machine's differ",
    "RequestTimeout": "the file came too slowly",
    "Throttling": "too many requests",
    "TooManyRequests": "too many requests",
}
#: The bytes that arrived have another checksum than was sent with them.
CORRUPT_CODES = {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
#: What boto raises. Anything else is a defect. (OSError: what it does not wrap while a body is read.)
EXPECTED = (BotoCoreError, ClientError, ResponseParserError, OSError)
ABSENT_CODES = {"404", "NoSuchKey", "NotFound"}


def is_absent(error: Exception) -> bool:
    """Whether S3 says that there is no such key. To HEAD it says the same of a bucket."""
    return isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in ABSENT_CODES


def code_of(error: Exception) -> str:
    """S3's code, or the status if it gave none; empty if there is no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def failure(
    what: str, where: str, error: Exception, *, doubt: bool = False, cures: Mapping[str, str] = CURES
) -> TargetError:
    """The error that boto's *error* is. *what* and *where* (host and port) are shown; its own text is not.

    *doubt*: the request could take effect later, if it arrived. *cures*: as ``CURES``.
    """
    if isinstance(error, ClientError):
        return _answered(what, error, doubt=doubt, cures=cures)
    if isinstance(error, NoCredentialsError):
        # An instance's role may be out of reach for a moment: time may cure it.
        return Unavailable(f"{what}: boto finds no credentials: {_KEYS}")
    if isinstance(error, PartialCredentialsError):
        return Refused(f"{what}: boto finds half of the credentials: {_KEYS}")
    if isinstance(error, ParamValidationError):
        return Refused(f"{what}: boto does not take the parameters: {_PARAMETERS}")
    if isinstance(error, SSLError):
        if _is_certificate(error):
            return Unavailable(f"{what}: the certificate of {where} is not trusted: see the storage's verify")
        return Unavailable(f"{what}: no TLS with {where}", doubt=doubt)
    if isinstance(error, ConnectTimeoutError):
        return Unavailable(f"{what}: {where} could not be connected to in time")
    if isinstance(error, NoConnectionError):
        return Unavailable(f"{what}: {where} could not be connected to")
    if isinstance(error, ReadTimeoutError):
        return Unavailable(f"{what}: {where} did not answer in time", doubt=doubt)
    if isinstance(error, HTTPClientError | IncompleteReadError):
        return Unavailable(f"{what}: the connection to {where} was lost", doubt=doubt)
    if isinstance(error, FlexibleChecksumError):
        return Corrupt(f"{what}: other bytes came than {where} says it has")
    if isinstance(error, BotoCoreError):
        # Before anything was sent: credentials that can't be renewed, a profile that is not there.
        return Unavailable(f"{what}: {type(error).__name__} from boto")
    if isinstance(error, ResponseParserError):
        return Unavailable(f"{what}: {where} does not speak S3", doubt=doubt)
    return Unavailable(f"{what}: {type(error).__name__}", doubt=doubt)


def _answered(what: str, error: ClientError, *, doubt: bool, cures: Mapping[str, str]) -> TargetError:
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    code = code_of(error)
    headers = metadata.get("HTTPHeaders", {})
    message = f"{what}: {status}" if code == str(status) else f"{what}: {status} {code}"
    if code in CORRUPT_CODES:
        return Corrupt(f"{message}: other bytes arrived than were sent", status=status)
    if code in PASSING_CODES:
        message = f"{message}: {PASSING_CODES[code]}"
    elif (status < 500 and status not in PASSING) or status == 501:
        cure = cures.get(code) or cures.get(str(status), _PARAMETERS)
        return Refused(f"{message}: {cure}", status=status)
    return Unavailable(
        message,
        status=status,
        doubt=doubt and status in UNANSWERED,
        retry_after=seconds_to_wait(headers.get("retry-after", "")),
    )


def _is_certificate(error: SSLError) -> bool:
    cause = error.kwargs.get("error")
    reasons = getattr(cause, "args", ())
    return any(isinstance(reason, ssl.SSLCertVerificationError) for reason in (cause, *reasons))
