"""Facts about the check that what a copy writes to is apart from the live site's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, storages

from replicator.staging.base import NotCopied
from replicator.staging.destinations import destination_of
from replicator.staging.safety import check_apart
from replicator.staging.sources import source_of

FOLDER = "django.core.files.storage.FileSystemStorage"
REPLICATED = "replicator.storage.ReplicatedStorage"
WEBDAV = "replicator.targets.webdav.WebDAVTarget"
MOGILEFS = "replicator.targets.mogilefs.MogileFSTarget"
STORAGE = "replicator.targets.django_storage.StorageTarget"


def entry(backend: str, **options: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "OPTIONS": options}


def bucket(name: str = "live", **options: Any) -> dict[str, Any]:
    keys = {"access_key": "key", "secret_key": "the secret of tests"}
    return entry("storages.backends.s3.S3Storage", bucket_name=name, **keys, **options)


def http(url: str) -> dict[str, Any]:
    return entry("replicator.storage.HTTPStorage", base_url=url)


@pytest.fixture
def check(settings: Any, tmp_path: Path) -> Callable[..., None]:
    """Checks a copy from *live* to *mine*; others are more of STORAGES. *targets*: those of REPLICATOR."""

    def check(
        live: dict[str, Any], mine: dict[str, Any], *, targets: dict[str, Any] | None = None, **others: dict[str, Any]
    ) -> None:
        if any(each["BACKEND"].startswith("storages.") for each in (live, mine, *others.values())):
            pytest.importorskip("storages")
        settings.MEDIA_ROOT = str(tmp_path / "media")
        settings.REPLICATOR = {"TARGETS": targets or {}}
        settings.STORAGES = {**settings.STORAGES, "live": live, "mine": mine, **others}
        check_apart(source_of("live"), [destination_of(storages["mine"])])

    return check


def replicated(**options: Any) -> dict[str, Any]:
    return entry(REPLICATED, alias="mine", **options)


# Folders


def test_folders_apart_are_apart(check: Any, tmp_path: Path) -> None:
    live, mine = tmp_path / "media-live", tmp_path / "media"
    check(entry(FOLDER, location=str(live)), entry(FOLDER, location=str(mine)))
    check(entry(FOLDER, location=str(mine)), entry(FOLDER, location=str(live)))
    check(entry(FOLDER, location=str(live)), replicated(location=str(mine)))


@pytest.mark.parametrize("backend", [FOLDER, REPLICATED, "tests.staging.test_destinations.OtherKind"])
@pytest.mark.parametrize(
    ("live", "mine"),
    [("a", "a"), ("a", "a/b/c"), ("a/b", "a"), ("a", "link"), ("link/b", "a"), ("a/b", "link"), (".", "a")],
)
def test_one_folder_is_refused_whatever_way_leads_there(
    check: Any, tmp_path: Path, live: str, mine: str, backend: str
) -> None:
    """The same, one inside of the other, or through a link."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    options = {"alias": "mine"} if backend == REPLICATED else {}
    with pytest.raises(NotCopied, match=r"STORAGES\['live'\] and the destination STORAGES\['mine'\] are one place.*"):
        check(entry(FOLDER, location=str(tmp_path / live)), entry(backend, location=str(tmp_path / mine), **options))


def test_the_message_says_what_to_write(check: Any, tmp_path: Path) -> None:
    folder = entry(FOLDER, location=str(tmp_path))
    with pytest.raises(NotCopied) as raised:
        check(folder, folder)
    message = str(raised.value)
    assert 'REPLICATOR["STAGING"]["SOURCE"]' in message
    assert f"folder {tmp_path}/" in message
    assert "replicator-" not in message, "not the name that it was found out with"


