"""Facts about URLs: which host browsers are sent to, and what it costs to know."""

from __future__ import annotations

import copy
import json
import pickle
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, SynchronousOnlyOperation
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, storages
from django.core.paginator import Paginator
from django.db import connection, models, transaction
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext

from replicator import delivery, ledger, tasks
from replicator.errors import Refused
from replicator.ledger import health
from replicator.models import MediaFile, Replica
from replicator.storage import (
    PrefixedStorage,
    ReplicatedManifestStaticFilesStorage,
    ReplicatedStaticFilesStorage,
    ReplicatedStorage,
    prefetch_urls,
    prefetching,
)
from replicator.storage.urls import HeldName
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from replicator.targets.django_storage import StorageTarget
from replicator.testing import MemoryTarget
from tests.servers import Embedded, MediaHost, Nginx

pytestmark = pytest.mark.django_db(transaction=True)

BACKEND = "replicator.storage.ReplicatedStorage"
WEBDAV = "replicator.targets.webdav.WebDAVTarget"
MEMORY = "replicator.testing.MemoryTarget"
STORAGE = "replicator.targets.django_storage.StorageTarget"
ALIASES = [f"media{n}" for n in (1, 2, 3, 4)]
#: The hosts of 0.txt to 7.txt.
EXPECTED = [4, 3, 1, 4, 3, 4, 4, 4]


def at_hand(alias: str, **options: Any) -> dict[str, Any]:
    return {"BACKEND": MEMORY, "OPTIONS": {"public_url": f"https://{alias}.example.com", **options}}


@pytest.fixture
def storage(make_storage: Callable[..., ReplicatedStorage]) -> ReplicatedStorage:
    """One that serves from four hosts."""
    return make_storage({"TARGETS": {alias: at_hand(alias) for alias in ALIASES}}, serve_from="replicas")


def save(storage: ReplicatedStorage, *names: str, at: list[str] | None = None) -> None:
    """Save each of *names*, and have it delivered to the targets *at*; to all unless given."""
    for name in names:
        storage.save(name, ContentFile(name.encode()))
    for alias in storage.targets if at is None else at:
        delivery.deliver(alias)


def hosts(storage: ReplicatedStorage, names: list[str]) -> dict[str, str]:
    """Where each of them is found: an alias, or "" for the origin."""
    urls = {name: storage.url(name) for name in names}
    assert all(url.endswith(f"/media/{name}") for name, url in urls.items())
    return {name: url.partition("//")[2].partition(".example.com")[0] for name, url in urls.items()}


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        data = answer.read()
    assert isinstance(data, bytes)
    return data


class queries(CaptureQueriesContext):  # noqa: N801  # reads as what is counted
    """``with queries(1): …``: so many statements, no more and no fewer."""

    def __init__(self, count: int) -> None:
        super().__init__(connection)
        self.count = count

    def __exit__(self, kind: Any, *rest: Any) -> None:
        super().__exit__(kind, *rest)
        if kind is None:
            assert len(self) == self.count, [each["sql"] for each in self.captured_queries]


# One file


def test_the_origin_serves_unless_told_otherwise(make_storage: Callable[..., ReplicatedStorage]) -> None:
    """Whatever targets hold; and without asking anybody."""
    storage = make_storage({"TARGETS": {alias: at_hand(alias) for alias in ALIASES}})
    save(storage, "a.txt")
    with queries(0):
        assert storage.url("a.txt") == "/media/a.txt"


def test_a_host_that_holds_the_file_serves_it(storage: ReplicatedStorage) -> None:
    save(storage, "a.txt", at=[])
    assert storage.url("a.txt") == "/media/a.txt", "the origin until one is synced"
    delivery.deliver("media3")
    with queries(1):
        assert storage.url("a.txt") == "https://media3.example.com/media/a.txt"


