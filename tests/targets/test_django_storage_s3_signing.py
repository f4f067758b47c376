"""S3's own links: who has one may GET the file for a while."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from replicator import delivery, wake
from replicator.errors import Unavailable
from replicator.storage import ProtectedStorage
from replicator.targets.django_storage import StorageTarget
from tests.processes import need
from tests.s3 import KEYS, S3
from tests.targets.conftest import MakeS3, file, put

NAMES = ["a.txt", "é ü/日本.txt", "a b+c&d=e#f?.txt", "100%25.txt"]


def fetch(url: str) -> tuple[int, Message, bytes]:
    """As a browser does, which has no credentials."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.headers, answer.read()


def signature_of(url: str, secret: str) -> str:
    """What Amazon's specification (Signature Version 4, query string) makes of *url*, without boto."""
    parts = urlsplit(url)
    fields = [(name, value) for name, value in parse_qsl(parts.query) if name != "X-Amz-Signature"]
    query = "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in fields))
    given = dict(fields)
    _, day, region, service, end = given["X-Amz-Credential"].split("/")
    request = "\n".join(["GET", parts.path, query, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"])
    scope = "/".join([day, region, service, end])
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end):
        key = hmac.new(key, part.encode(), "sha256").digest()
    text = "\n".join(["AWS4-HMAC-SHA256", given["X-Amz-Date"], scope, digest])
    return hmac.new(key, text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_a_link_gives_the_file(make_s3: MakeS3, name: str) -> None:
    """Of any name; signed with the storage's key, for just these seconds."""
    target = make_s3(location="below")
    put(target, b"body", name)
    url = target.signed_url(file(name), 600)
    status, headers, body = fetch(url)
    assert (status, body, headers["Content-Type"]) == (200, b"body", "text/plain")
    fields = {key: value for key, (value,) in parse_qs(urlsplit(url).query).items()}
    assert fields["X-Amz-Expires"] == "600"
    assert abs(datetime.strptime(fields["X-Amz-Date"], "%Y%m%dT%H%M%S%z") - datetime.now(UTC)) < timedelta(minutes=1)
    assert fields["X-Amz-Credential"].startswith(f"{KEYS['access_key']}/")
    assert fields["X-Amz-Signature"] == signature_of(url, KEYS["secret_key"])
    assert fields["X-Amz-Signature"] != signature_of(url.replace("X-Amz-Expires=600", "X-Amz-Expires=601"), "x")
    assert KEYS["secret_key"] not in url


def test_no_request_is_made(make_s3: MakeS3) -> None:
    """A page may have hundreds of links, and the bucket may be away."""
    target = make_s3("http://127.0.0.1:1")
    assert target.signed_url(file(), 600).startswith("http://127.0.0.1:1/")


def test_what_is_to_be_said_is_signed_too(make_s3: MakeS3) -> None:
    """Nobody can take it off; and no cache between may keep the answer for others."""
    target = make_s3(object_parameters={"CacheControl": "public, max-age=86400"})
    put(target, b"<script>", "é.html")
    disposition = "attachment; filename*=utf-8''%C3%A9.html"
    url = target.signed_url(file("é.html"), 600, disposition=disposition)
    _, headers, _ = fetch(url)
    assert headers["Content-Disposition"] == disposition
    assert headers["Cache-Control"] == "private"
    assert signature_of(url, KEYS["secret_key"]) in url


def test_a_version_that_the_storage_names_is_taken(make_s3: MakeS3) -> None:
    """Boto's own choice would be 2; a store may know no other."""
    assert "X-Amz-Signature" in make_s3().signed_url(file(), 600)
    assert "AWSAccessKeyId" in make_s3(signature_version="s3").signed_url(file(), 600)


def test_a_file_with_a_key_of_ours_has_no_link(make_s3: MakeS3) -> None:
    """S3 wants that key with each request, and no browser has it."""
    target = make_s3(object_parameters={"SSECustomerKey": "k" * 32, "SSECustomerAlgorithm": "AES256"})
    assert target.signed_url(file(), 600) == ""


def test_without_credentials_there_is_no_link_now(
    make_s3: MakeS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And there is one as soon as they are found."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    target = make_s3(access_key=None, secret_key=None)
    with pytest.raises(Unavailable, match="sign: boto finds no credentials"):
        target.signed_url(file(), 600)
    credentials.write_text("[default]\naws_access_key_id = found\naws_secret_access_key = secret\n")
    assert "X-Amz-Credential=found" in target.signed_url(file(), 600)


def test_cloudfront_signs_for_its_own_domain(make_s3: MakeS3) -> None:
    """With a key of its own; a domain without one is not used: its links would be open to anybody."""
    assert "media.example.com" not in make_s3(custom_domain="media.example.com").signed_url(file(), 600)
    key = subprocess.run([need("openssl", "openssl"), "genrsa", "2048"], capture_output=True, check=True).stdout
    options = {"custom_domain": "media.example.com", "cloudfront_key_id": "K1", "cloudfront_key": key}
    url = make_s3(location="below", **options).signed_url(file("é.txt"), 600, disposition="attachment")
    parts = urlsplit(url)
    assert (parts.netloc, parts.path) == ("media.example.com", "/below/media/%C3%A9.txt")
    fields = parse_qs(parts.query)
    assert fields["response-content-disposition"] == ["attachment"]
    assert fields["Key-Pair-Id"] == ["K1"]
    assert {"Expires", "Signature"} <= set(fields)
    unsigned = make_s3(querystring_auth=False, **options).signed_url(file(), 600)
    assert "media.example.com" not in unsigned
    assert "X-Amz-Signature" in unsigned


def test_other_storages_sign_nothing(settings: Any, tmp_path: Path) -> None:
    """A folder has no URL; of what encrypts, a link would give what is encrypted."""
    settings.STORAGES = {
        **settings.STORAGES,
        "folder": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}},
        "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    for alias in ("folder", "memory"):
        assert StorageTarget("t", storage=alias).signed_url(file(), 600) == ""


@pytest.mark.django_db(transaction=True)
def test_a_private_file_is_read_from_the_bucket(
    s3: S3, bucket: str, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploaded, delivered, and read with the link that the page shows."""
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    settings.REPLICATOR = {
        "TARGETS": {
            "s3": {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "bucket"}}
        }
    }
    options = {"alias": "private", "location": str(tmp_path), "base_url": "/private/", "sign": "target"}
    settings.STORAGES = {
        **settings.STORAGES,
        "bucket": s3.entry(bucket),
        "private": {"BACKEND": "replicator.storage.ProtectedStorage", "OPTIONS": options},
    }
    storage = storages["private"]
    assert isinstance(storage, ProtectedStorage)
    storage.save("é.html", ContentFile(b"<p>"))
    assert storage.url("é.html").startswith("/private/")
    delivery.deliver("s3")
    url = storage.url("é.html")
    assert urlsplit(url).netloc == urlsplit(s3.url).netloc
    status, headers, body = fetch(url)
    assert (status, body) == (200, b"<p>")
    assert headers["Content-Disposition"] == "attachment; filename*=utf-8''%C3%A9.html"
