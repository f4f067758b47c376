"""A bucket of S3 that a copy reads from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any
from uuid import uuid4

from replicator.errors import Refused, Unavailable
from replicator.staging.base import Facts, NotCopied, Page, Source
from replicator.staging.checkedstream import CheckedStream
from replicator.staging.inflating import inflated
from replicator.targets.base import safe_name
from replicator.targets.s3errors import EXPECTED, READ_CURES, code_of
from replicator.targets.s3requests import Requests, Times
from replicator.targets.s3upload import checksums_of

#: A staging site may be far away, and its line slow.
TIMES = Times(connect_timeout=10.0, read_timeout=30.0, min_rate=8 * 1024)
#: Kept at most: more than the streams of a worker.
CONNECTIONS = 64
#: Keys in a page, of which S3 gives no more.
PAGE = 1000
READ_ONLY = "Give its key pair a policy that allows s3:GetObject and s3:ListBucket, and nothing else"


class S3Source(Source):
    """Where *alias*, an ``S3Storage``, keeps its files. *make_storage*, *times*: as ``Requests`` takes them.

    What a storage with ``gzip`` has compressed is copied as its ``open`` gives it.
    """

    can_list = True

    def __init__(self, alias: str, make_storage: Callable[[], Any], times: Times = TIMES) -> None:
        self.alias = alias
        self.requests = Requests(make_storage, times, connections=CONNECTIONS, cures=READ_CURES)
        self._inflates = bool(self.requests.storage.gzip)

    def stat(self, name: str) -> Facts | None:
        try:
            answer = self.requests.ask("head_object", self.key(name), ChecksumMode="ENABLED")
        except FileNotFoundError:
            pass
        else:
            return self._facts(name, answer)
        try:
            # HEAD has no words: it says the same of a bucket that is not there.
            with self.open(name) as stream:
                return stream.facts
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, name: str) -> Iterator[CheckedStream]:
        key = self.key(name)
        answer = self.requests.ask("get_object", key, ChecksumMode="ENABLED")
        what = f"get {key}"
        read = self._reading(answer["Body"], what)
        if self._is_compressed(name, answer):
            read = inflated(read, what)
        try:
            yield CheckedStream(self._facts(name, answer), read, what)
        finally:
            answer["Body"].close()

    def page(self, after: str) -> Page:
        folder = self.requests.key("")
        answer = self.requests.ask("list_objects_v2", folder, Prefix=folder, StartAfter=after, MaxKeys=PAGE)
        found = answer.get("Contents", [])
        last = found[-1]["Key"] if found else ""
        if not answer.get("IsTruncated"):
            last = ""
        elif last.encode() <= after.encode():
            raise Refused("list: its pages do not go on from where they are asked to: it does not know StartAfter")
        # Keys that end with a slash stand for folders.
        files = [
            (each["Key"].removeprefix(folder), Facts(None if self._inflates else each["Size"], each["LastModified"]))
            for each in found
            if not each["Key"].endswith("/")
        ]
        return Page(files, last)

    def address(self, name: str) -> str:
        return self.requests.address(safe_name(name))

    def key(self, name: str) -> str:
        """Raises ``Refused`` for a name that no file has."""
        return self.requests.key(safe_name(name))

    def check(self) -> None:
        """Within 3 seconds. A key pair that may not list is taken for one that may read."""
        self.requests.probe(_name_of_none())

    def prove_read_only(self) -> None:
        where = f"STORAGES[{self.alias!r}]"
        key = self.key(_name_of_none())
        try:
            # S3 looks at rights first, which are those to put a file; and there is no such upload.
            self.requests.call("upload_part", key, bytearray(), quick=True, UploadId=uuid4().hex, PartNumber=1)
        except EXPECTED as error:
            code = code_of(error)
            if code == "AccessDenied":
                return
            if code != "NoSuchUpload":
                said = self.requests.failure("asking to write", error)
                raise NotCopied(f"Whether {where} takes writes can't be told: {said}. {READ_ONLY}.") from None
        raise NotCopied(f"{where} takes writes from this site. {READ_ONLY}.")

    def close(self) -> None:
        self.requests.close()

    def _facts(self, name: str, answer: Mapping[str, Any]) -> Facts:
        modified, content_type = answer.get("LastModified"), answer.get("ContentType", "")
        if self._is_compressed(name, answer):
            return Facts(None, modified, content_type=content_type)
        return Facts(answer.get("ContentLength"), modified, checksums_of(answer), content_type)

    def _is_compressed(self, name: str, answer: Mapping[str, Any]) -> bool:
        """By the storage, whose ``open`` gives it as it was. Of a file that is a .gz itself S3 says the same."""
        return self._inflates and answer.get("ContentEncoding") == "gzip" and not name.endswith((".gz", ".tgz"))

    def _reading(self, body: Any, what: str) -> Callable[[int], bytes]:
        patience = self.requests.times.patience()

        def read(size: int) -> bytes:
            begun = monotonic()
            try:
                data: bytes = body.read(size)
            except Exception as error:
                raise self.requests.failure(what, error) from None
            patience.waited += monotonic() - begun
            patience.moved += len(data)
            if patience.left() <= 0:
                raise Unavailable(f"{what}: {self.requests.where} sends too slowly")
            return data

        return read


def _name_of_none() -> str:
    """One that no file has."""
    return f"replicator-probe-{uuid4().hex}"
