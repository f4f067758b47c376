"""Facts about buckets of S3 that a copy writes to, also without a byte that passes here."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.core.files.storage import storages

from replicator.errors import Refused, Unavailable
from replicator.staging import s3copying
from replicator.staging.base import Changed, Destination, Held, NotCopied
from replicator.staging.destinations import destination_of
from replicator.staging.s3source import S3Source
from replicator.staging.sources import source_of
from tests.s3 import S3, Proxy
from tests.staging.parts import Broken, Bytes, fail

pytest_plugins = ["tests.staging.livesource"]

MIB = 1024 * 1024
NAME = "photos/größe 日本+&.jpg"
#: From memory, and as it is read.
SIZES = pytest.mark.parametrize("size", [10, 300_000])


@pytest.fixture
def bucket(source_s3: S3) -> str:
    """Of the staging site."""
    return source_s3.new_bucket()


@pytest.fixture
def make(source_s3: S3, bucket: str, settings: Any) -> Callable[..., Destination]:
    """The destination that is the bucket, below "here", at a URL (that of S3 unless given)."""

    def make(url: str = "", **options: Any) -> Destination:
        entry = source_s3.entry(bucket, **{"endpoint_url": url or source_s3.url, "location": "here", **options})
        settings.STORAGES = {**settings.STORAGES, "mine": entry}
        return destination_of(storages["mine"])

    return make


@pytest.fixture
def live(source_s3: S3, source_bucket: str, settings: Any) -> Callable[..., S3Source]:
    """The source, below "there", with these files."""

    def live(files: dict[str, bytes] | None = None, url: str = "", **options: Any) -> S3Source:
        entry = source_s3.entry(
            source_bucket, **{"endpoint_url": url or source_s3.url, "location": "there", **options}
        )
        settings.STORAGES = {**settings.STORAGES, "live": entry}
        for name, data in (files or {}).items():
            source_s3.client.put_object(
                Bucket=source_bucket, Key=f"there/{name}", Body=data, ContentType="image/x-odd"
            )
        source = source_of("live")
        assert isinstance(source, S3Source)
        return source

    return live


def held(destination: Destination, name: str = NAME) -> Held | None:
    return destination.held([name]).get(name)


def answer(status: str, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def saying(status: str, code: str, to: bytes) -> Callable[[bytes, socket.socket], bool]:
    """Trouble: this answer to each request that has *to* in its head."""

    def trouble(head: bytes, sock: socket.socket) -> bool:
        if to.lower() not in head.lower():
            return False
        sock.sendall(answer(status, code))
        return True

    return trouble


@SIZES
def test_a_file_is_written_under_exactly_its_name(make: Any, source_s3: S3, bucket: str, size: int) -> None:
    destination, data = make(), os.urandom(size)
    assert held(destination) is None
    assert destination.put(NAME, Bytes(data, content_type="image/x-odd"), None) == size
    assert source_s3.held(bucket) == {f"here/{NAME}": data}
    found = source_s3.client.head_object(Bucket=bucket, Key=f"here/{NAME}")
    assert found["ContentType"] == "image/x-odd"
    seen = held(destination)
    assert seen is not None
    assert (seen.size, seen.modified) == (size, found["LastModified"])
    assert "md5" in seen.checksums
    destination.put(NAME, Bytes(b"again"), seen)
    assert source_s3.held(bucket) == {f"here/{NAME}": b"again"}


@SIZES
def test_a_stream_that_fails_in_mid_file_leaves_nothing(make: Any, source_s3: S3, bucket: str, size: int) -> None:
    """Promise 5."""
    with pytest.raises(Broken):
        make().put(NAME, Bytes(os.urandom(size), fail), None)
    assert source_s3.held(bucket) == {}


@pytest.mark.parametrize("size", [10, 300_000, 70 * MIB])
def test_what_came_in_between_stays(
    make: Any, source_s3: S3, bucket: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 looks at that itself, in the moment of the write; no look before it can be as late."""
    from replicator.targets import s3bucket

    monkeypatch.setattr(s3bucket, "SINGLE", 64 * MIB)
    destination = make()
    with pytest.raises(Changed):
        destination.put(
            NAME, Bytes(bytes(size), lambda: destination_of(storages["mine"]).put(NAME, Bytes(b"site"), None)), None
        )
    seen = held(destination)
    source_s3.client.put_object(Bucket=bucket, Key=f"here/{NAME}", Body=b"somebody else's")
    with pytest.raises(Changed):
        destination.put(NAME, Bytes(b"copied"), seen)
    assert source_s3.held(bucket) == {f"here/{NAME}": b"somebody else's"}
    assert source_s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@SIZES
def test_a_store_that_knows_no_conditions_will_do(
    make: Any, source_s3: S3, source_proxy: Proxy, bucket: str, size: int
) -> None:
    """Many that are like S3 know none: it is found out once, and then looked at before."""
    source_proxy.trouble = saying("501 Not Implemented", "NotImplemented", b"\r\nif-none-match:")
    destination, data = make(source_proxy.url), os.urandom(size)
    with pytest.raises(Unavailable, match="next time without"):
        destination.put(NAME, Bytes(data), None)
    destination.put(NAME, Bytes(data), None)
    with pytest.raises(Changed):
        destination.put(NAME, Bytes(data), None)
    assert source_s3.held(bucket) == {f"here/{NAME}": data}


