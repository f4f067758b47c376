"""S3 as a source: requests and pages, what its answers prove, what its refusals mean, and who may write."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from replicator.errors import Corrupt, DeliveryError, Refused, Unavailable
from replicator.staging import s3source
from replicator.staging.base import Facts, NotCopied
from replicator.staging.s3source import S3Source
from replicator.staging.sources import source_of
from replicator.targets.s3requests import Times
from tests.processes import free_port
from tests.s3 import KEYS, S3, Proxy, hang, refuse
from tests.targets.rawserver import RawServer, answers, read_request

pytest_plugins = ["tests.staging.livesource"]

MIB = 1024 * 1024
MakeSource = Callable[..., S3Source]
#: Of a source that is to give up soon.
SOON = Times(connect_timeout=1.0, read_timeout=1.0, min_rate=1024)


@pytest.fixture
def make_source(source_s3: S3, source_bucket: str, settings: Any) -> MakeSource:
    """Makes a source at a URL (that of S3 unless given); *options* are those of its storage."""

    def make(url: str = "", *, times: Times | None = None, **options: Any) -> S3Source:
        given = {"endpoint_url": url or source_s3.url, **options}
        entry = source_s3.entry(source_bucket, **given)
        settings.STORAGES = {**settings.STORAGES, "live": entry}
        # For moto, on a busy machine; who is to give up says when.
        patient = Times(connect_timeout=20.0, read_timeout=20.0, min_rate=1024)
        return S3Source("live", lambda: storages.create_storage(entry), times or patient)

    return make


@pytest.fixture
def put(source_s3: S3, source_bucket: str) -> Callable[..., None]:
    def put_there(key: str, data: bytes = b"body", **more: Any) -> None:
        source_s3.client.put_object(Bucket=source_bucket, Key=key, Body=data, **more)

    return put_there


def read(source: S3Source, name: str, size: int = 65536) -> bytes:
    with source.open(name) as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


# Requests.


def test_a_stat_is_one_request_and_so_is_a_file(make_source: MakeSource, source_proxy: Proxy, put: Any) -> None:
    """A million of them cost a million round trips, and not two."""
    put("a.txt")
    source = make_source(source_proxy.url)
    assert source.stat("a.txt") is not None
    assert len(source_proxy.requests) == source_proxy.count("^HEAD") == 1
    assert read(source, "a.txt") == b"body"
    assert len(source_proxy.requests) == 2
    assert source_proxy.count("^GET") == 1


def test_connections_are_kept(make_source: MakeSource, put: Any) -> None:
    """Also after a whole file was read: handshakes cost more than small files."""
    put("a.txt")
    ok = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    with RawServer(answers(*[ok] * 5)) as server:
        source = make_source(server.url)
        assert [read(source, "a.txt") for _ in range(5)] == [b"body"] * 5
        assert server.connections == 1


def test_what_is_left_early_is_not_drained(make_source: MakeSource) -> None:
    """A gigabyte that nobody wants is not waited for."""
    sent: list[int] = []

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                sent.append(sock.send(bytes(65536)))
        except OSError:
            sent.append(-1)

    with RawServer(script) as server:
        source = make_source(server.url)
        with source.open("a.txt") as stream:
            stream.read(10)
        deadline = time.monotonic() + 60
        while (not sent or sent[-1] != -1) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sent[-1] == -1
    assert sum(sent) < 50_000_000


def test_nothing_is_asked_twice_behind_our_back(make_source: MakeSource, source_proxy: Proxy) -> None:
    """Whatever the storage's own client would do: the run has its own times to try again."""
    source_proxy.trouble = refuse(503, "SlowDown")
    source = make_source(source_proxy.url, client_config=Config(retries={"total_max_attempts": 5, "mode": "legacy"}))
    with pytest.raises(Unavailable):
        source.stat("a.txt")
    assert len(source_proxy.requests) == 1


