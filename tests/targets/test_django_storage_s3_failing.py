"""S3 as a target: what becomes of a file when S3, the way there or the settings fail."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from django.core.files.storage import storages

from replicator.errors import Corrupt, Refused, TargetError, Unavailable
from replicator.targets.django_storage import StorageTarget
from tests.processes import free_port
from tests.s3 import KEYS, S3, Proxy, hang, refuse
from tests.targets.conftest import SOON, MakeS3, file, put
from tests.targets.rawserver import RawServer, answers, read_request

#: From memory, and as it is read.
SIZES = pytest.mark.parametrize("size", [10, 3_000_000])
KEY = "media/a b/file.txt"


# What S3 says.


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (400, "KeyTooLongError", Refused, "rename"),
        (400, "InvalidArgument", Refused, "object_parameters"),
        (400, "AccessControlListNotSupported", Refused, "default_acl"),
        (400, "AuthorizationHeaderMalformed", Refused, "region_name"),
        (403, "AccessDenied", Refused, "s3:PutObject"),
        (403, "InvalidAccessKeyId", Refused, "access_key"),
        (403, "SignatureDoesNotMatch", Refused, "secret_key"),
        (404, "NoSuchBucket", Refused, "bucket_name"),
        (405, "MethodNotAllowed", Refused, "endpoint_url"),
        (413, "", Refused, "larger"),
        (418, "Unheard", Refused, "418 Unheard"),
        (501, "NotImplemented", Refused, "object_parameters"),
        (400, "RequestTimeout", Unavailable, "slowly"),
        (400, "ExpiredToken", Unavailable, "expired"),
        (403, "RequestTimeTooSkewed", Unavailable, "clock"),
        (403, "QuotaExceeded", Unavailable, "quota"),
        (409, "OperationAborted", Unavailable, "same key"),
        (429, "TooManyRequests", Unavailable, "too many"),
        (500, "InternalError", Unavailable, "500 InternalError"),
        (503, "SlowDown", Unavailable, "503 SlowDown"),
        (400, "BadDigest", Corrupt, "other bytes"),
        (400, "XAmzContentChecksumMismatch", Corrupt, "other bytes"),
    ],
)
def test_each_code_says_what_happens_next(
    make_s3: MakeS3, proxy: Proxy, status: int, code: str, error: type[TargetError], words: str
) -> None:
    """Refused: a person must act, and reads what to do. Unavailable: time may. And it goes out once."""
    target = make_s3(proxy.url, client_config=Config(retries={"total_max_attempts": 5, "mode": "legacy"}))
    proxy.trouble = refuse(status, code)
    for call in (lambda: put(target, b"body"), lambda: target.delete(file())):
        with pytest.raises(error, match=words) as caught:
            call()
        assert caught.value.status == status
        assert not caught.value.doubt
    assert proxy.count("^PUT") == proxy.count("^DELETE") == 1


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_that_waited_in_vain_leaves_doubt(make_s3: MakeS3, proxy: Proxy, status: int) -> None:
    """What it waited for may still take effect."""
    proxy.trouble = refuse(status, "")
    target = make_s3(proxy.url)
    for call in (lambda: put(target, b"body"), lambda: target.delete(file())):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.doubt


@SIZES
def test_s3_is_given_the_time_it_asks_for(make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str, size: int) -> None:
    """503 for a while: nothing repeats the request behind our back; and then it goes on."""
    target, data = make_s3(proxy.url), bytes(size)
    proxy.trouble = refuse(503, "SlowDown", "Retry-After: 7")
    with pytest.raises(Unavailable) as caught:
        put(target, data)
    assert caught.value.retry_after == 7
    assert not caught.value.doubt
    assert len(proxy.requests) == 1
    proxy.trouble = None
    put(target, data)
    assert s3.held(bucket) == {KEY: data}


def test_an_absent_file_is_not_an_error(make_s3: MakeS3, proxy: Proxy) -> None:
    """Also where DELETE says 404, as S3 itself never does."""
    proxy.trouble = refuse(404, "NoSuchKey")
    target = make_s3(proxy.url)
    target.delete(file())
    assert target.stat(file()) is None
    with pytest.raises(FileNotFoundError), target.open(file()):
        pass


# Silence.


@SIZES
def test_an_answer_that_is_lost_leaves_doubt(make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str, size: int) -> None:
    """S3 has it, and nobody knows. One request: repeated later, it could undo what was written meanwhile."""
    options = {"client_config": Config(retries={"total_max_attempts": 5}, read_timeout=60, connect_timeout=60)}
    target, data = make_s3(proxy.url, **options), bytes(size)
    proxy.trouble = lambda head, sock: proxy.pass_on(head, sock, answer=False) or True
    with pytest.raises(Unavailable, match="lost") as caught:
        put(target, data)
    assert caught.value.doubt
    assert len(proxy.requests) == 1
    assert s3.held(bucket) == {KEY: data}
    with pytest.raises(Unavailable, match="lost") as caught:
        target.delete(file())
    assert caught.value.doubt
    assert len(proxy.requests) == 2


@SIZES
def test_an_s3_that_hangs_is_not_waited_for(make_s3: MakeS3, proxy: Proxy, size: int) -> None:
    """The target's time limits hold, whatever the storage's own are; and there is doubt."""
    target = make_s3(proxy.url, times=SOON, client_config=Config(read_timeout=60, connect_timeout=60))
    proxy.trouble = hang
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer in time") as caught:
        put(target, bytes(size))
    assert caught.value.doubt
    with pytest.raises(Unavailable, match="did not answer in time") as caught:
        target.delete(file())
    assert caught.value.doubt
    with pytest.raises(Unavailable) as caught:
        target.stat(file())
    assert not caught.value.doubt
    assert time.monotonic() - begun < 30
    assert len(proxy.requests) == 3


def test_a_body_that_nobody_takes_is_given_up(make_s3: MakeS3, proxy: Proxy) -> None:
    """What was not sent whole takes no effect: no doubt."""
    released = threading.Event()
    proxy.trouble = lambda head, sock: released.wait(60)
    with pytest.raises(Unavailable) as caught:
        put(make_s3(proxy.url, times=SOON), bytes(30_000_000))
    released.set()
    assert not caught.value.doubt


def test_a_body_that_is_taken_too_slowly_is_given_up(make_s3: MakeS3, proxy: Proxy) -> None:
    """A large file may take its time, but not for ever."""

    def drip(head: bytes, sock: socket.socket) -> bool:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        while sock.recv(65536):
            time.sleep(0.05)
        return True

    proxy.trouble = drip
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="too little of the file in time") as caught:
        put(make_s3(proxy.url, times={**SOON, "min_rate": 20e6}), bytes(40_000_000))
    assert not caught.value.doubt
    assert time.monotonic() - begun < 20


def test_a_connection_that_ends_in_mid_body_leaves_no_doubt(
    make_s3: MakeS3, proxy: Proxy, s3: S3, bucket: str
) -> None:
    """S3 throws away what is not whole. What was there stays."""
    target = make_s3(proxy.url)
    put(target, b"old")

    def close(head: bytes, sock: socket.socket) -> bool:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.recv(1000)
        return True

    proxy.trouble = close
    with pytest.raises(Unavailable, match="lost") as caught:
        put(target, bytes(30_000_000))
    assert not caught.value.doubt
    assert len(proxy.requests) == 2
    assert s3.held(bucket) == {KEY: b"old"}


def test_s3_that_is_not_there_leaves_no_doubt(make_s3: MakeS3) -> None:
    """Nothing was sent."""
    target = make_s3(f"http://127.0.0.1:{free_port()}")
    for call in (lambda: put(target, b"body"), lambda: target.delete(file()), target.probe):
        with pytest.raises(Unavailable, match="could not be connected to") as caught:
            call()
        assert not caught.value.doubt


@pytest.mark.parametrize(("silence", "words"), [(0, "was lost"), (60, "in time")])
def test_reading_that_breaks_off_is_an_error(make_s3: MakeS3, silence: float, words: str) -> None:
    """Never a file that is shorter than it is; nor one that is waited for."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        threading.Event().wait(silence)

    with RawServer(script) as server, make_s3(server.url, times=SOON).open(file()) as reader:
        assert reader.read(5) == b"01234"
        with pytest.raises(Unavailable, match=words):
            reader.read(5)