def test_many_names_are_asked_for_at_once(make: Any, source_s3: S3, source_proxy: Proxy, bucket: str) -> None:
    names = [f"{n}.txt" for n in range(40)]
    for name in names[::2]:
        source_s3.client.put_object(Bucket=bucket, Key=f"here/{name}", Body=name.encode())
    found = make(source_proxy.url).held([*names, "x" * 2000])
    assert {name: each.size for name, each in found.items()} == {name: len(name) for name in names[::2]}
    assert source_proxy.count("^HEAD") == 40


def test_a_store_that_is_out_of_reach_is_not_asked_for_all(make: Any, source_proxy: Proxy) -> None:
    """What was not asked is not missing."""
    source_proxy.trouble = saying("503 Slow Down", "SlowDown", b"HEAD ")
    with pytest.raises(Unavailable):
        make(source_proxy.url).held([f"{n}.txt" for n in range(300)])
    assert source_proxy.count("^HEAD") < 100


def test_a_storage_that_is_in_no_setting_has_connections_of_its_own(source_s3: S3, bucket: str) -> None:
    """A field's storage need not have an alias; and what the site's own client is set to is left alone."""
    from storages.backends.s3 import S3Storage

    storage = S3Storage(**source_s3.entry(bucket)["OPTIONS"])
    config, connection = storage.client_config, storage.connection
    destination_of(storage).put(NAME, Bytes(b"copied"), None)
    assert storage.client_config is config
    assert storage.connection is connection
    assert connection.meta.client.meta.config.retries != {"mode": "standard", "total_max_attempts": 1}
    with storage.open(NAME) as file:
        assert file.read() == b"copied"
    again = S3Storage(**source_s3.entry(bucket)["OPTIONS"])
    assert destination_of(again).address("a") == destination_of(storage).address("a")


def test_a_storage_without_a_bucket_is_no_destination(settings: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "mine": {"BACKEND": "storages.backends.s3.S3Storage"}}
    with pytest.raises(NotCopied, match=r"STORAGES\['mine'\]: it has no bucket_name. Write"):
        destination_of(storages["mine"])


# Copied by S3 itself


def test_no_byte_passes_here(make: Any, live: Any, source_s3: S3, source_proxy: Proxy, bucket: str) -> None:
    data = os.urandom(500_000)
    source = live({NAME: data}, source_proxy.url)
    destination = make(source_proxy.url)
    facts = source.stat(NAME)
    source_proxy.requests.clear()
    assert destination.copy_within(source, NAME, facts, None) == len(data)
    assert source_s3.held(bucket) == {f"here/{NAME}": data}
    assert source_proxy.count("^GET") == 0
    assert source_proxy.count("^PUT") == 1
    assert len(source_proxy.requests) <= 3
    assert sum(len(head) for head in source_proxy.heads) < 20_000


def test_the_type_is_kept_and_the_storage_s_own_parameters_applied(
    make: Any, live: Any, source_s3: S3, source_bucket: str, bucket: str
) -> None:
    source = live()
    source_s3.client.put_object(
        Bucket=source_bucket,
        Key=f"there/{NAME}",
        Body=b"1",
        ContentType="image/x-odd",
        ContentDisposition="inline",
        CacheControl="no-store",
        Metadata={"by": "live"},
    )
    destination = make(object_parameters={"CacheControl": "max-age=60", "ChecksumAlgorithm": "CRC32"})
    assert destination.copy_within(source, NAME, None, None) == 1
    found = source_s3.client.head_object(Bucket=bucket, Key=f"here/{NAME}")
    assert (found["ContentType"], found["ContentDisposition"]) == ("image/x-odd", "inline")
    assert (found["CacheControl"], found["Metadata"]) == ("max-age=60", {"by": "live"})