def test_a_link_works_at_real_hosts(settings: Any, make_storage: Callable[..., ReplicatedStorage]) -> None:
    """nginx and the embedded host: what browsers get under the URL are the file's bytes, whatever its name has."""
    names = ["a.txt", "Fotos/ä b.txt", "100% #1?.txt", "q&a=(1)+~'!.txt", "%41.txt"] + [f"{n}.txt" for n in range(9)]
    with Nginx() as nginx, Embedded() as embedded:
        found = {"nginx": nginx, "embedded": embedded}
        targets = {
            alias: {"BACKEND": WEBDAV, "OPTIONS": {"url": host.url, "public_url": host.url + "/"}}
            for alias, host in found.items()
        }
        storage = make_storage({"TARGETS": targets}, serve_from="replicas")
        save(storage, *names)
        urls = {name: storage.url(name) for name in names}
        used = {next(alias for alias, host in found.items() if url.startswith(host.url)) for url in urls.values()}
        assert used == set(found)
        assert {name: read(url) for name, url in urls.items()} == {name: name.encode() for name in names}
        # The same path as at the origin: what is in front of both may take one for the other.
        assert {url.partition("/media/")[2] for url in urls.values()} == {
            FileSystemStorage.url(storage, name).removeprefix("/media/") for name in names
        }


def test_how_workers_reach_a_host_is_nobodys_business(
    make_storage: Callable[..., ReplicatedStorage], nginx: MediaHost
) -> None:
    """Promise 9: a path for uploads, a password: neither is in the URL. Where browsers read may have a path, too."""
    options = {"url": f"{nginx.url}/inside", "username": "replicator", "password": "secret"}
    for public, expected in (
        (f"{nginx.url}/inside/", f"{nginx.url}/inside/media/a.txt"),
        ("//cdn.example.com", "//cdn.example.com/media/a.txt"),
        ("https://cdn.example.com/x", "https://cdn.example.com/x/media/a.txt"),
    ):
        targets = {"nginx": {"BACKEND": WEBDAV, "OPTIONS": {**options, "public_url": public}}}
        storage = make_storage({"TARGETS": targets}, serve_from="replicas", allow_overwrite=True)
        save(storage, "a.txt")
        assert storage.url("a.txt") == expected
    assert read(f"{nginx.url}/inside/media/a.txt") == b"a.txt"


def test_files_spread_and_stay(storage: ReplicatedStorage) -> None:
    """Each host gets its share; a file keeps its URL, in every process, for caches."""
    names = [f"{n}.txt" for n in range(200)]
    save(storage, *names)
    found = hosts(storage, names)
    shares = Counter(found.values())
    assert set(shares) == set(ALIASES)
    assert min(shares.values()) > 25
    assert hosts(storage, names) == found
    # These were computed once, elsewhere: no hash of this process's own.
    assert [found[name] for name in names[:8]] == [f"media{n}" for n in EXPECTED]


def test_a_host_that_goes_moves_only_its_own_files(storage: ReplicatedStorage) -> None:
    names = [f"{n}.txt" for n in range(60)]
    save(storage, *names)
    before = hosts(storage, names)
    health.mark_down("media2", "no answer")
    after = hosts(storage, names)
    assert "media2" not in after.values()
    assert {name for name in names if before[name] != after[name]} == {n for n in names if before[n] == "media2"}
    assert len({after[name] for name in names if before[name] == "media2"}) == 3, "to all that are left"
    health.mark_up("media2")
    assert hosts(storage, names) == before


def test_a_new_host_takes_files_and_moves_none_between_the_others(storage: ReplicatedStorage) -> None:
    names = [f"{n}.txt" for n in range(60)]
    save(storage, *names, at=ALIASES[:3])
    before = hosts(storage, names)
    assert set(before.values()) == set(ALIASES[:3])
    delivery.deliver("media4")
    moved = {name: host for name, host in hosts(storage, names).items() if before[name] != host}
    assert moved
    assert set(moved.values()) == {"media4"}


def test_a_host_that_is_down_serves_nothing(storage: ReplicatedStorage) -> None:
    save(storage, "a.txt")
    for alias in ALIASES:
        health.mark_down(alias, "no answer")
    assert storage.url("a.txt") == "/media/a.txt"


