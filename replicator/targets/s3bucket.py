"""A bucket of S3, as an ``S3Storage`` of django-storages names it."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from replicator.errors import Corrupt, DeliveryError
from replicator.targets.base import Content, Entry, Reader, Stat, TargetFile
from replicator.targets.s3conditions import Conditions
from replicator.targets.s3listing import S3Listing
from replicator.targets.s3requests import Requests, Times
from replicator.targets.s3signing import Links
from replicator.targets.s3upload import Body, checksums_of, md5_of, whole
from replicator.targets.storageerrors import SortedReader

#: Up to this size a file is sent from memory: without asking first whether it may come, which costs a round trip.
#: Not larger, since all of it must have gone out within the connect_timeout.
SMALL = 256 * 1024
#: Up to this size in one request, which S3 checks against the file's SHA-256; above, in parts.
SINGLE = 256 * 1024 * 1024
PART, MOST_PARTS = 64 * 1024 * 1024, 10_000


class Bucket:
    """Where an S3 storage keeps its files. Used by several threads of one process.

    *make_storage*, *times* and *connections* are those of ``Requests``.
    """

    def __init__(self, make_storage: Callable[[], Any], times: Times, *, connections: int) -> None:
        self.requests = Requests(make_storage, times, connections=connections)
        self._links = Links(make_storage)
        self.conditions = Conditions()
        self._listing = S3Listing(self.requests)

    def put(self, name: str, file: TargetFile, content: Content, *, if_free: bool = False) -> None:
        key = self.requests.key(name)
        if content.size > SINGLE:
            self._put_parts(key, file, content, if_free=if_free)
            return
        sha256 = file.sha256
        body: Body | bytearray
        if content.size > SMALL:
            body = Body(content, content.size, self.requests.times.patience(), f"put {key}", last=True)
        else:
            # Of bytes boto makes a file, and asks for a file whether it may come.
            body = bytearray(whole(content))
            sha256 = hashlib.sha256(body).hexdigest()
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode() if self.requests.sends_checksums else ""
        parameters = self.parameters(key, file)
        if checksum:
            parameters |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
        file.may_send()
        with self.conditions.of(if_free=if_free, key=key) as condition:
            answer = self.requests.ask("put_object", key, body, **parameters, **condition)
        if checksum and answer.get("ChecksumSHA256") == checksum:
            return
        md5 = hashlib.md5(body, usedforsecurity=False) if isinstance(body, bytearray) else body.md5
        if not self._proves(key, answer, md5.hexdigest()):
            self.compare_size(key, content.size)

    def delete(self, name: str, file: TargetFile) -> None:
        key = self.requests.key(name)
        file.may_send()
        with suppress(FileNotFoundError):
            self.requests.ask("delete_object", key)

    def stat(self, name: str) -> Stat | None:
        try:
            answer = self.requests.ask("head_object", self.requests.key(name), ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        return Stat(answer["ContentLength"], checksums_of(answer), modified=answer.get("LastModified"))

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        key = self.requests.key(name)
        stream = self.requests.ask("get_object", key)["Body"]
        try:
            yield SortedReader(
                lambda size: stream.read(None if size < 0 else size),
                lambda error: self.requests.failure(f"get {key}", error),
            )
        finally:
            stream.close()

    def can_list(self) -> bool:
        return self._listing.is_there()

    def entries(self, folder: str) -> Iterator[Entry]:
        return self._listing.entries(folder)

    def signed_url(self, name: str, seconds: int, disposition: str) -> str:
        return self._links.make(name, self.requests.key(name), seconds, disposition, self.requests.where)

    def probe(self, name: str) -> None:
        """Return if it answers, and knows the bucket and us. *name*: one that no file has."""
        self.requests.probe(name)

    def address(self, name: str) -> str:
        """Equal for what is the same place."""
        return self.requests.address(name)

    def remove_folder(self, name: str) -> None:
        """There are none."""

    def close(self) -> None:
        """Drop kept connections."""
        self.requests.close()

    def _put_parts(self, key: str, file: TargetFile, content: Content, *, if_free: bool) -> None:
        """As many requests as it takes; nothing is visible before the last one."""
        file.may_send()
        upload = self.requests.ask("create_multipart_upload", key, **self.parameters(key, file))["UploadId"]
        try:
            size = max(PART, -(-content.size // MOST_PARTS))
            left = content.size
            parts: list[dict[str, Any]] = []
            while left:
                body = Body(content, min(size, left), self.requests.times.patience(), f"put {key}", last=left <= size)
                left -= len(body)
                number = len(parts) + 1
                file.may_send()
                answer = self.requests.ask("upload_part", key, body, UploadId=upload, PartNumber=number)
                self._proves(key, answer, body.md5.hexdigest())
                parts.append({"PartNumber": number, "ETag": answer.get("ETag", "")})
            file.may_send()
            with self.conditions.of(if_free=if_free, key=key) as condition:
                done = {"Parts": parts}
                self.requests.ask(
                    "complete_multipart_upload", key, UploadId=upload, MultipartUpload=done, **condition
                )
        except BaseException:
            # Parts cost money until they are removed. If the last request is still under way, this ends it.
            with suppress(DeliveryError, FileNotFoundError):
                self.requests.ask("abort_multipart_upload", key, quick=True, UploadId=upload)
            raise
        self.compare_size(key, content.size)

    def _proves(self, key: str, answer: Mapping[str, Any], md5: str) -> bool:
        """Whether the answer to what was sent shows that just this arrived. Raises ``Corrupt`` if it did not."""
        held = md5_of(answer)
        if held not in ("", md5):
            raise Corrupt(f"put {key}: other bytes arrived than were sent")
        return bool(held)

    def compare_size(self, key: str, size: int) -> None:
        try:
            held = self.requests.ask("head_object", key)["ContentLength"]
        except FileNotFoundError:
            raise Corrupt(f"put {key}: S3 took it, and does not have it") from None
        if held != size:
            raise Corrupt(f"put {key}: {size} bytes were sent, and S3 has {held}")

    def parameters(self, key: str, file: TargetFile) -> dict[str, Any]:
        """What S3Storage would store with this file."""
        parameters = self.own_parameters(key)
        if "ContentType" not in parameters:
            known = file.content_type.isascii() and file.content_type.isprintable()
            parameters["ContentType"] = file.content_type if known else "application/octet-stream"
            if encoding := mimetypes.guess_type(file.name)[1]:
                parameters.setdefault("ContentEncoding", encoding)
        return parameters

    def own_parameters(self, key: str) -> dict[str, Any]:
        """What the storage's options say of each file."""
        storage = self.requests.storage
        parameters = {
            name: value
            for name, value in storage.get_object_parameters(key).items()
            if not name.startswith("Checksum")
        }
        if storage.default_acl:
            parameters.setdefault("ACL", storage.default_acl)
        return parameters