def test_nothing_but_reading_is_asked(make_source: MakeSource, source_proxy: Proxy, put: Any) -> None:
    """The live side is never written to."""
    put("a.txt")
    source = make_source(source_proxy.url)
    source.check()
    source.page("")
    for name in ("a.txt", "no.txt"):
        if source.stat(name):
            read(source, name)
    assert source_proxy.requests
    assert source_proxy.count("^(GET|HEAD) ") == len(source_proxy.requests)


# What it says of files.


def test_facts_are_those_of_s3(make_source: MakeSource, put: Any) -> None:
    """Size, time, type, and the MD5 that its ETag is."""
    put("a.txt", b"body", ContentType="text/x-special")
    facts = make_source().stat("a.txt")
    assert facts is not None
    assert (facts.size, facts.content_type) == (4, "text/x-special")
    assert facts.checksums == {"md5": hashlib.md5(b"body").hexdigest()}
    assert facts.modified is not None
    assert abs((datetime.now(UTC) - facts.modified).total_seconds()) < 60


def test_a_sha256_that_s3_has_is_told(make_source: MakeSource, put: Any) -> None:
    """Of files that a site of this kind has put there."""
    put("a.txt", b"body", ChecksumAlgorithm="SHA256")
    facts = make_source().stat("a.txt")
    assert facts is not None
    assert facts.checksums["sha256"] == hashlib.sha256(b"body").hexdigest()
    with make_source().open("a.txt") as stream:
        assert stream.facts == facts


def test_the_etag_of_parts_is_no_checksum(make_source: MakeSource, source_s3: S3, source_bucket: str) -> None:
    """It is one of checksums."""
    where = {"Bucket": source_bucket, "Key": "large.bin"}
    data = os.urandom(6 * MIB)
    upload = source_s3.client.create_multipart_upload(**where)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": source_s3.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)["ETag"],
        }
        for number, part in enumerate((data[: 5 * MIB], data[5 * MIB :]), 1)
    ]
    source_s3.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    facts = make_source().stat("large.bin")
    assert facts is not None
    assert (facts.size, facts.checksums) == (len(data), {})
    assert read(make_source(), "large.bin") == data


@pytest.mark.parametrize(
    "fields",
    [
        'ETag: "0123456789abcdef0123456789abcdef"\r\nx-amz-server-side-encryption: aws:kms',
        'ETag: "0123456789abcdef0123456789abcdef"\r\nx-amz-server-side-encryption-customer-algorithm: AES256',
        'ETag: "not-an-md5"',
        "X-Nothing: 1",
    ],
)
def test_an_etag_that_is_no_md5_is_not_taken_for_one(make_source: MakeSource, fields: str) -> None:
    """Of what a KMS key or the client's encrypted, and of other stores: a whole file would look wrong."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{fields}\r\n\r\nbody"
    with RawServer(answers(answer)) as server, make_source(server.url).open("a.txt") as stream:
        assert stream.facts.checksums == {}
        assert stream.read() == b"body"


def test_a_file_that_says_no_size_is_read_to_its_end(make_source: MakeSource) -> None:
    """Proxies send in chunks."""
    answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    with RawServer(answers(answer)) as server, make_source(server.url).open("a.txt") as stream:
        assert stream.facts.size is None
        assert stream.read() == b"body"


# Listing.


def test_a_listing_names_files_as_they_are_opened(make_source: MakeSource, source_s3: S3, source_bucket: str) -> None:
    """Below the storage's location, and quoted by nobody."""
    names = ["a b.txt", "a%20b.txt", "a+b&c=d#e?.txt", "e\u0301.txt", "é.txt", "日本/😀.txt", "z/<\"'>.txt"]
    storage = storages.create_storage(source_s3.entry(source_bucket, location="live/é"))
    for name in names:
        storage.save(name, ContentFile(name.encode()))
    for key in ("live/other.txt", "live/é", "live/é.txt", "live/é/", "live/é/folder/", "zz"):
        source_s3.client.put_object(Bucket=source_bucket, Key=key, Body=b"")
    source = make_source(location="live/é")
    page = source.page("")
    assert page.last == ""
    assert [name for name, _ in page.files] == sorted(names, key=str.encode)
    for name, facts in page.files:
        found = source.stat(name)
        assert found is not None
        assert (facts.size, facts.modified) == (found.size, found.modified)
        assert read(source, name) == name.encode()