def test_a_host_that_dies_while_nothing_is_sent_is_found_out(
    settings: Any, make_storage: Callable[..., ReplicatedStorage]
) -> None:
    """Nobody delivers there, so that nothing fails: links must not go on leading to it. One without links is left
    alone."""
    with Embedded() as alive, Embedded() as dies, Embedded() as quiet:
        hosts = {"alive": alive, "dies": dies, "quiet": quiet}
        targets = {alias: {"BACKEND": WEBDAV, "OPTIONS": {"url": host.url}} for alias, host in hosts.items()}
        for alias in ("alive", "dies"):
            targets[alias]["OPTIONS"]["public_url"] = hosts[alias].url
        storage = make_storage({"TARGETS": targets, "DOWN_AFTER": 3}, serve_from="replicas")
        names = [f"{n}.txt" for n in range(9)]
        save(storage, *names)
        there = [name for name in names if storage.url(name).startswith(dies.url)]
        assert there
        dies.kill()
        assert tasks.probe() == tasks.probe() == {"alive": True, "dies": False}
        assert all(storage.url(name).startswith(dies.url) for name in there), "three in a row are not one"
        tasks.probe()
        assert all(storage.url(name).startswith(alive.url) for name in names)
        dies.start()
        tasks.probe()
        assert [name for name in names if storage.url(name).startswith(dies.url)] == there


def test_a_host_that_is_behind_does_not_serve(make_storage: Callable[..., ReplicatedStorage]) -> None:
    """Promise 2, for readers: nobody is sent to what was overwritten."""
    targets = {alias: at_hand(alias) for alias in ALIASES}
    storage = make_storage({"TARGETS": targets}, serve_from="replicas", allow_overwrite=True)
    save(storage, "a.txt")
    with transaction.atomic():
        storage.save("a.txt", ContentFile(b"new"))
        assert storage.url("a.txt") == "/media/a.txt"
    assert storage.url("a.txt") == "/media/a.txt"
    for alias in ALIASES:
        delivery.deliver(alias)
        serving = storage.url("a.txt").removeprefix("https://").partition(".")[0]
        target = get_target(serving)
        assert isinstance(target, MemoryTarget)
        assert target.files["media/a.txt"] == b"new"


def test_a_row_that_another_database_session_changed_is_seen(storage: ReplicatedStorage) -> None:
    """Both halves of "holds this version": a synced replica of an older version is behind, too."""
    save(storage, "a.txt", at=["media1"])
    MediaFile.objects.update(version="00000000-0000-0000-0000-000000000001")
    assert Replica.objects.get(target="media1").status == Replica.Status.SYNCED
    assert storage.url("a.txt") == "/media/a.txt"


def test_a_file_that_is_to_be_looked_at_again_is_not_served(storage: ReplicatedStorage) -> None:
    """Pending, though nothing was written since: somebody has a reason to send it again."""
    save(storage, "a.txt", at=["media1"])
    Replica.objects.update(status=Replica.Status.PENDING)
    assert storage.url("a.txt") == "/media/a.txt"
    assert prefetch_urls([Photo(image="a.txt")])[0].image.url == "/media/a.txt"


def test_a_file_in_doubt_is_not_served(storage: ReplicatedStorage, settings: Any) -> None:
    """An answer that was lost may still change what is there."""
    settings.REPLICATOR = {**settings.REPLICATOR, "RETRY_BASE": 600, "DOUBT_WINDOW": 600}
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    target.lose_answer = 1
    save(storage, "a.txt", at=["media1"])
    Replica.objects.update(due_at=models.F("since"))
    delivery.deliver("media1")
    assert Replica.objects.get(target="media1").provisional, "sent again, and to be confirmed"
    assert storage.url("a.txt") == "/media/a.txt"


def test_a_host_that_refused_the_file_does_not_serve_it(storage: ReplicatedStorage) -> None:
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    target.fail_with = Refused("403", status=403)
    save(storage, "a.txt", at=["media1"])
    assert Replica.objects.get(target="media1").status == Replica.Status.FAILED
    assert storage.url("a.txt") == "/media/a.txt"


def test_of_files_that_are_deleted_or_unknown_the_origin_speaks(storage: ReplicatedStorage) -> None:
    save(storage, "a.txt")
    storage.delete("a.txt")
    for name in ("a.txt", "never.txt", "pictures/", "../up.txt", "a//b.txt"):
        assert storage.url(name) == FileSystemStorage.url(storage, name)
    for alias in ALIASES:
        delivery.deliver(alias)
    assert storage.url("a.txt") == "/media/a.txt", "a tombstone that every target confirmed"


