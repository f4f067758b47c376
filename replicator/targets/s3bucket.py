"""A bucket of S3, as an ``S3Storage`` of django-storages names it."""

from __future__ import annotations

import base64
import hashlib
import logging
import mimetypes
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from replicator.errors import Corrupt, DeliveryError, Refused
from replicator.targets.base import Content, Reader, Stat, TargetFile
from replicator.targets.httpanswer import Patience
from replicator.targets.httppool import AT_ONCE
from replicator.targets.s3errors import EXPECTED, code_of, failure, is_absent
from replicator.targets.s3signing import Links
from replicator.targets.s3upload import Body, md5_of, whole
from replicator.targets.storageerrors import SortedReader

# At DEBUG it logs what it signs, tokens and keys of encryption among it. Who sets its level himself, means it.
if not logging.getLogger("botocore").level:
    logging.getLogger("botocore").setLevel(logging.INFO)

#: Up to this size a file is sent from memory: without asking first whether it may come, which costs a round trip.
#: Not larger, since all of it must have gone out within the connect_timeout.
SMALL = 256 * 1024
#: Up to this size in one request, which S3 checks against the file's SHA-256; above, in parts.
SINGLE = 256 * 1024 * 1024
PART, MOST_PARTS = 64 * 1024 * 1024, 10_000
#: Bytes; also of stores that are like S3.
LONGEST_KEY = 1024
#: Seconds that each half of a probe may take: connecting, and the answer.
PROBE_SECONDS = 1.5
#: Of a storage's object_parameters, those that every request needs.
SHARED = {"ExpectedBucketOwner", "RequestPayer", "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5"}