def test_a_listing_goes_on_page_by_page(
    make_source: MakeSource, put: Any, monkeypatch: pytest.MonkeyPatch, source_proxy: Proxy
) -> None:
    """One request each, from any key on: another worker may have the next page."""
    names = sorted(f"{'é+ %' if number % 2 else 'a'}{number}" for number in range(25))
    for name in names:
        put(f"media/{name}")
    monkeypatch.setattr(s3source, "PAGE", 10)
    found: list[str] = []
    after, pages = "", 0
    while pages < 9:
        page = make_source(source_proxy.url, location="media").page(after)
        found += [name for name, _ in page.files]
        after, pages = page.last, pages + 1
        if not after:
            break
    assert (found, pages) == (names, 3)
    assert len(source_proxy.requests) == 3


def test_an_empty_listing_ends(make_source: MakeSource) -> None:
    """A live site without files."""
    assert make_source().page("").files == []
    assert make_source().page("").last == ""


@pytest.mark.parametrize("contents", ["", "<Contents><Key>a</Key><Size>1</Size></Contents>"])
def test_a_listing_that_does_not_go_on_is_refused(make_source: MakeSource, contents: str) -> None:
    """Else what comes after it would be taken for missing, or it would be asked for for ever."""
    body = f"<ListBucketResult><IsTruncated>true</IsTruncated>{contents}</ListBucketResult>"
    with RawServer(answers(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}")) as server:
        with pytest.raises(Refused, match="StartAfter"):
            make_source(server.url).page("a")


# Storages with gzip.


def test_what_the_storage_compressed_is_copied_as_it_was(
    make_source: MakeSource, source_s3: S3, source_bucket: str
) -> None:
    """As its own ``open`` gives it; nobody knows that size beforehand."""
    data = b"<svg>" + bytes(300_000)
    storage = storages.create_storage(source_s3.entry(source_bucket, gzip=True))
    storage.save("a.svg", ContentFile(data))
    storage.save("b.txt", ContentFile(b"plain"))
    held = source_s3.held(source_bucket)
    assert gzip.decompress(held["a.svg"]) == data
    source = make_source(gzip=True)
    assert read(source, "a.svg") == data
    facts = source.stat("a.svg")
    assert facts is not None
    assert (facts.size, facts.checksums) == (None, {})
    assert [(name, said.size) for name, said in source.page("").files] == [("a.svg", None), ("b.txt", None)]
    plain = source.stat("b.txt")
    assert plain is not None
    assert plain.size == 5


@pytest.mark.parametrize("compresses", [False, True])
def test_a_compressed_file_stays_one(
    make_source: MakeSource, source_s3: S3, source_bucket: str, compresses: bool
) -> None:
    """S3Storage gives a .gz the encoding gzip, which is what it is, and not how it is sent."""
    data = gzip.compress(b"backup")
    storages.create_storage(source_s3.entry(source_bucket)).save("a.tar.gz", ContentFile(data))
    assert source_s3.client.head_object(Bucket=source_bucket, Key="a.tar.gz")["ContentEncoding"] == "gzip"
    assert read(make_source(gzip=compresses), "a.tar.gz") == data


# When it fails.


def calls(source: S3Source) -> list[Callable[[], Any]]:
    return [
        lambda: source.stat("a.txt"),
        lambda: source.open("a.txt").__enter__(),
        lambda: source.page(""),
        source.check,
    ]


def test_s3_is_given_the_time_it_asks_for(make_source: MakeSource, source_proxy: Proxy, put: Any) -> None:
    """503 for a while is nobody's file's fault; and then it goes on."""
    put("a.txt")
    source = make_source(source_proxy.url)
    source_proxy.trouble = refuse(503, "SlowDown", "Retry-After: 7")
    for call in calls(source):
        with pytest.raises(Unavailable, match="503") as caught:
            call()
        assert caught.value.retry_after == 7
    source_proxy.trouble = None
    assert read(source, "a.txt") == b"body"


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (500, "InternalError", Unavailable, "500"),
        (502, "", Unavailable, "502"),
        (429, "TooManyRequests", Unavailable, "429"),
        (403, "RequestTimeTooSkewed", Unavailable, "clock"),
        (403, "InvalidAccessKeyId", Refused, "access_key"),
        (403, "SignatureDoesNotMatch", Refused, "secret_key"),
        (403, "InvalidObjectState", Refused, "archive"),
        (403, "AccessDenied", Refused, "s3:GetObject.*s3:ListBucket"),
        (404, "NoSuchBucket", Refused, "no such bucket"),
    ],
)
def test_each_code_says_what_happens_next(
    make_source: MakeSource, source_proxy: Proxy, status: int, code: str, error: type[DeliveryError], words: str
) -> None:
    """And what to do; nothing of S3's own text, which could hold anything."""
    source_proxy.trouble = refuse(status, code)
    source = make_source(source_proxy.url)
    with pytest.raises(error, match=words) as caught, source.open("a.txt"):
        pass
    assert KEYS["secret_key"] not in str(caught.value)
    with pytest.raises(error):
        source.page("")


