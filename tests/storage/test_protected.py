"""``ProtectedStorage``: where its links lead to, and what is in them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import models
from django.db.migrations.writer import MigrationWriter

from replicator import delivery, signing
from replicator.errors import Unavailable
from replicator.models import Replica, TargetState
from replicator.storage import ProtectedStorage, prefetch_urls
from replicator.storage.holders import holders
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from replicator.testing import MemoryTarget

pytestmark = pytest.mark.django_db(transaction=True)

Queries = Callable[[int], Any]
KEY, OTHER_KEY = "k" * 32, "o" * 32
NOW = 1_795_255_000


class SigningTarget(MemoryTarget):
    """Signs as S3 does, unless told not to."""

    signs = True

    def signed_url(self, file: TargetFile, seconds: int, *, disposition: str = "") -> str:
        if self.fail_with is not None:
            raise self.fail_with
        return f"https://{self.alias}{file.prefix}{file.name}?{seconds}&{disposition}" if self.signs else ""


TARGETS = {
    "plain": {"BACKEND": "replicator.testing.MemoryTarget"},
    "s3a": {"BACKEND": f"{__name__}.SigningTarget"},
    "s3b": {"BACKEND": f"{__name__}.SigningTarget"},
}


@pytest.fixture
def make(settings: Any, tmp_path: Path) -> Callable[..., ProtectedStorage]:
    """The storage "private" with these options."""

    def make(**options: Any) -> ProtectedStorage:
        settings.MEDIA_ROOT = str(tmp_path / "media")
        settings.REPLICATOR = {"TARGETS": TARGETS}
        own = {"alias": "private", "location": str(tmp_path / "private"), "base_url": "/private/", **options}
        entry = {"BACKEND": "replicator.storage.ProtectedStorage", "OPTIONS": own}
        settings.STORAGES = {**settings.STORAGES, "private": entry}
        storage = storages["private"]
        assert isinstance(storage, ProtectedStorage)
        return storage

    return make


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is: the first of the list."""
    now = [float(NOW)]
    monkeypatch.setattr("replicator.storage.protected.time", SimpleNamespace(time=lambda: now[0]))
    return now


def parameters(link: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(link).query).items()}


def store(storage: ProtectedStorage, name: str = "a.txt", data: bytes = b"bytes") -> str:
    """Saved and delivered."""
    saved = storage.save(name, ContentFile(data))
    for target in storage.targets:
        delivery.deliver(target)
    return saved


# What is signed.


def test_a_link_is_the_path_with_an_end_and_a_signature(make: Callable[..., ProtectedStorage]) -> None:
    """HMAC-SHA256 over storage, name and end: what the documentation says, computed without Django."""
    link = make(keys=[KEY], querystring_expire=600).url("a.txt")
    assert urlsplit(link).path == "/private/a.txt"
    fields = parameters(link)
    key = hashlib.sha256(b"replicator.private" + b"signer" + KEY.encode()).digest()
    text = f"private\0a.txt\0{fields['expires']}".encode()
    expected = base64.urlsafe_b64encode(hmac.new(key, text, "sha256").digest()).decode().rstrip("=")
    assert fields["signature"] == expected
    assert set(fields) == {"expires", "signature"}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"storage": "other"}, False),
        ({"name": "b.txt"}, False),
        ({"expires": NOW + 1}, False),
        ({"keys": [OTHER_KEY]}, False),
        ({"keys": [OTHER_KEY, KEY]}, True),
        ({"keys": []}, False),
    ],
)
def test_a_signature_is_good_for_one_file_one_end_and_its_keys(other: dict[str, Any], same: bool) -> None:
    """Not for another name, another storage, another time; for any of the keys, in whatever place."""
    signed = signing.signature("private", "a.txt", NOW, [KEY])
    asked: dict[str, Any] = {"storage": "private", "name": "a.txt", "expires": NOW, "keys": [KEY], **other}
    assert signing.is_signed(signed, **asked) is same


@pytest.mark.parametrize("signed", ["", ":", "=" * 43, "x" * 43, "é", "\0", "a:b", f"{KEY}:{KEY}"])
def test_what_is_no_signature_is_none(signed: str) -> None:
    """No error: somebody tries."""
    assert not signing.is_signed(signed, "private", "a.txt", NOW, [KEY])