def test_a_host_that_browsers_can_not_read_is_passed_over(make_storage: Callable[..., ReplicatedStorage]) -> None:
    targets = {"media1": {"BACKEND": MEMORY}, "media2": at_hand("media2"), "media3": {"BACKEND": MEMORY}}
    storage = make_storage({"TARGETS": targets}, serve_from="replicas")
    names = [f"{n}.txt" for n in range(12)]
    save(storage, *names)
    assert set(hosts(storage, names).values()) == {"media2"}
    health.mark_down("media2", "no answer")
    assert set(hosts(storage, names).values()) == {""}


def test_a_target_that_the_storage_no_longer_has_does_not_serve(
    storage: ReplicatedStorage, make_storage: Callable[..., ReplicatedStorage]
) -> None:
    """Nothing is sent there any more: its copies are as old as the settings."""
    names = [f"{n}.txt" for n in range(12)]
    save(storage, *names)
    targets = {alias: at_hand(alias) for alias in ALIASES[:3]}
    storage = make_storage({"TARGETS": targets}, serve_from="replicas", targets=["media1", "media2"])
    found = hosts(storage, names)
    assert set(found.values()) == {"media1", "media2"}
    prefetched = prefetch_urls([Photo(image=name) for name in names])
    assert [photo.image.url for photo in prefetched] == [f"https://{found[n]}.example.com/media/{n}" for n in names]


def test_a_storage_with_a_prefix(storage: ReplicatedStorage, settings: Any) -> None:
    entry = {
        "BACKEND": "replicator.storage.PrefixedStorage",
        "OPTIONS": {"prefix": "große assets", "alias": "assets", "serve_from": "replicas", "targets": ["media1"]},
    }
    settings.STORAGES = {**settings.STORAGES, "assets": entry}
    assets = storages["assets"]
    assert isinstance(assets, PrefixedStorage)
    save(assets, "a.txt")
    assert assets.url("a.txt") == "https://media1.example.com/media/gro%C3%9Fe%20assets/a.txt"


def test_mogilefs_has_no_urls(make_storage: Callable[..., ReplicatedStorage]) -> None:
    """Browsers reach it through a view, which is the origin's."""
    options = {"domain": "production", "trackers": ["127.0.0.1:9"]}
    targets = {"mogile": {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options}}
    storage = make_storage({"TARGETS": targets}, serve_from="replicas")
    ledger.record_new([ledger.Write("default", "a.txt", 1, "0" * 64)], ["mogile"])
    Replica.objects.update(status=Replica.Status.SYNCED, version=MediaFile.objects.get().version)
    assert storage.url("a.txt") == "/media/a.txt"
    options["public_url"] = "https://mogile.example.com"
    make_storage({"TARGETS": targets})
    with pytest.raises(ImproperlyConfigured, match="unknown key 'public_url'"):
        get_target("mogile")


def test_a_folder_that_a_web_server_shows(
    make_storage: Callable[..., ReplicatedStorage], settings: Any, nginx: MediaHost
) -> None:
    """A Django storage as a target: what browsers put before the file's name in it."""
    options = {"storage": "copies", "prefix": "of the site", "base_url": "/media/"}
    targets = {"copies": {"BACKEND": STORAGE, "OPTIONS": {**options, "public_url": f"{nginx.url}/shown"}}}
    storage = make_storage({"TARGETS": targets}, serve_from="replicas", file_permissions_mode=0o644)
    folder = {"location": str(nginx.root / "shown"), "file_permissions_mode": 0o644}
    copies = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": folder}
    settings.STORAGES = {**settings.STORAGES, "copies": copies}
    storage = storages["default"]  # type: ignore[assignment]
    save(storage, "Fotos/ä 100%.txt")
    url = storage.url("Fotos/ä 100%.txt")
    assert url == f"{nginx.url}/shown/of%20the%20site/Fotos/%C3%A4%20100%25.txt"
    assert read(url) == "Fotos/ä 100%.txt".encode()