def test_a_large_file_is_copied_in_parts(
    make: Any, live: Any, source_s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above 5 GiB S3 takes no other way."""
    monkeypatch.setattr(s3copying, "SINGLE", 6 * MIB)
    monkeypatch.setattr(s3copying, "PART", 5 * MIB)
    data = os.urandom(12 * MIB + 1)
    source, destination = live({NAME: data}), make()
    assert destination.copy_within(source, NAME, None, None) == len(data)
    assert source_s3.held(bucket) == {f"here/{NAME}": data}
    assert source_s3.client.head_object(Bucket=bucket, Key=f"here/{NAME}")["ContentType"] == "image/x-odd"
    with pytest.raises(Changed):
        destination.copy_within(source, NAME, None, None)


def test_parts_of_a_copy_that_fails_are_removed(
    make: Any, live: Any, source_s3: S3, source_proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would cost money."""
    monkeypatch.setattr(s3copying, "SINGLE", 6 * MIB)
    monkeypatch.setattr(s3copying, "PART", 5 * MIB)
    source_proxy.trouble = saying("503 Slow Down", "SlowDown", b"partNumber=2")
    with pytest.raises(Unavailable):
        make(source_proxy.url).copy_within(live({NAME: bytes(12 * MIB)}, source_proxy.url), NAME, None, None)
    assert source_s3.held(bucket) == {}
    assert source_s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_what_is_missing_at_the_source_is_said_to_be(make: Any, live: Any, source_proxy: Proxy) -> None:
    """And a bucket that is missing is no missing file."""
    with pytest.raises(FileNotFoundError):
        make().copy_within(live(), NAME, None, None)
    with pytest.raises(Refused, match="no such bucket"):
        make().copy_within(live(bucket_name="nobody-has-this"), NAME, None, None)


def test_a_copy_replaces_only_what_was_seen(make: Any, live: Any, source_s3: S3, bucket: str) -> None:
    source, destination = live({NAME: b"live"}), make()
    source_s3.client.put_object(Bucket=bucket, Key=f"here/{NAME}", Body=b"somebody else's")
    with pytest.raises(Changed):
        destination.copy_within(source, NAME, None, None)
    seen = held(destination)
    assert destination.copy_within(source, NAME, None, seen) == 4
    with pytest.raises(Changed):
        destination.copy_within(source, NAME, None, seen)
    assert source_s3.held(bucket) == {f"here/{NAME}": b"live"}


@pytest.mark.parametrize(("status", "code"), [("403 Forbidden", "AccessDenied"), ("501 No", "NotImplemented")])
def test_a_key_pair_that_may_not_read_the_source_is_found_out_once(
    make: Any, live: Any, source_proxy: Proxy, status: str, code: str
) -> None:
    """Bytes are streamed instead."""
    source_proxy.trouble = saying(status, code, b"x-amz-copy-source:")
    source, destination = live({NAME: b"live"}, source_proxy.url), make(source_proxy.url)
    for _ in range(3):
        try:
            assert destination.copy_within(source, NAME, None, None) is None
        except Unavailable as error:
            assert code == "NotImplemented", error  # noqa: PT017  # of the condition, the first time
    source_proxy.requests.clear()
    assert destination.copy_within(source, NAME, None, None) is None
    assert source_proxy.requests == []
    assert destination.copy_within(live(), NAME, None, None) is None, "another endpoint"


def test_another_endpoint_or_kind_is_streamed(
    make: Any, live: Any, source_s3: S3, source_proxy: Proxy, settings: Any, tmp_path: Any
) -> None:
    """Also what a storage keeps in another form than it gives it."""
    assert make().copy_within(live({NAME: b"live"}, source_proxy.url), NAME, None, None) is None
    assert make().copy_within(live(gzip=True), NAME, None, None) is None
    folder = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "folder": folder}
    assert make().copy_within(source_of("folder"), NAME, None, None) is None
    assert destination_of(storages["folder"]).copy_within(live(), NAME, None, None) is None
    localhost = source_s3.url.replace("127.0.0.1", "LOCALHOST")
    assert make(localhost).copy_within(live(url=localhost.lower()), NAME, None, None) == 4


def test_a_file_that_changes_at_the_source_is_tried_again_later(
    make: Any, live: Any, source_proxy: Proxy, source_s3: S3, bucket: str
) -> None:
    """What is copied is what was asked about."""
    source_proxy.trouble = saying("412 Precondition Failed", "PreconditionFailed", b"x-amz-copy-source:")
    with pytest.raises(Unavailable, match="written at the source"):
        make(source_proxy.url).copy_within(live({NAME: b"live"}, source_proxy.url), NAME, None, None)
    assert source_s3.held(bucket) == {}


def test_what_is_written_at_the_source_in_between_is_not_taken_for_what_was_asked_about(
    make: Any, live: Any, source_proxy: Proxy, source_s3: S3, source_bucket: str, bucket: str
) -> None:
    source = live({NAME: b"live"}, source_proxy.url)

    def overwrite(head: bytes, sock: socket.socket) -> bool:
        if b"x-amz-copy-source:" not in head.lower():
            return False
        source_s3.client.put_object(Bucket=source_bucket, Key=f"there/{NAME}", Body=b"newer")
        # The stand-in does not know this condition, which S3 has had for ever.
        asked = re.search(rb"x-amz-copy-source-if-match: (\S+)", head, re.IGNORECASE)
        now = source_s3.client.head_object(Bucket=source_bucket, Key=f"there/{NAME}")["ETag"]
        if asked is None or asked[1].decode() == now:
            return False
        sock.sendall(answer("412 Precondition Failed", "PreconditionFailed"))
        return True

    source_proxy.trouble = overwrite
    with pytest.raises(Unavailable, match="written at the source"):
        make(source_proxy.url).copy_within(source, NAME, None, None)
    assert source_s3.held(bucket) == {}


def test_boto_s_answers_can_be_told_apart(source_s3: S3, bucket: str) -> None:
    """The stand-in looks at the conditions that these tests are about."""
    source_s3.client.put_object(Bucket=bucket, Key="a", Body=b"1")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        source_s3.client.put_object(Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*")