def test_a_bucket_that_is_missing_is_no_missing_file(make_source: MakeSource) -> None:
    """A wrong name would have every file of the site noted as missing."""
    for call in calls(make_source(bucket_name="no-such-bucket")):
        with pytest.raises(Refused, match="no such bucket: see the storage's bucket_name"):
            call()


def test_nothing_at_the_other_end_is_unavailable(make_source: MakeSource) -> None:
    """It is named; the run waits."""
    port = free_port()
    for call in calls(make_source(f"http://127.0.0.1:{port}")):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port} could not be connected to"):
            call()


def test_an_s3_that_says_nothing_is_given_up(make_source: MakeSource, source_proxy: Proxy) -> None:
    """Every call has a time limit; a check one of its own."""
    source_proxy.trouble = hang
    for call in calls(make_source(source_proxy.url, times=SOON)):
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer in time"):
            call()
        assert time.monotonic() - begun < 20
    source = make_source(source_proxy.url, times=s3source.TIMES)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        source.check()
    assert time.monotonic() - begun < 20


def cut_after(count: int, *, stall: bool = False, mangle: bool = False) -> Callable[[socket.socket], None]:
    """A file of 1 MiB of which so many bytes come."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        data = bytearray(MIB)
        md5 = hashlib.md5(data).hexdigest()
        if mangle:
            data[count - 1] = 1
        sock.sendall(f'HTTP/1.1 200 OK\r\nContent-Length: {MIB}\r\nETag: "{md5}"\r\n\r\n'.encode())
        sock.sendall(data[:count])
        if stall:
            time.sleep(60)

    return script


@pytest.mark.parametrize("count", [0, 1, 600_000, MIB - 1])
@pytest.mark.parametrize("size", [1000, MIB, -1])
def test_a_file_that_is_cut_off_is_never_whole(make_source: MakeSource, count: int, size: int) -> None:
    """Promise 5: the connection broke; it is tried again."""
    with RawServer(cut_after(count)) as server, make_source(server.url).open("a.txt") as stream:
        assert stream.facts.size == MIB
        with pytest.raises(Unavailable, match=r"get a\.txt: the connection to .* was lost"):
            drain(stream.read, size)
        with pytest.raises(Unavailable):
            stream.read(1)


def drain(read_some: Callable[[int], bytes], size: int) -> None:
    while read_some(size):
        pass


def test_a_file_that_stalls_is_given_up(make_source: MakeSource) -> None:
    """Within the read_timeout."""
    begun = time.monotonic()
    with (
        RawServer(cut_after(600_000, stall=True)) as server,
        make_source(server.url, times=SOON).open("a.txt") as stream,
    ):
        with pytest.raises(Unavailable, match="did not answer in time"):
            drain(stream.read, 65536)
    assert time.monotonic() - begun < 20


def test_a_file_that_drips_is_given_up(make_source: MakeSource) -> None:
    """No stream takes a thread for ever; only waiting for S3 counts."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {100 * MIB}\r\n\r\n".encode())
        for _ in range(500):
            sock.sendall(bytes(10_000))
            time.sleep(0.1)

    times = Times(connect_timeout=1.0, read_timeout=1.0, min_rate=1_000_000)
    begun = time.monotonic()
    with RawServer(script) as server, make_source(server.url, times=times).open("a.txt") as stream:
        with pytest.raises(Unavailable, match="too slowly"):
            drain(stream.read, 20_000)
    assert 0.9 < time.monotonic() - begun < 20