def test_a_django_storage_as_a_target_has_urls_only_where_it_is_said() -> None:
    file = TargetFile("default", "a.txt", prefix="/media/")
    assert StorageTarget("s", storage="x").public_url_of(file) == ""
    assert StorageTarget("s", storage="x", public_url="//b").public_url_of(file) == "//b/media/a.txt"
    with pytest.raises(Refused):
        StorageTarget("s", storage="x", public_url="//b", base_url="/other/").public_url_of(file)


def test_a_file_outside_of_a_targets_base_url_is_not_served_there(
    make_storage: Callable[..., ReplicatedStorage],
) -> None:
    options = {"storage": "x", "base_url": "/other/", "public_url": "//b"}
    targets = {"copies": {"BACKEND": STORAGE, "OPTIONS": options}}
    storage = make_storage({"TARGETS": targets}, serve_from="replicas")
    ledger.record_new([ledger.Write("default", "a.txt", 1, "0" * 64)], ["copies"])
    Replica.objects.update(status=Replica.Status.SYNCED, version=MediaFile.objects.get().version)
    assert storage.url("a.txt") == "/media/a.txt"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("cdn.example.com", "is no URL that starts with"),
        ("ftp://cdn.example.com", "is no URL that starts with"),
        ("https://", "is no URL that starts with"),
        ("/media", "is no URL that starts with"),
        ("javascript://cdn.example.com", "is no URL that starts with"),
        ("https://cdn.example.com:http", "is no URL that starts with"),
        ("https://cdn.example.com/a b", "is no URL that starts with"),
        ('https://cdn.example.com/"onerror=', "is no URL that starts with"),
        ("https://cdn.example.com\n", "is no URL that starts with"),
        ("https://bücher.example.com", "is no URL that starts with"),
        ("https://me:hunter2@cdn.example.com", "holds credentials"),
        ("https://cdn.example.com?key=hunter2", "has a query or a fragment"),
        ("https://cdn.example.com/#hunter2", "has a query or a fragment"),
        (5, "is a int"),
        (None, "is a NoneType"),
    ],
)
def test_a_wrong_public_url_says_what_to_write(settings: Any, url: Any, message: str) -> None:
    """Promise 9: and does not repeat what may be a password."""
    for backend, options in ((MEMORY, {}), (WEBDAV, {"url": "http://h"}), (STORAGE, {"storage": "x"})):
        settings.REPLICATOR = {"TARGETS": {"m": {"BACKEND": backend, "OPTIONS": {**options, "public_url": url}}}}
        with pytest.raises(ImproperlyConfigured) as failed:
            get_target("m")
        assert f"public_url {message}" in str(failed.value)
        assert 'write what browsers put before a path, as in "https://cdn1.example.com"' in str(failed.value)
        assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize("kind", [ReplicatedStaticFilesStorage, ReplicatedManifestStaticFilesStorage])
def test_static_files_are_not_served_from_replicas(kind: type[ReplicatedStorage]) -> None:
    """Each {% static %} would be a query; what to write instead is said."""
    with pytest.raises(ImproperlyConfigured, match=r'STATIC_URL = "https://static\.example\.com/static/"'):
        kind(serve_from="replicas")


# Lists of files


def assets() -> ReplicatedStorage:
    return PrefixedStorage(prefix="assets", serve_from="replicas", targets=["media1", "media2"])


class Photo(models.Model):
    """A model with files in three storages; its table is made by the test."""

    title = models.CharField(max_length=20)
    image = models.FileField(max_length=200)
    asset = models.FileField(storage=assets, max_length=200, blank=True)
    plain = models.FileField(storage=FileSystemStorage("/nonexistent", "/plain/"), blank=True)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.title


@pytest.fixture
def table(storage: ReplicatedStorage, settings: Any) -> Iterator[None]:
    options = {"prefix": "assets", "serve_from": "replicas", "targets": ["media1", "media2"]}
    entry = {"BACKEND": "replicator.storage.PrefixedStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "assets": entry}
    with connection.schema_editor() as editor:
        editor.create_model(Photo)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Photo)