def test_without_keys_it_is_djangos_secret_and_its_fallbacks(settings: Any) -> None:
    """With a salt: a signature that Django made elsewhere is no link."""
    settings.SECRET_KEY = "old"
    signed = signing.signature("private", "a.txt", NOW)
    settings.SECRET_KEY = "new"
    assert not signing.is_signed(signed, "private", "a.txt", NOW)
    settings.SECRET_KEY_FALLBACKS = ["older", "old"]
    assert signing.is_signed(signed, "private", "a.txt", NOW)
    assert signing.signature("private", "a.txt", NOW) != signed


@pytest.mark.parametrize("seconds", [1, 7, 10, 600, 3600, 7 * 24 * 3600])
def test_links_end_in_time_and_not_much_sooner(seconds: int) -> None:
    """Never later than asked for; a tenth sooner at most, or the second that has begun."""
    for now in (NOW, NOW + 0.9, NOW + seconds / 3, NOW + seconds - 0.01):
        left = signing.end_of(seconds, now) - now
        assert max(0, seconds - max(1, seconds // 10) - 1) < left + 0.001
        assert left <= seconds


def test_links_of_one_moment_are_equal(make: Callable[..., ProtectedStorage], clock: list[float]) -> None:
    """So a browser finds what it has; a tenth of the time later it is another one."""
    storage = make(querystring_expire=600)
    clock[0] = NOW // 60 * 60
    first = storage.url("a.txt")
    clock[0] += 59
    assert storage.url("a.txt") == first
    clock[0] += 1
    assert storage.url("a.txt") != first


@pytest.mark.parametrize("name", ["é 1.png", "a b/ü&=?#%25.txt", "日本.txt", "a+b;c.txt"])
def test_names_are_encoded_in_links_and_not_in_what_is_signed(
    make: Callable[..., ProtectedStorage], name: str
) -> None:
    """A server decodes the path before it compares."""
    link = make(keys=[KEY]).url(name)
    parts = urlsplit(link)
    assert parts.path.isascii()
    assert unquote(parts.path) == f"/private/{name}"
    fields = parameters(link)
    assert signing.is_signed(fields["signature"], "private", name, int(fields["expires"]), [KEY])


def test_one_file_has_one_name(make: Callable[..., ProtectedStorage]) -> None:
    """However it is written. What leaves the storage is refused."""
    storage = make()
    assert storage.url("x/../a.txt") == storage.url("./a.txt") == storage.url("a.txt")
    for name in ("../a.txt", "/etc/passwd", "x/../../a.txt", "", "."):
        with pytest.raises(SuspiciousFileOperation):
            storage.url(name)


def test_the_url_of_all_of_it_is_no_link(make: Callable[..., ProtectedStorage]) -> None:
    """As of any storage of Django."""
    assert make().url(None) == "/private/"


# For nginx.


def test_a_link_for_nginx_has_its_key_by_name(make: Callable[..., ProtectedStorage]) -> None:
    """And the MD5 of what secure_link_md5 puts together: the end, the decoded path, a space, the secret."""
    storage = make(
        sign="secure_link", base_url="https://media.example.com/pri%20vate/", keys=[f"new:{KEY}", f"old:{OTHER_KEY}"]
    )
    link = storage.url("é 1.png")
    assert link.startswith("https://media.example.com/pri%20vate/%C3%A9%201.png?")
    fields = parameters(link)
    digest = hashlib.md5(f"{fields['expires']}/pri vate/é 1.png {KEY}".encode()).digest()
    assert fields["md5"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert fields["key"] == "new"
    assert KEY not in link


def test_nginx_has_no_secret_of_djangos(make: Callable[..., ProtectedStorage]) -> None:
    """Without keys there is no link, and the message says what to write."""
    with pytest.raises(ImproperlyConfigured, match='"keys": \\["2026:'):
        make(sign="secure_link").url("a.txt")


@pytest.mark.parametrize("sign", ["view", "secure_link"])
def test_a_link_asks_no_database(
    make: Callable[..., ProtectedStorage], django_assert_num_queries: Queries, sign: str
) -> None:
    """A page may have hundreds."""
    storage = make(sign=sign, keys=[f"new:{KEY}"])
    with django_assert_num_queries(0):
        storage.url("a.txt")


# Signed by targets.


def test_a_target_signs_once_it_has_the_file(
    make: Callable[..., ProtectedStorage], django_assert_num_queries: Queries
) -> None:
    """The first of the storage's targets that can; until then the link leads to the view, which has the file."""
    storage = make(sign="target", targets=["plain", "s3b", "s3a"], querystring_expire=600)
    storage.save("é.txt", ContentFile(b"bytes"))
    assert storage.url("é.txt").startswith("/private/%C3%A9.txt?expires=")
    delivery.deliver("s3a")
    assert storage.url("é.txt").startswith("https://s3a/")
    for target in ("s3b", "plain"):
        delivery.deliver(target)
    with django_assert_num_queries(1):
        assert storage.url("é.txt") == "https://s3b/private/é.txt?600&"


def test_links_of_a_list_cost_one_query(
    make: Callable[..., ProtectedStorage], django_assert_num_queries: Queries
) -> None:
    """After prefetch_urls, as for public files that targets serve."""
    storage = make(sign="target", targets=["s3a"])

    class Invoice(models.Model):  # noqa: DJ008  # nobody prints it
        file = models.FileField(storage=storage)

        class Meta:
            app_label = "tests"
            managed = False

    invoices = [Invoice(file=store(storage, f"{n}.pdf")) for n in range(3)]
    invoices.append(Invoice(file=storage.save("3.pdf", ContentFile(b"not delivered"))))
    with django_assert_num_queries(1):
        prefetch_urls(invoices)
    with django_assert_num_queries(0):
        links = [invoice.file.url for invoice in invoices]
    assert [link.partition("?")[0] for link in links] == [
        *(f"https://s3a/private/{n}.pdf" for n in range(3)),
        "/private/3.pdf",
    ]


def test_a_target_without_this_version_does_not_sign(make: Callable[..., ProtectedStorage]) -> None:
    """It would show the older one."""
    storage = make(sign="target", targets=["s3a"])
    store(storage)
    storage.replace("a.txt", ContentFile(b"newer"))
    assert storage.url("a.txt").startswith("/private/")


def test_a_target_that_can_not_sign_is_passed_over(
    make: Callable[..., ProtectedStorage], caplog: pytest.LogCaptureFixture
) -> None:
    """No credentials at the moment: the page is shown all the same."""
    storage = make(sign="target", targets=["s3a", "s3b"])
    store(storage)
    first, second = get_target("s3a"), get_target("s3b")
    assert isinstance(first, SigningTarget)
    assert isinstance(second, SigningTarget)
    first.fail_with = Unavailable("sign: no credentials")
    assert storage.url("a.txt").startswith("https://s3b/")
    assert "target can't sign" in caplog.text
    second.signs = False
    assert storage.url("a.txt").startswith("/private/")


@pytest.mark.parametrize(
    ("as_attachment", "name", "saved"),
    [
        (None, "a.html", True),
        (None, "a.svg", True),
        (None, "a.xml", True),
        (None, "a.xhtml", True),
        (None, "a.png", False),
        (None, "a.pdf", False),
        (None, "a.txt", False),
        (True, "a.png", True),
        (False, "a.html", False),
    ],
)
def test_what_browsers_would_run_is_saved(
    make: Callable[..., ProtectedStorage], as_attachment: bool | None, name: str, saved: bool
) -> None:
    """Unless the option says otherwise; the target is told so, too."""
    storage = make(sign="target", targets=["s3a"], as_attachment=as_attachment)
    store(storage, name)
    assert storage.url(name).endswith(f'&attachment; filename="{name}"' if saved else "&")


# Which targets hold a file.


def test_holders_are_those_that_confirmed_this_version(
    make: Callable[..., ProtectedStorage], django_assert_num_queries: Queries
) -> None:
    """In the storage's order; one query."""
    storage = make(targets=["s3b", "plain", "s3a"])
    assert holders("private", "a.txt") == []
    storage.save("a.txt", ContentFile(b"1"))
    assert holders("private", "a.txt") == []
    delivery.deliver("s3a")
    delivery.deliver("s3b")
    with django_assert_num_queries(1):
        assert holders("private", "a.txt") == ["s3b", "s3a"]
    assert holders("default", "a.txt") == []
    assert holders("private", "b.txt") == []


def test_who_is_behind_in_doubt_or_down_holds_nothing(make: Callable[..., ProtectedStorage]) -> None:
    """Nor does anybody hold what was deleted, or a version that is not the file's."""
    storage = make()
    store(storage)
    assert holders("private", "a.txt") == ["plain", "s3a", "s3b"]
    TargetState.objects.update_or_create(target="plain", defaults={"state": "down"})
    assert holders("private", "a.txt") == ["s3a", "s3b"]
    Replica.objects.filter(target="s3a").update(status="pending", doubt=True)
    assert holders("private", "a.txt") == ["s3b"]
    TargetState.objects.update(state="up")
    storage.replace("a.txt", ContentFile(b"newer"))
    assert holders("private", "a.txt") == []
    delivery.deliver("plain")
    assert holders("private", "a.txt") == ["plain"]
    storage.delete("a.txt")
    delivery.deliver("plain")
    assert holders("private", "a.txt") == []


# Options, and instances made by hand.


def test_it_replicates_like_any_other(make: Callable[..., ProtectedStorage]) -> None:
    """Saved, delivered, deleted."""
    storage = make()
    assert store(storage) == "a.txt"
    target = get_target("plain")
    assert isinstance(target, MemoryTarget)
    assert target.files == {"private/a.txt": b"bytes"}
    storage.delete("a.txt")
    delivery.deliver("plain")
    assert target.files == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": "views"}, "Did you mean 'view'"),
        ({"querystring_expire": 0}, "a whole number of seconds"),
        ({"querystring_expire": True}, "a whole number of seconds"),
        ({"querystring_expire": 60.5}, "a whole number of seconds"),
        ({"sign": "target", "querystring_expire": 700_000}, "604800 at most"),
        ({"as_attachment": "yes"}, "write True or False"),
        ({"x_accel_redirect": "private"}, '"/replicator-private/"'),
        ({"x_accel_redirect": "/a b/"}, '"/replicator-private/"'),
        ({"x_sendfile": 1}, "write True or False"),
        ({"x_sendfile": True, "x_accel_redirect": "/p/"}, "remove one"),
        ({"serve_from": "replicas"}, '"sign": "target"'),
        ({"keys": KEY}, "no list of texts"),
        ({"keys": []}, "no list of texts"),
        ({"keys": [7]}, "no list of texts"),
        ({"keys": ["sesame"]}, "less than 32 characters"),
        ({"sign": "secure_link", "keys": [KEY]}, '"name:secret"'),
        ({"sign": "secure_link", "keys": [f"a:{KEY}$"]}, '"name:secret"'),
        ({"sign": "secure_link", "keys": ["a:sesame"]}, "at least 32"),
        ({"sign": "secure_link", "keys": [f"a:{KEY}", f"a:{OTHER_KEY}"]}, "the same name"),
    ],
)
def test_a_wrong_option_says_what_to_write(
    make: Callable[..., ProtectedStorage], options: dict[str, Any], message: str
) -> None:
    """And never shows a key."""
    with pytest.raises((TypeError, ValueError), match=message) as raised:
        make(**options)
    assert KEY not in str(raised.value)
    assert "sesame" not in str(raised.value)


def test_a_migration_holds_no_key(make: Callable[..., ProtectedStorage]) -> None:
    """Promise 9: it is a file in the repository. What it makes uses the keys of its alias."""
    known = make(keys=[KEY])
    by_hand = ProtectedStorage(known.location, base_url="/private/", alias="private", keys=[KEY], sign="view")
    text, imports = MigrationWriter.serialize(by_hand)
    assert KEY not in text
    assert text.startswith("replicator.storage.ProtectedStorage(")
    scope: dict[str, Any] = {}
    exec("\n".join(imports) + f"\nmade = {text}", scope)
    assert scope["made"].url("a.txt") == by_hand.url("a.txt") == known.url("a.txt")
    assert KEY not in repr(by_hand)


def test_an_instance_whose_alias_is_not_protected_is_refused(
    make: Callable[..., ProtectedStorage], settings: Any
) -> None:
    """Its links would lead to files that nobody verifies."""
    known = make()
    entry = settings.STORAGES["private"]
    settings.STORAGES = {
        **settings.STORAGES,
        "private": {**entry, "BACKEND": "replicator.storage.ReplicatedStorage"},
    }
    by_hand = ProtectedStorage(known.location, base_url="/private/", alias="private")
    with pytest.raises(ImproperlyConfigured, match="is no ProtectedStorage"):
        by_hand.save("a.txt", ContentFile(b"1"))