def test_a_storage_of_a_field_s_own_is_named_by_its_class(settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = {**settings.STORAGES, "live": entry(FOLDER, location=str(tmp_path))}
    with pytest.raises(NotCopied, match="the field's FileSystemStorage"):
        check_apart(source_of("live"), [destination_of(FileSystemStorage(tmp_path / "inside"))])


# Buckets


@pytest.mark.parametrize(
    ("live", "mine"),
    [
        (bucket(), bucket("staging")),
        (bucket("live"), bucket("live2")),
        (bucket(location="live"), bucket(location="staging")),
        (bucket(location="media"), bucket(location="media-staging")),
        (bucket(endpoint_url="https://s3.example.com"), bucket(endpoint_url="https://s3.staging.example.com")),
        (bucket(endpoint_url="http://s3.example.com:9000"), bucket(endpoint_url="http://s3.example.com:9001")),
        (bucket(), bucket(endpoint_url="https://s3.example.com")),
    ],
)
def test_buckets_apart_are_apart(check: Any, live: Any, mine: Any) -> None:
    check(live, mine)
    check(mine, live)


SAME_BUCKET = [
    (bucket(), bucket()),
    (bucket(location="a/b"), bucket(location="a")),
    (bucket(location="a/"), bucket(location="a")),
    (bucket(), bucket(location="staging")),
    (bucket(endpoint_url="https://S3.example.com/"), bucket(endpoint_url="http://s3.example.com:80")),
    (bucket(endpoint_url="https://s3.example.com:443"), bucket(endpoint_url="https://s3.example.com.")),
    (bucket(), bucket(endpoint_url="https://s3.eu-central-1.amazonaws.com")),
]


@pytest.mark.parametrize(("live", "mine"), SAME_BUCKET)
def test_one_bucket_is_refused(check: Any, live: Any, mine: Any) -> None:
    """At one endpoint, however it is written; also with a folder in it that is inside of the other's."""
    for one, other in ((live, mine), (mine, live)):
        with pytest.raises(NotCopied, match="one place"):
            check(one, other)


@pytest.mark.parametrize(("live", "mine"), SAME_BUCKET)
def test_a_bucket_as_a_target_is_refused(check: Any, tmp_path: Path, live: Any, mine: Any) -> None:
    """A staging site whose media go to the live bucket would overwrite the live files there."""
    targets = {"backup": entry(STORAGE, storage="backup", base_url="/media/")}
    with pytest.raises(
        NotCopied, match=r"the target 'backup' of the destination STORAGES\['mine'\] are one.*TARGETS"
    ):
        check(live, replicated(base_url="/media/"), targets=targets, backup=mine)


def test_a_bucket_in_another_class_s_hands_is_that_bucket(check: Any) -> None:
    """One that encrypts, say, is used through the Storage API: it is written to all the same."""
    mine = {**bucket(), "BACKEND": "tests.staging.test_safety.Encrypting"}
    with pytest.raises(NotCopied, match="one place"):
        check(bucket(), mine)


try:
    from storages.backends.s3 import S3Storage
except ImportError:
    pass
else:

    class Encrypting(S3Storage):  # type: ignore[misc]
        def _save(self, name: str, content: Any) -> str:
            return str(super()._save(name, content))


# Over HTTP


@pytest.mark.parametrize(
    "url",
    [
        "https://www.example.com/media/",
        "http://WWW.example.com:80/media/",
        "https://www.example.com./media/inside/",
        "https://www.example.com/",
        "//www.example.com/media",
    ],
)
def test_one_host_and_path_are_refused(check: Any, tmp_path: Path, url: str) -> None:
    """http and https, capitals, the usual port: one place. As what this site shows, and as a target of it."""
    live = http("https://www.example.com/media/")
    for backend in (FOLDER, REPLICATED):
        with pytest.raises(NotCopied, match=r"what STORAGES\['mine'\] shows"):
            check(live, entry(backend, base_url=url, location=str(tmp_path), **_alias(backend)))
    options = {"base_url": "/", "location": str(tmp_path)}
    webdav = entry(WEBDAV, url=url if url.startswith("http") else f"https:{url}")
    shown = entry(WEBDAV, url="http://10.0.0.1", public_url=url)
    for target in (webdav, shown):
        with pytest.raises(NotCopied, match="the target 'media1'"):
            check(live, replicated(**options), targets={"media1": target})


def _alias(backend: str) -> dict[str, str]:
    return {"alias": "mine"} if backend == REPLICATED else {}


@pytest.mark.parametrize(
    "url",
    [
        "https://staging.example.com/media/",
        "https://www.example.com/media-staging/",
        "https://www.example.com:8443/media/",
        "/media/",
    ],
)
def test_another_host_or_path_is_apart(check: Any, tmp_path: Path, url: str) -> None:
    live = http("https://www.example.com/media/")
    check(live, entry(FOLDER, base_url=url, location=str(tmp_path)))
    targets = {"media1": entry(WEBDAV, url="http://10.0.0.1", public_url="https://cdn.staging.example.com")}
    check(live, replicated(base_url=url, location=str(tmp_path)), targets=targets)


def test_the_live_site_s_media_hosts_as_targets_are_refused(check: Any, tmp_path: Path) -> None:
    """Settings that were copied from the live site, but for the database: what they would do is the worst."""
    targets = {
        "media1": entry(WEBDAV, url="http://10.0.0.1"),
        "media2": entry(WEBDAV, url="http://10.0.0.2", username="u", password="hunter2"),
    }
    mine = replicated(base_url="/media/", location=str(tmp_path))
    check(http("http://10.0.0.3/media/"), mine, targets=targets)
    with pytest.raises(NotCopied, match="'media2'") as raised:
        check(http("http://10.0.0.2/media/"), mine, targets=targets)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "mine"),
    [
        ("https://live.s3.amazonaws.com/media/", {"location": "media"}),
        ("https://s3.amazonaws.com/live/", {"location": "media"}),
        ("https://s3.example.com:9000/live/media/", {"endpoint_url": "http://s3.example.com:9000"}),
        ("https://cdn.example.com/", {"custom_domain": "cdn.example.com", "location": "media"}),
    ],
)
def test_a_bucket_that_is_read_over_http_is_that_bucket(check: Any, url: str, mine: dict[str, str]) -> None:
    with pytest.raises(NotCopied, match="one place"):
        check(http(url), bucket(**mine))