@pytest.fixture
def photos(table: None) -> list[Photo]:
    """A dozen, each with a file in each storage."""
    names = [f"{n}.jpg" for n in range(12)]
    for alias in ("default", "assets"):
        chosen = storages[alias]
        assert isinstance(chosen, ReplicatedStorage)
        save(chosen, *names)
    return Photo.objects.bulk_create(
        [Photo(title=name, image=name, asset=name if n % 2 else "", plain="p.jpg") for n, name in enumerate(names)]
    )


def urls(objects: Any) -> list[tuple[str, str, str]]:
    return [(each.image.url, each.asset.url if each.asset else "", each.plain.url) for each in objects]


def test_a_list_costs_one_query_for_each_storage(photos: list[Photo]) -> None:
    """And gives the URLs that asking one by one gives."""
    with queries(1 + 12 + 6):
        one_by_one = urls(Photo.objects.order_by("pk"))
    with queries(1 + 2):
        found = prefetch_urls(Photo.objects.order_by("pk"))
    with queries(0):
        assert urls(found) == one_by_one
        assert urls(found) == one_by_one, "as often as a page likes"
    assert {url.partition("/media/")[0] for url, _, _ in one_by_one} == {f"https://{a}.example.com" for a in ALIASES}
    assert one_by_one[1][1].endswith(".example.com/media/assets/1.jpg")


@pytest.mark.parametrize("kind", ["queryset", "list", "iterator", "page", "tuple"])
def test_any_iterable_will_do(photos: list[Photo], kind: str) -> None:
    """What it was given has the answers too, where it keeps its objects."""
    queryset = Photo.objects.order_by("pk")
    given: Any = {
        "queryset": queryset,
        "list": list(queryset),
        "iterator": queryset.iterator(),
        "page": Paginator(queryset, 20).page(1),
        "tuple": tuple(queryset),
    }[kind]
    found = prefetch_urls(given)
    with queries(0):
        assert len(urls(found)) == 12
        if kind != "iterator":
            assert urls(given) == urls(found)


def test_a_template_that_is_rendered_later_asks_nothing(photos: list[Photo]) -> None:
    page = Paginator(Photo.objects.order_by("pk"), 5).page(2)
    prefetch_urls(page)
    template = Template("{% for photo in page %}{{ photo.image.url }} {% endfor %}")
    with queries(0):
        html = template.render(Context({"page": page}))
    assert html.split() == [photo.image.url for photo in Photo.objects.order_by("pk")[5:10]]


def test_only_the_named_fields_are_asked_for(photos: list[Photo]) -> None:
    found = list(Photo.objects.order_by("pk"))
    with queries(1):
        prefetch_urls(found, "asset")
    with queries(12):
        urls(found)


def test_what_is_not_there_costs_nothing(photos: list[Photo]) -> None:
    """Deferred fields, empty ones, storages that serve from the origin, no objects at all."""
    deferred = list(Photo.objects.only("title"))
    empty = [Photo(title="new"), Photo(plain="a.jpg")]
    with queries(0):
        prefetch_urls(deferred)
        prefetch_urls(empty)
        prefetch_urls([])
        prefetch_urls(photos, "plain")
    assert "image" not in deferred[0].__dict__


def test_a_file_that_no_host_has_is_asked_for_once_too(photos: list[Photo]) -> None:
    """ "Nobody" is an answer."""
    [photo] = prefetch_urls([Photo(image="unknown.jpg")])
    with queries(0):
        assert photo.image.url == "/media/unknown.jpg"


def test_long_lists_are_asked_for_in_batches(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching, "_BATCH", 5)
    twice = [*Photo.objects.all(), *Photo.objects.all()]
    with queries(3 + 2):
        prefetch_urls(twice)
    with queries(0):
        urls(twice)


def test_a_thousand_files_are_one_query(table: None, storage: ReplicatedStorage) -> None:
    names = [f"{n}.jpg" for n in range(1000)]
    ledger.record_new([ledger.Write("default", name, 1, "0" * 64) for name in names], ALIASES)
    version = MediaFile.objects.filter(pk=models.OuterRef("file")).values("version")
    Replica.objects.update(status=Replica.Status.SYNCED, version=models.Subquery(version))
    with queries(1):
        found = prefetch_urls([Photo(image=name) for name in names])
    with queries(0):
        shares = Counter(photo.image.url.partition("/media/")[0] for photo in found)
    assert sorted(shares) == [f"https://{alias}.example.com" for alias in ALIASES]
    assert min(shares.values()) > 150