# Its own client.


def test_the_projects_storage_stays_as_it_is(make_s3: MakeS3, s3: S3, bucket: str) -> None:
    """One attempt is for targets: the site's own reads are repeated as before."""
    config = Config(retries={"total_max_attempts": 7}, read_timeout=55, s3={"addressing_style": "path"})
    put(make_s3(client_config=config), b"body")
    storage: Any = storages["backup"]
    assert storage.client_config is config
    assert storage.connection.meta.client.meta.config.retries["total_max_attempts"] == 7
    with storage.open(KEY) as held:
        assert held.read() == b"body"


def test_a_fork_shares_no_connection(make_s3: MakeS3) -> None:
    """Two processes never talk over one connection."""
    with RawServer(answers(*["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] * 5)) as server:
        target = make_s3(server.url)
        assert target.stat(file()) is None
        assert target.stat(file()) is None
        assert server.connections == 1
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if target.stat(file()) is None else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert target.stat(file()) is None
        assert server.connections == 2


def test_tls_is_verified(settings: Any, tmp_path: Path) -> None:
    """With the storage's option ``verify``; without it nothing is sent to who shows an unknown certificate."""
    with S3(tls=True) as s3:
        bucket = s3.new_bucket()
        for size in (10, 300_000):
            settings.STORAGES = {**settings.STORAGES, "backup": s3.entry(bucket)}
            put(StorageTarget("s3", storage="backup"), bytes(size), f"{size}.bin")
            settings.STORAGES = {**settings.STORAGES, "backup": s3.entry(bucket, verify=None)}
            with pytest.raises(Unavailable, match="not trusted") as caught:
                put(StorageTarget("s3", storage="backup"), bytes(size), "no.bin")
            assert not caught.value.doubt
        assert s3.held(bucket) == {"media/10.bin": bytes(10), "media/300000.bin": bytes(300_000)}


# Credentials and rights.


def test_wrong_credentials_are_refused(make_s3: MakeS3, s3: S3) -> None:
    """By S3 itself; the message says what to set, and shows none of it."""
    target = make_s3(access_key="AKIAWRONG", secret_key="wrong secret")
    s3.allow_anybody(allow=False)
    try:
        for call in (lambda: put(target, b"body"), lambda: target.delete(file()), target.probe):
            with pytest.raises(Refused, match="access_key") as caught:
                call()
            assert "wrong secret" not in str(caught.value)
            assert "AKIAWRONG" not in str(caught.value)
    finally:
        s3.allow_anybody(allow=True)


def test_missing_credentials_may_come(make_s3: MakeS3, s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance's role may be out of reach when a worker starts: it is asked for again."""
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    target = make_s3(access_key=None, secret_key=None)
    with pytest.raises(Unavailable, match="no credentials") as caught:
        put(target, b"body")
    assert not caught.value.doubt
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    put(target, b"body")
    assert s3.held(bucket) == {KEY: b"body"}


def test_no_message_holds_a_secret(make_s3: MakeS3, proxy: Proxy) -> None:
    """Promise 9: not even one that S3 repeats."""
    target = make_s3(proxy.url, object_parameters={"SSECustomerKey": {"wrong": "the customer's key"}})
    proxy.trouble = refuse(403, "AccessDenied")
    for each in (target, make_s3(proxy.url)):
        with pytest.raises(Refused) as caught:
            put(each, b"body")
        assert KEYS["secret_key"] not in str(caught.value)
        assert KEYS["access_key"] not in str(caught.value)
        assert "customer's" not in str(caught.value)
    assert "secret" not in repr(target)


def test_no_log_holds_a_secret(make_s3: MakeS3, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 9: with every log at its most talkative."""
    caplog.set_level(logging.DEBUG)
    encryption = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    target = make_s3(security_token="the token", object_parameters=encryption)
    put(target, b"body")
    assert target.stat(file()) is not None
    assert "/media/" in caplog.text
    for secret in (KEYS["secret_key"], KEYS["access_key"], "the token", "k" * 32, b64encode(b"k" * 32).decode()):
        assert secret not in caplog.text


# Probes.


def test_a_probe_leaves_nothing_behind(make_s3: MakeS3, s3: S3, bucket: str, proxy: Proxy) -> None:
    """One request, below the target's own prefix: rights may end there."""
    make_s3(proxy.url, location="below").probe()
    assert proxy.requests == [f"GET /{bucket}/below/replicator-probe"]
    assert s3.held(bucket) == {}


def test_a_probe_says_what_is_wrong(make_s3: MakeS3, proxy: Proxy) -> None:
    """A bucket that is not there; an S3 that is overloaded."""
    with pytest.raises(Refused, match="bucket_name"):
        make_s3(bucket_name="no-such-bucket").probe()
    proxy.trouble = refuse(503, "SlowDown")
    with pytest.raises(Unavailable, match="503"):
        make_s3(proxy.url).probe()


def test_who_may_only_write_is_up(make_s3: MakeS3, proxy: Proxy) -> None:
    """To who may not list a bucket S3 does not say that a file is absent."""
    proxy.trouble = refuse(403, "AccessDenied")
    make_s3(proxy.url).probe()


def test_a_probe_is_quick(make_s3: MakeS3, proxy: Proxy) -> None:
    """It takes 3 seconds at most, whatever the target's time limits."""
    target = make_s3(proxy.url, times={"connect_timeout": 60, "read_timeout": 60})
    proxy.trouble = hang
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        target.probe()
    assert time.monotonic() - begun < 20
