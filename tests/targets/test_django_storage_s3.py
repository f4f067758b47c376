"""S3 as a target: what is stored, and how it is verified."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import struct
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from replicator import wake
from replicator.delivery.run import deliver
from replicator.errors import Corrupt, DeliveryError, Unavailable
from replicator.models import Replica
from replicator.targets import s3bucket
from replicator.targets.base import Stat
from replicator.testing import BytesContent, FailingContent
from tests.s3 import S3, Proxy
from tests.targets.conftest import MakeS3, file, put
from tests.targets.rawserver import RawServer, answers, read_request

MIB = 1024 * 1024
#: From memory, and as it is read.
SIZES = pytest.mark.parametrize("size", [10, 300_000])


# What is stored.


def test_type_and_headers_are_those_of_the_storage(make_s3: MakeS3, s3: S3, bucket: str) -> None:
    """As S3Storage would have stored it: the file's type, and what object_parameters and default_acl say."""
    target = make_s3(
        location="below",
        object_parameters={
            "CacheControl": "max-age=86400",
            "ContentDisposition": "inline",
            "Metadata": {"by": "replicator"},
            "ChecksumAlgorithm": "CRC32",
        },
        default_acl="public-read",
    )
    put(target, b"body", "style.css.gz", content_type="text/css")
    held = s3.client.get_object(Bucket=bucket, Key="below/media/style.css.gz")
    assert held["Body"].read() == b"body"
    assert (held["ContentType"], held["ContentEncoding"]) == ("text/css", "gzip")
    assert (held["CacheControl"], held["ContentDisposition"]) == ("max-age=86400", "inline")
    assert held["Metadata"] == {"by": "replicator"}
    grants = s3.client.get_object_acl(Bucket=bucket, Key="below/media/style.css.gz")["Grants"]
    assert any(grant["Grantee"].get("URI", "").endswith("AllUsers") for grant in grants)


def test_the_storage_reads_what_the_target_wrote(make_s3: MakeS3) -> None:
    """Names are the storage's own: its ``url`` and ``open`` find the file."""
    target = make_s3(location="below")
    put(target, b"body", "a b/é?.txt")
    with storages["backup"].open(target.name_of(file("a b/é?.txt"))) as held:
        assert held.read() == b"body"


def test_a_content_type_cannot_add_a_field(make_s3: MakeS3, s3: S3, bucket: str) -> None:
    """It came from a form."""
    put(make_s3(), b"body", content_type="text/plain\r\nX-Evil: 1")
    assert s3.client.head_object(Bucket=bucket, Key="media/a b/file.txt")["ContentType"] == "application/octet-stream"


@SIZES
def test_s3_is_told_the_hash_and_keeps_it(make_s3: MakeS3, s3: S3, bucket: str, size: int) -> None:
    """It refuses other bytes than those, and tells the hash to an audit."""
    target, data = make_s3(), os.urandom(size)
    put(target, data)
    held = s3.client.head_object(Bucket=bucket, Key="media/a b/file.txt", ChecksumMode="ENABLED")
    assert b64decode(held["ChecksumSHA256"]) == hashlib.sha256(data).digest()
    found = target.stat(file())
    assert found is not None
    assert found.checksums == {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}