# Targets


def test_a_folder_as_a_target_is_refused(check: Any, tmp_path: Path) -> None:
    live = entry(FOLDER, location=str(tmp_path / "live" / "media"))
    copies = entry(FOLDER, location=str(tmp_path / "live"))
    targets = {"copies": entry(STORAGE, storage="copies")}
    with pytest.raises(NotCopied, match="the target 'copies'"):
        check(live, replicated(base_url="/media/"), targets=targets, copies=copies)
    check(live, replicated(base_url="/other/"), targets=targets, copies=copies)


def test_mogilefs_is_one_place_with_one_of_the_trackers_and_the_domain(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kind of source reads MogileFS yet; one that did would say so as targets do."""
    targets = {"mogile": entry(MOGILEFS, domain="live", trackers=["10.0.0.5:7001", "10.0.0.6:7001"], base_url="/")}
    mine = replicated(base_url="/media/", location=str(tmp_path / "mine"))
    live = entry(FOLDER, location=str(tmp_path / "live"))
    for tracker, domain, apart in (
        ("10.0.0.6:7001", "live", False),
        ("10.0.0.7:7001", "live", True),
        ("10.0.0.6:7001", "other", True),
    ):
        check(live, mine, targets=targets)
        source = source_of("live")
        monkeypatch.setattr(source, "address", lambda name, t=tracker, d=domain: f"mogilefs {t} {d}: media/{name}")
        destinations = [destination_of(storages["mine"])]
        if apart:
            check_apart(source, destinations)
        else:
            with pytest.raises(NotCopied, match="the target 'mogile'"):
                check_apart(source, destinations)


def test_a_target_that_can_not_be_made_is_refused(check: Any, tmp_path: Path) -> None:
    """Where it would write can't be told."""
    live = entry(FOLDER, location=str(tmp_path / "live"))
    mine = replicated(base_url="/media/", location=str(tmp_path / "mine"))
    with pytest.raises(NotCopied, match=r"the target 'media1' .* can't be told: .*unknown key 'hots'"):
        check(live, mine, targets={"media1": entry(WEBDAV, url="http://10.0.0.1", hots=1)})


def test_a_target_of_a_kind_that_has_no_addresses_is_nobody_s_place(check: Any, tmp_path: Path) -> None:
    live = entry(FOLDER, location=str(tmp_path / "live"))
    mine = replicated(base_url="/media/", location=str(tmp_path / "mine"))
    check(live, mine, targets={"memory": entry("replicator.testing.MemoryTarget")})