def test_who_reads_slowly_is_not_to_blame(make_source: MakeSource, put: Any) -> None:
    """The staging site's own disk may be the slow one."""
    put("a.bin", bytes(100_000))
    source = make_source(times=Times(connect_timeout=20.0, read_timeout=1.0, min_rate=1_000_000))
    with source.open("a.bin") as stream:
        for _ in range(5):
            assert stream.read(10_000)
            time.sleep(0.4)
        assert len(stream.read()) == 50_000


@pytest.mark.parametrize("size", [1000, MIB, -1])
def test_wrong_content_is_noticed(make_source: MakeSource, size: int) -> None:
    """By the ETag, at the last byte."""
    with RawServer(cut_after(MIB, mangle=True)) as server, make_source(server.url).open("a.txt") as stream:
        with pytest.raises(Corrupt, match="md5"):
            drain(stream.read, size)


def test_wrong_content_without_an_md5_is_noticed_by_other_checksums(make_source: MakeSource) -> None:
    """What S3 keeps of files in parts, or with a key of KMS."""
    answer = (
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-amz-checksum-crc32: AAAAAA==\r\n"
        'ETag: "0123456789abcdef0123456789abcdef-2"\r\n\r\nbody'
    )
    with RawServer(answers(answer)) as server, make_source(server.url).open("a.txt") as stream:
        assert stream.facts == Facts(4)
        with pytest.raises(Corrupt, match="other bytes"):
            stream.read(4)


# Rights.


@pytest.fixture
def user(source_s3: S3, source_bucket: str) -> Iterator[Callable[..., dict[str, str]]]:
    """Makes a key pair that may do no more than it is told; from then on rights are looked at."""
    iam = boto3.client(
        "iam",
        region_name="us-east-1",
        endpoint_url=source_s3.url,
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
    )

    def make(*actions: str) -> dict[str, str]:
        name = f"user-{os.urandom(4).hex()}"
        iam.create_user(UserName=name)
        where = [f"arn:aws:s3:::{source_bucket}", f"arn:aws:s3:::{source_bucket}/*"]
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": where}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="copy", PolicyDocument=policy)
        pair = iam.create_access_key(UserName=name)["AccessKey"]
        source_s3.allow_anybody(allow=False)
        return {"access_key": pair["AccessKeyId"], "secret_key": pair["SecretAccessKey"]}

    yield make
    source_s3.allow_anybody(allow=True)


READING = ("s3:GetObject", "s3:ListBucket")


def everything(s3: S3, bucket: str) -> tuple[Any, ...]:
    """Of a bucket, but for what moto makes anew with each answer."""
    listed = s3.client.list_object_versions(Bucket=bucket)
    versions = [(each["Key"], each["ETag"], each["Size"], each["LastModified"]) for each in listed["Versions"]]
    uploads = s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return versions, listed.get("DeleteMarkers", []), uploads, s3.held(bucket)