READS = {"get_object", "head_object"}
#: Operations whose effect readers see.
VISIBLE = {"put_object", "delete_object", "complete_multipart_upload"}


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, but *min_rate*: bytes per second below which an upload is given up."""

    connect_timeout: float
    read_timeout: float
    min_rate: float


class Bucket:
    """Where an S3 storage keeps its files. Used by several threads of one process.

    *make_storage* makes an instance of the storage that nobody else has: its client is given one attempt, so that no
    request is repeated behind our back, and these time limits, whatever the storage's own ``client_config`` says.
    """

    def __init__(self, make_storage: Callable[[], Any], times: Times, *, connections: int) -> None:
        self._make_storage = make_storage
        self._storage = make_storage()
        self._times = times
        self._connections = connections
        self._lock = threading.Lock()
        self._clients: dict[bool, Any] = {}
        self._links = Links(make_storage)

    def put(self, name: str, file: TargetFile, content: Content) -> None:
        key = self._key(name)
        if content.size > SINGLE:
            self._put_parts(key, file, content)
            return
        sha256 = file.sha256
        body: Body | bytearray
        if content.size > SMALL:
            body = Body(content, content.size, self._patience(), f"put {key}", last=True)
        else:
            # Of bytes boto makes a file, and asks for a file whether it may come.
            body = bytearray(whole(content))
            sha256 = hashlib.sha256(body).hexdigest()
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode() if self._sends_checksums else ""
        parameters = self._parameters(key, file)
        if checksum:
            parameters |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
        file.may_send()
        answer = self._ask("put_object", key, body, **parameters)
        if checksum and answer.get("ChecksumSHA256") == checksum:
            return
        md5 = hashlib.md5(body, usedforsecurity=False) if isinstance(body, bytearray) else body.md5
        if not self._proves(key, answer, md5.hexdigest()):
            self._compare_size(key, content.size)

    def delete(self, name: str, file: TargetFile) -> None:
        key = self._key(name)
        file.may_send()
        with suppress(FileNotFoundError):
            self._ask("delete_object", key)

    def stat(self, name: str) -> Stat | None:
        try:
            answer = self._ask("head_object", self._key(name), ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        checksums = {"md5": md5_of(answer)}
        # Of parts it is a checksum of their checksums, and ends with their number.
        if (sha256 := answer.get("ChecksumSHA256", "")) and "-" not in sha256:
            checksums["sha256"] = base64.b64decode(sha256).hex()
        return Stat(answer["ContentLength"], {kind: checksum for kind, checksum in checksums.items() if checksum})

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        key = self._key(name)
        stream = self._ask("get_object", key)["Body"]
        try:
            yield SortedReader(
                lambda size: stream.read(None if size < 0 else size),
                lambda error: failure(f"get {key}", self._where, error),
            )
        finally:
            stream.close()

    def signed_url(self, name: str, seconds: int, disposition: str) -> str:
        return self._links.make(name, self._key(name), seconds, disposition, self._where)

    def probe(self, name: str) -> None:
        """Return if it answers, and knows the bucket and us. *name*: one that no file has."""
        try:
            # Not HEAD: its answers do not say what is wrong.
            self._call("get_object", self._key(name), quick=True)["Body"].close()
        except EXPECTED as error:
            # Who may not list a bucket is not told that a key is absent.
            if not is_absent(error) and code_of(error) != "AccessDenied":
                raise failure("probe", self._where, error) from None

    def address(self, name: str) -> str:
        """Equal for what is the same place."""
        return f"bucket {self._storage.endpoint_url or 'AWS'} {self._storage.bucket_name}: {self._key(name)}"

    def close(self) -> None:
        """Drop kept connections."""
        for client in list(self._clients.values()):
            client.close()

    def _put_parts(self, key: str, file: TargetFile, content: Content) -> None:
        """As many requests as it takes; nothing is visible before the last one."""
        file.may_send()
        upload = self._ask("create_multipart_upload", key, **self._parameters(key, file))["UploadId"]
        try:
            size = max(PART, -(-content.size // MOST_PARTS))
            left = content.size
            parts: list[dict[str, Any]] = []
            while left:
                body = Body(content, min(size, left), self._patience(), f"put {key}", last=left <= size)
                left -= len(body)
                number = len(parts) + 1
                file.may_send()
                answer = self._ask("upload_part", key, body, UploadId=upload, PartNumber=number)
                self._proves(key, answer, body.md5.hexdigest())
                parts.append({"PartNumber": number, "ETag": answer.get("ETag", "")})
            file.may_send()
            self._ask("complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            # Parts cost money until they are removed. If the last request is still under way, this ends it.
            with suppress(DeliveryError, FileNotFoundError):
                self._ask("abort_multipart_upload", key, quick=True, UploadId=upload)
            raise
        self._compare_size(key, content.size)

    def _proves(self, key: str, answer: Mapping[str, Any], md5: str) -> bool:
        """Whether the answer to what was sent shows that just this arrived. Raises ``Corrupt`` if it did not."""
        held = md5_of(answer)
        if held not in ("", md5):
            raise Corrupt(f"put {key}: other bytes arrived than were sent")
        return bool(held)

    def _compare_size(self, key: str, size: int) -> None:
        try:
            held = self._ask("head_object", key)["ContentLength"]
        except FileNotFoundError:
            raise Corrupt(f"put {key}: S3 took it, and does not have it") from None
        if held != size:
            raise Corrupt(f"put {key}: {size} bytes were sent, and S3 has {held}")

    def _ask(
        self,
        operation: str,
        key: str,
        body: Body | bytearray | None = None,
        *,
        quick: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        """The answer to one request. Raises ``FileNotFoundError`` if there is no such key."""
        try:
            answer = self._call(operation, key, body, quick=quick, **parameters)
        except BaseException as error:
            _reraise(body)
            if not isinstance(error, EXPECTED):
                raise
            if operation in READS | {"delete_object"} and is_absent(error):
                raise FileNotFoundError(key) from None
            doubt = operation in VISIBLE and not (isinstance(body, Body) and not body.is_sent)
            what = f"{operation.partition('_')[0]} {key}"
            raise failure(what, self._where, error, doubt=doubt) from None
        _reraise(body)
        return answer

    def _call(
        self,
        operation: str,
        key: str,
        body: Body | bytearray | None = None,
        *,
        quick: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        client = self._client(quick=quick)
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
        for each, value in self._storage.get_object_parameters(key).items():
            if each in SHARED and each in shape.members:
                parameters.setdefault(each, value)
        if body is not None:
            parameters["Body"] = body
        try:
            answer: dict[str, Any] = getattr(client, operation)(
                Bucket=self._storage.bucket_name, Key=key, **parameters
            )
        except NoCredentialsError:
            # A client looks for them only once.
            self._clients.clear()
            raise
        return answer

    def _client(self, *, quick: bool) -> Any:
        with self._lock:
            if quick not in self._clients:
                self._clients[quick] = self._make_client(quick=quick)
            return self._clients[quick]

    def _make_client(self, *, quick: bool) -> Any:
        storage = self._make_storage()
        most = PROBE_SECONDS if quick else float("inf")
        config = storage.client_config.merge(
            Config(
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=min(self._times.connect_timeout, most),
                read_timeout=min(self._times.read_timeout, most),
                max_pool_connections=self._connections,
                # Checksums are ours. boto would read a file twice for them, or send it in a form that not all know.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                # Else a file that is sent without TLS is read twice: the checksum is signed instead.
                s3={**(storage.client_config.s3 or {}), "payload_signing_enabled": False},
            )
        )
        storage.client_config = config
        try:
            client = storage.connection.meta.client
        except EXPECTED as error:
            raise failure("connect", self._where, error) from None
        except ValueError:
            raise Refused("connect: see the storage's endpoint_url, which boto does not take") from None
        # boto has no setting for it; this list is what its connections are made with.
        client._endpoint.http_session._socket_options.append(AT_ONCE)
        return client

    @property
    def _where(self) -> str:
        """Host and port, for messages."""
        parts = urlsplit(self._storage.endpoint_url or "https://AWS")
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def _sends_checksums(self) -> bool:
        """False for a store that is said to know none: the setting of boto that people find who use one."""
        wish = self._storage.client_config.request_checksum_calculation
        return (wish or os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "")).lower() != "when_required"

    def _key(self, name: str) -> str:
        location = self._storage.location.strip("/")
        key = f"{location}/{name}" if location else name
        length = len(key.encode())
        if length > LONGEST_KEY:
            raise Refused(f"a key of {length} bytes, and S3 keeps {LONGEST_KEY}: rename the file ({key[:60]}…)")
        return key

    def _patience(self) -> Patience:
        return Patience(self._times.read_timeout, self._times.min_rate)

    def _parameters(self, key: str, file: TargetFile) -> dict[str, Any]:
        """What S3Storage would store with this file."""
        parameters: dict[str, Any] = {
            name: value
            for name, value in self._storage.get_object_parameters(key).items()
            if not name.startswith("Checksum")
        }
        if "ContentType" not in parameters:
            known = file.content_type.isascii() and file.content_type.isprintable()
            parameters["ContentType"] = file.content_type if known else "application/octet-stream"
            if encoding := mimetypes.guess_type(file.name)[1]:
                parameters.setdefault("ContentEncoding", encoding)
        if self._storage.default_acl:
            parameters.setdefault("ACL", self._storage.default_acl)
        return parameters


def _reraise(body: Body | bytearray | None) -> None:
    """What the content raised, which boto wraps in an exception of its own, or takes for the connection's."""
    if isinstance(body, Body) and body.error is not None:
        raise body.error from None