def test_a_small_file_is_one_request(make_s3: MakeS3, proxy: Proxy) -> None:
    """Its answer is the verification; and no round trip goes by to ask whether it may come."""
    put(make_s3(proxy.url), b"body")
    assert len(proxy.requests) == 1
    assert b"expect" not in proxy.heads[0].lower()


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_store_that_knows_no_checksums_is_sent_none(
    make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What people set for such a store is heeded; the ETag verifies."""
    options: dict[str, Any] = {}
    if way == "option":
        options["client_config"] = Config(request_checksum_calculation="when_required")
    else:
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    for size in (10, 300_000):
        put(make_s3(proxy.url, **options), bytes(size), f"{size}.bin")
    assert [b"checksum" in head.lower() for head in proxy.heads] == [False, False]
    assert {key: len(data) for key, data in s3.held(bucket).items()} == {
        "media/10.bin": 10,
        "media/300000.bin": 300_000,
    }


@SIZES
def test_other_bytes_than_were_sent_are_noticed(make_s3: MakeS3, proxy: Proxy, size: int) -> None:
    """Where S3 did not check a hash itself, its ETag is compared."""
    proxy.mangle = lambda data: data.replace(b"wrong-me", b"wronged!")
    target = make_s3(proxy.url, client_config=Config(request_checksum_calculation="when_required"))
    with pytest.raises(Corrupt, match="other bytes"):
        put(target, b"wrong-me".rjust(size))


@pytest.mark.parametrize(
    "fields",
    [
        ['ETag: "d41d8cd98f00b204e9800998ecf8427e"', "x-amz-server-side-encryption: aws:kms"],
        ['ETag: "not-an-md5"'],
        [],
    ],
)
def test_an_etag_that_is_no_md5_proves_nothing(make_s3: MakeS3, fields: list[str]) -> None:
    """Of what a KMS key encrypted, of other stores: then the size is asked for."""

    def script(sock: socket.socket) -> None:
        lines = "".join(f"{field}\r\n" for field in fields)
        for length in (0, 4, 0, 5):
            read_request(sock)
            sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{lines}\r\n".encode())

    with RawServer(script) as server:
        target = make_s3(server.url)
        put(target, b"body")
        with pytest.raises(Corrupt, match="4 bytes were sent, and S3 has 5"):
            put(target, b"body")


def test_what_s3_took_and_does_not_have_is_noticed(make_s3: MakeS3) -> None:
    """It says 200 to whatever comes: a server of another kind."""
    took, absent = (
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    )
    with RawServer(answers(took, absent)) as server, pytest.raises(Corrupt, match="does not have it"):
        put(make_s3(server.url), b"body")


# In parts.


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Files of 6 MiB go in parts, of 5."""
    monkeypatch.setattr(s3bucket, "SINGLE", 5 * MIB)
    monkeypatch.setattr(s3bucket, "PART", 5 * MIB)
    return 12 * MIB


def test_a_large_file_goes_in_parts(make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str, parts: int) -> None:
    """With its headers, and its size verified."""
    data = os.urandom(parts)
    target = make_s3(proxy.url, object_parameters={"CacheControl": "no-cache"})
    put(target, data)
    assert proxy.count("^PUT .*partNumber=") == 3
    assert s3.held(bucket) == {"media/a b/file.txt": data}
    held = s3.client.head_object(Bucket=bucket, Key="media/a b/file.txt")
    assert (held["ContentType"], held["CacheControl"]) == ("text/plain", "no-cache")
    found = target.stat(file())
    assert found is not None
    assert (found.size, found.checksums) == (parts, {})


def test_a_checksum_of_checksums_is_not_the_files(make_s3: MakeS3) -> None:
    """Of a file that came in parts, S3 tells that of their checksums, with their number."""
    fields = 'x-amz-checksum-sha256: n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=-3\r\nETag: "{}-3"\r\n'.format(
        "0" * 32
    )
    with RawServer(answers(f"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n{fields}\r\n")) as server:
        assert make_s3(server.url).stat(file()) == Stat(7)


def test_a_large_file_has_no_more_parts_than_s3_takes(
    make_s3: MakeS3, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """They grow with the file."""
    monkeypatch.setattr(s3bucket, "MOST_PARTS", 2)
    put(make_s3(proxy.url), bytes(parts))
    assert proxy.count("^PUT .*partNumber=") == 2


def test_other_bytes_in_a_part_are_noticed(make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str, parts: int) -> None:
    """Each part's ETag is compared: nothing becomes visible, nothing is left."""
    proxy.mangle = lambda data: data.replace(b"wrong-me", b"wronged!")
    with pytest.raises(Corrupt, match="other bytes"):
        put(make_s3(proxy.url), b"wrong-me".rjust(parts))
    assert s3.held(bucket) == {}
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("after", [1, 6 * MIB, 12 * MIB])
def test_parts_of_a_content_that_fails_are_removed(
    make_s3: MakeS3, s3: S3, bucket: str, parts: int, after: int
) -> None:
    """Also if it fails at its very end: then S3 misses a byte. What was there stays."""
    target = make_s3()
    put(target, b"old")
    error = KeyError("of the content")
    with pytest.raises(KeyError) as caught:
        target.put(file(), FailingContent(bytes(parts), after, error))
    assert caught.value is error
    assert s3.held(bucket) == {"media/a b/file.txt": b"old"}
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("allowed", range(5))
def test_each_step_asks_whether_it_may_be_sent(
    make_s3: MakeS3, s3: S3, bucket: str, parts: int, allowed: int
) -> None:
    """Promise 2: begin, three parts, end. A worker whose lease ended in between completes nothing."""
    error = DeliveryError("the lease ended")
    calls = 0

    def may_send() -> None:
        nonlocal calls
        calls += 1
        if calls > allowed:
            raise error

    with pytest.raises(DeliveryError) as caught:
        make_s3().put(file(size=parts, may_send=may_send), BytesContent(bytes(parts)))
    assert caught.value is error
    assert s3.held(bucket) == {}
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(("step", "doubt"), [(b"PUT .*partNumber=", False), (b"POST .*uploadId=", True)])
def test_a_completion_without_an_answer_leaves_doubt(
    make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str, parts: int, step: bytes, doubt: bool
) -> None:
    """It may still take effect; a part without an answer may not."""

    def lose(head: bytes, sock: socket.socket) -> bool:
        if not re.match(step, head):
            return False
        proxy.pass_on(head, sock, answer=False)
        return True

    proxy.trouble = lose
    with pytest.raises(Unavailable, match="lost") as caught:
        put(make_s3(proxy.url), bytes(parts))
    assert caught.value.doubt == doubt
    assert s3.held(bucket).keys() == ({"media/a b/file.txt"} if doubt else set())
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=bucket)


# With the ledger.


@pytest.mark.django_db(transaction=True)
def test_saves_and_deletes_reach_the_bucket(
    make_s3: MakeS3, s3: S3, bucket: str, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at every target; and bytes that the ledger does not name never show, however late they are found out."""
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    settings.MEDIA_ROOT = str(tmp_path)
    make_s3()
    backend = "replicator.targets.django_storage.StorageTarget"
    settings.REPLICATOR = {"TARGETS": {"backup": {"BACKEND": backend, "OPTIONS": {"storage": "backup"}}}}
    storage, large = storages["default"], os.urandom(3 * MIB)
    for name, data in (("small.txt", b"small"), ("large.bin", large), ("empty", b""), ("gone.txt", b"x")):
        storage.save(name, ContentFile(data))
    deliver("backup")
    storage.delete("gone.txt")
    for name in ("changed.txt", "changed.bin"):
        storage.save(name, ContentFile(large if name == "changed.bin" else b"small"))
        with (tmp_path / name).open("r+b") as local:
            local.seek(-1, os.SEEK_END)
            local.write(b"!")
    deliver("backup")
    assert s3.held(bucket) == {"media/small.txt": b"small", "media/large.bin": large, "media/empty": b""}
    pending = Replica.objects.exclude(status=Replica.Status.SYNCED)
    assert {replica.file.name for replica in pending} == {"changed.txt", "changed.bin"}


def test_a_connection_that_is_given_up_sends_nothing_more(
    make_s3: MakeS3, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: the kernel would go on sending after a close, or a kill: see test_cut_off.py."""
    lingers: list[bytes] = []
    connect = socket.socket.connect

    def note(self: socket.socket, address: Any) -> None:
        lingers.append(self.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    put(make_s3(), b"body")
    assert set(lingers) == {struct.pack("ii", 1, 0)}
