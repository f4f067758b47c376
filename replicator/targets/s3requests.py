"""The requests to the bucket of an S3 storage: one attempt each, with time limits, and errors that are sorted."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from replicator.errors import Refused, TargetError
from replicator.targets.httpanswer import Patience
from replicator.targets.httppool import AT_ONCE
from replicator.targets.s3errors import CURES, EXPECTED, code_of, failure, is_absent
from replicator.targets.s3upload import Body

# At DEBUG it logs what it signs, tokens and keys of encryption among it. Who sets its level himself, means it.
if not logging.getLogger("botocore").level:
    logging.getLogger("botocore").setLevel(logging.INFO)

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
    """Seconds, but *min_rate*: bytes per second below which a transfer is given up."""

    connect_timeout: float
    read_timeout: float
    min_rate: float

    def patience(self) -> Patience:
        """With one transfer."""
        return Patience(self.read_timeout, self.min_rate)


class Requests:
    """What is asked of the bucket where an S3 storage keeps its files. Used by several threads of one process.

    *make_storage* makes an instance of the storage that nobody else has: its client is given one attempt, so that no
    request is repeated behind our back, and these time limits, whatever the storage's own ``client_config`` says.
    *cures*: what to change, by the code of S3's error.
    """

    def __init__(
        self,
        make_storage: Callable[[], Any],
        times: Times,
        *,
        connections: int,
        cures: Mapping[str, str] = CURES,
    ) -> None:
        self.storage = make_storage()
        self.times = times
        self._make_storage = make_storage
        self._connections = connections
        self._cures = cures
        self._lock = threading.Lock()
        self._clients: dict[bool, Any] = {}

    def ask(
        self,
        operation: str,
        key: str,
        body: Body | bytearray | None = None,
        *,
        quick: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        """The answer to one request. Raises ``FileNotFoundError`` if there is no such key.

        *quick*: answered within seconds, or not at all.
        """
        try:
            answer = self.call(operation, key, body, quick=quick, **parameters)
        except BaseException as error:
            _reraise(body)
            if not isinstance(error, EXPECTED):
                raise
            if operation in READS | {"delete_object"} and is_absent(error):
                raise FileNotFoundError(key) from None
            doubt = operation in VISIBLE and not (isinstance(body, Body) and not body.is_sent)
            what = f"{operation.partition('_')[0]} {key}".rstrip()
            raise self.failure(what, error, doubt=doubt) from None
        _reraise(body)
        return answer

    def call(
        self,
        operation: str,
        key: str,
        body: Body | bytearray | None = None,
        *,
        quick: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        """The answer to one request, or boto's exception. *key* is left out where the operation takes none."""
        client = self._client(quick=quick)
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
        for each, value in self.storage.get_object_parameters(key).items():
            if each in SHARED and each in shape.members:
                parameters.setdefault(each, value)
        if "Key" in shape.members:
            parameters["Key"] = key
        if body is not None:
            parameters["Body"] = body
        try:
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self.storage.bucket_name, **parameters)
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
                connect_timeout=min(self.times.connect_timeout, most),
                read_timeout=min(self.times.read_timeout, most),
                max_pool_connections=self._connections,
                # boto's own is put together anew for each request, which takes a tenth of its time.
                user_agent=storage.client_config.user_agent or "replicator",
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
            raise self.failure("connect", error) from None
        except ValueError:
            raise Refused("connect: see the storage's endpoint_url, which boto does not take") from None
        # boto has no setting for it; this list is what its connections are made with.
        client._endpoint.http_session._socket_options.append(AT_ONCE)
        return client

    def probe(self, name: str) -> None:
        """Return if it answers, and knows the bucket and us. *name*: one that no file has."""
        try:
            # Not HEAD: its answers do not say what is wrong.
            self.call("get_object", self.key(name), quick=True)["Body"].close()
        except EXPECTED as error:
            # Who may not list a bucket is not told that a key is absent.
            if not is_absent(error) and code_of(error) != "AccessDenied":
                raise self.failure("probe", error) from None

    def failure(self, what: str, error: Exception, *, doubt: bool = False) -> TargetError:
        """The error that boto's *error* is."""
        return failure(what, self.where, error, doubt=doubt, cures=self._cures)

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        parts = urlsplit(self.storage.endpoint_url or "https://AWS")
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def sends_checksums(self) -> bool:
        """False for a store that is said to know none: the setting of boto that people find who use one."""
        wish = self.storage.client_config.request_checksum_calculation
        return (wish or os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "")).lower() != "when_required"

    def address(self, name: str) -> str:
        """Equal for what is the same place."""
        return f"bucket {self.storage.endpoint_url or 'AWS'} {self.storage.bucket_name}: {self.key(name)}"

    def key(self, name: str) -> str:
        """Raises ``Refused`` for one that is too long."""
        location = self.storage.location.strip("/")
        key = f"{location}/{name}" if location else name
        length = len(key.encode())
        if length > LONGEST_KEY:
            raise Refused(f"a key of {length} bytes, and S3 keeps {LONGEST_KEY}: rename the file ({key[:60]}…)")
        return key

    def close(self) -> None:
        """Drop kept connections."""
        for client in list(self._clients.values()):
            client.close()


def _reraise(body: Body | bytearray | None) -> None:
    """What the content raised, which boto wraps in an exception of its own, or takes for the connection's."""
    if isinstance(body, Body) and body.error is not None:
        raise body.error from None