def test_a_key_pair_that_may_only_read_is_proved_to(
    make_source: MakeSource, put: Any, user: Any, source_s3: S3, source_bucket: str, source_proxy: Proxy
) -> None:
    """One request, which S3 refuses; and such a key pair is enough for all the rest."""
    put("a.txt")
    before = everything(source_s3, source_bucket)
    source = make_source(source_proxy.url, **user(*READING))
    source.prove_read_only()
    assert len(source_proxy.requests) == 1
    source.check()
    assert read(source, "a.txt") == b"body"
    assert source.stat("a.txt") is not None
    assert source.stat("no.txt") is None
    assert [name for name, _ in source.page("").files] == ["a.txt"]
    source_s3.allow_anybody(allow=True)
    assert everything(source_s3, source_bucket) == before


@pytest.mark.parametrize("actions", [(*READING, "s3:PutObject"), ("s3:*",)])
def test_a_key_pair_that_may_write_is_found_out_without_writing(
    make_source: MakeSource, put: Any, user: Any, source_s3: S3, source_bucket: str, actions: tuple[str, ...]
) -> None:
    """The bucket is byte for byte what it was, with no upload begun; and what to do is said."""
    put("a.txt")
    before = everything(source_s3, source_bucket)
    with pytest.raises(NotCopied, match=r"STORAGES\['live'\] takes writes.*s3:GetObject and s3:ListBucket"):
        make_source(**user(*actions)).prove_read_only()
    source_s3.allow_anybody(allow=True)
    assert before[2] == []
    assert everything(source_s3, source_bucket) == before


def test_a_key_pair_may_write_to_any_key_of_its_location(make_source: MakeSource, source_proxy: Proxy) -> None:
    """It is asked below it, for a key that no file has, and a new one each time."""
    source = make_source(source_proxy.url, location="live")
    for _ in range(2):
        with pytest.raises(NotCopied):
            source.prove_read_only()
    assert source_proxy.count(r"^PUT /[^/]+/live/replicator-probe-[0-9a-f]{32}\?.*uploadId=[0-9a-f]{32}") == 2
    assert len(set(source_proxy.requests)) == 2


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, "SlowDown", "503"),
        (403, "InvalidAccessKeyId", "access_key"),
        (403, "SignatureDoesNotMatch", "secret_key"),
        (404, "NoSuchBucket", "no such bucket"),
        (501, "NotImplemented", "501"),
    ],
)
def test_what_can_not_be_told_proves_nothing(
    make_source: MakeSource, source_proxy: Proxy, status: int, code: str, words: str
) -> None:
    """Only a refusal for want of rights is a proof; wrong keys are refused whatever they ask."""
    source_proxy.trouble = refuse(status, code)
    with pytest.raises(NotCopied, match=f"can't be told: .*{words}") as caught:
        make_source(source_proxy.url).prove_read_only()
    assert KEYS["secret_key"] not in str(caught.value)


def test_who_may_not_list_is_told_why_a_file_is_refused(
    make_source: MakeSource, put: Any, user: Any, source_proxy: Proxy
) -> None:
    """S3 hides from such a key pair that a file is missing (moto does not: its answer is played here)."""
    put("a.txt")
    source = make_source(source_proxy.url, **user("s3:GetObject"))
    source.check()
    assert read(source, "a.txt") == b"body"
    with pytest.raises(Refused, match="s3:ListBucket"):
        source.page("")
    source_proxy.trouble = refuse(403, "AccessDenied")
    for call in (lambda: source.stat("no.txt"), lambda: source.open("no.txt").__enter__()):
        with pytest.raises(Refused, match="s3:ListBucket on the bucket: without that, S3 says the same of each file"):
            call()


def test_wrong_keys_do_not_pass_the_check(make_source: MakeSource, user: Any) -> None:
    """Before a run begins; 403 in general does not tell."""
    user(*READING)
    with pytest.raises(Refused, match="access_key and secret_key"):
        make_source(access_key="AKIAWRONG").check()


def test_a_source_is_made_of_its_storage(make_source: MakeSource, put: Any) -> None:
    """By its alias, with the patience of one that is far away."""
    put("a.txt")
    make_source()
    source = source_of("live")
    assert isinstance(source, S3Source)
    assert source.requests.times == s3source.TIMES
    assert read(source, "a.txt") == b"body"
