"""One object of S3, copied by the store itself: no byte of it passes here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from replicator.errors import DeliveryError
from replicator.staging.s3source import S3Source
from replicator.targets.s3bucket import Bucket

#: Up to this size S3 copies in one request; above, in parts.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
SINGLE, PART = 5 * 1024**3, 1024**3
#: What an object says of its content beside its bytes, and keeps.
KEPT = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires"),
    "Metadata",
)
#: Of the source storage's object_parameters, those that reading takes, as a copy calls them.
READING = {
    "ExpectedBucketOwner": "ExpectedSourceBucketOwner",
    "SSECustomerAlgorithm": "CopySourceSSECustomerAlgorithm",
    "SSECustomerKey": "CopySourceSSECustomerKey",
    "SSECustomerKeyMD5": "CopySourceSSECustomerKeyMD5",
}


class Copying:
    """A copy of *name* from *source* to *bucket*. Raises ``FileNotFoundError`` if it is missing at the source."""

    def __init__(self, source: S3Source, bucket: Bucket, name: str) -> None:
        self._bucket, self._key = bucket, bucket.requests.key(name)
        key = source.key(name)
        try:
            self._head = source.requests.ask("head_object", key)
        except FileNotFoundError:
            # Of a bucket that is not there HEAD says the same; this tells them apart.
            source.stat(name)
            raise
        self._size: int = self._head["ContentLength"]
        storage = source.requests.storage
        self._from: dict[str, Any] = {
            "CopySource": {"Bucket": storage.bucket_name, "Key": key},
            "CopySourceIfMatch": self._head["ETag"],
            **{READING[k]: value for k, value in storage.get_object_parameters(key).items() if k in READING},
        }

    def run(self, *, if_free: bool) -> int:
        """The bytes copied. Raises ``FileExistsError`` if *if_free* and the key is there by then, or if the source
        has another file by now; what ``Requests.ask`` raises, else."""
        if self._size > SINGLE:
            self._run_parts(if_free=if_free)
            return self._size
        with self._bucket.conditions.of(if_free=if_free, key=self._key) as condition:
            answer = self._bucket.requests.ask(
                "copy_object",
                self._key,
                **self._from,
                **self._parameters(),
                MetadataDirective="REPLACE",
                TaggingDirective="REPLACE",
                **condition,
            )
        if answer.get("CopyObjectResult", {}).get("ETag") != self._head["ETag"]:
            self._bucket.compare_size(self._key, self._size)
        return self._size

    def _run_parts(self, *, if_free: bool) -> None:
        ask = self._bucket.requests.ask
        upload = ask("create_multipart_upload", self._key, **self._parameters())["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            for start in range(0, self._size, PART):
                last = min(start + PART, self._size) - 1
                number = len(parts) + 1
                answer = ask(
                    "upload_part_copy",
                    self._key,
                    UploadId=upload,
                    PartNumber=number,
                    CopySourceRange=f"bytes={start}-{last}",
                    **self._from,
                )
                parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
            with self._bucket.conditions.of(if_free=if_free, key=self._key) as condition:
                done = {"Parts": parts}
                ask("complete_multipart_upload", self._key, UploadId=upload, MultipartUpload=done, **condition)
        except BaseException:
            # As in an upload: parts cost money until they are removed.
            with suppress(DeliveryError, FileNotFoundError):
                ask("abort_multipart_upload", self._key, quick=True, UploadId=upload)
            raise
        self._bucket.compare_size(self._key, self._size)

    def _parameters(self) -> Mapping[str, Any]:
        """What the destination's storage stores with a file; of the rest, what the source's object says."""
        kept = {name: self._head[name] for name in KEPT if self._head.get(name)}
        return {**kept, **self._bucket.own_parameters(self._key)}