def test_the_answer_is_a_snapshot(photos: list[Photo]) -> None:
    """As documented: a page names what was up when it was prefetched."""
    found = prefetch_urls(Photo.objects.all())
    before = urls(found)
    for alias in ALIASES:
        health.mark_down(alias, "no answer")
    assert urls(found) == before
    assert {url for url, _, _ in urls(prefetch_urls(found))} == {f"/media/{n}.jpg" for n in range(12)}, "asked again"


def test_a_new_file_is_not_where_the_old_one_was(photos: list[Photo]) -> None:
    [photo] = prefetch_urls([Photo.objects.all()[0]])
    photo.image.save("new.jpg", ContentFile(b"new"))
    assert photo.image.url == f"/media/{photo.image.name}"
    assert type(photo.image.name) is str
    photo.image = "1.jpg"
    assert "example.com" in photo.image.url


def test_a_prefetched_object_is_saved_as_any_other(photos: list[Photo]) -> None:
    """PostgreSQL's and SQLite's drivers, and a lookup by the name."""
    [photo] = prefetch_urls([Photo.objects.order_by("pk")[0]])
    assert type(photo.image.name) is HeldName
    photo.title = "renamed"
    photo.save()
    again = Photo.objects.get(image=photo.image)
    assert (again.title, again.image.name, type(again.image.name)) == ("renamed", "0.jpg", str)
    assert Photo.objects.filter(image=photo.image.name).update(asset=photo.image.name) == 1
    assert Photo.objects.get(pk=photo.pk).asset.name == "0.jpg"
    assert MediaFile.objects.filter(name=photo.image.name).exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM tests_photo WHERE image = %s", [photo.image.name])
        assert cursor.fetchall() == [("renamed",)]


def test_a_prefetched_name_is_a_text_like_any_other(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    """Equality, hash, copies, JSON; what a cache keeps knows no hosts, which would be gone when it is read."""
    [photo] = prefetch_urls([Photo.objects.order_by("pk")[0]])
    name = photo.image.name
    assert isinstance(name, HeldName)
    assert name == "0.jpg"
    assert {name} == {"0.jpg"}
    assert photo.image == "0.jpg"
    assert json.dumps(name) == '"0.jpg"'
    for again in (pickle.loads(pickle.dumps(name)), copy.copy(name), copy.deepcopy(name), str(name), name[:]):
        assert (again, type(again)) == ("0.jpg", str)
    # The tests are no app, where Django would look for the model.
    monkeypatch.setattr(apps, "get_model", lambda *_: Photo)
    kept = pickle.loads(pickle.dumps(photo))
    assert type(kept.image.name) is str
    with queries(1):
        assert kept.image.url == photo.image.url


def test_a_name_that_is_given_to_another_storage_is_asked_for_there(photos: list[Photo]) -> None:
    """A prefetched name knows whose it is."""
    [photo] = prefetch_urls([Photo.objects.order_by("pk")[0]])
    photo.asset = photo.image.name
    with queries(1):
        assert photo.asset.url.endswith("/media/assets/0.jpg")


def test_what_is_no_list_of_objects_is_refused(photos: list[Photo]) -> None:
    with pytest.raises(TypeError, match=r"'0\.jpg' is no model instance: give objects, as in Photo\.objects"):
        prefetch_urls(["0.jpg"])  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"Photo\.title is no FileField: name one of those \(image, asset, plain\)"):
        prefetch_urls(photos, "title")
    with pytest.raises(FieldDoesNotExist, match="no field named 'picture'"):
        prefetch_urls(photos, "picture")


def test_in_an_async_view_the_list_is_prefetched(photos: list[Photo]) -> None:
    """As documented: then ``url`` needs no database, which it may not ask there."""

    async def view() -> list[str]:
        found = await sync_to_async(prefetch_urls)(Photo.objects.order_by("pk"), "image")
        with pytest.raises(SynchronousOnlyOperation):
            found[1].asset.url  # noqa: B018
        return [photo.image.url for photo in found]

    assert async_to_sync(view)() == [photo.image.url for photo in photos]
