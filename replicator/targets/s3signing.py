"""URLs of a bucket's objects that anybody can GET for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.config import Config

from replicator.targets.s3errors import EXPECTED, failure


class Links:
    """The URLs that a storage's credentials sign. Used by several threads of one process."""

    def __init__(self, make_storage: Callable[[], Any]) -> None:
        self._make_storage = make_storage
        self._lock = threading.Lock()
        self._made: tuple[Any, Any] | None = None

    def make(self, name: str, key: str, seconds: int, disposition: str, where: str) -> str:
        """The URL of *key*, whose file is *name* in the storage; empty where no browser could use one."""
        try:
            storage, client = self._parts()
            if "SSECustomerKey" in storage.get_object_parameters(key):
                return ""  # S3 wants that key with each request
            fields = {"ResponseCacheControl": "private"}
            if disposition:
                fields["ResponseContentDisposition"] = disposition
            if storage.custom_domain and storage.querystring_auth and storage.cloudfront_signer:
                parameters = {"response-content-disposition": disposition} if disposition else None
                return str(storage.url(name, parameters, expire=seconds))
            parameters = {"Bucket": storage.bucket_name, "Key": key, **fields}
            return str(client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))
        except EXPECTED as error:
            # A client looks for credentials only once.
            self._made = None
            raise failure("sign", where, error) from None

    def _parts(self) -> tuple[Any, Any]:
        """A storage of our own, and a client that makes signatures of version 4 unless the storage says otherwise:
        boto's own choice for URLs is version 2, which newer regions do not know."""
        with self._lock:
            if self._made is None:
                storage = self._make_storage()
                version = storage.client_config.signature_version or "s3v4"
                storage.client_config = storage.client_config.merge(Config(signature_version=version))
                self._made = (storage, storage.connection.meta.client)
            return self._made
