"""Facts about storages with a folder of their own: below the media's, and apart from other storages'."""

from __future__ import annotations

import io
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.db.migrations.writer import MigrationWriter
from django.test import override_settings

from replicator import delivery
from replicator.models import MediaFile
from replicator.storage import PrefixedStorage, ReplicatedStorage, belonging
from replicator.storage.reading import target_file
from replicator.targets import get_target
from replicator.targets.mogilefs import MogileFSTarget
from replicator.testing import MemoryTarget
from tests.servers import MediaHost
from tests.storage.conftest import TARGETS, contents, everything

pytestmark = pytest.mark.django_db(transaction=True)

PREFIXED = "replicator.storage.PrefixedStorage"
STATIC = "replicator.storage.ReplicatedStaticFilesStorage"
MANIFEST = "replicator.storage.ReplicatedManifestStaticFilesStorage"
MOGILEFS = "replicator.storage.MogileFSStorage"


class Assets(PrefixedStorage):
    """A storage of a project's own."""

    prefix = "assets"


@pytest.fixture
def add(settings: Any, storage: ReplicatedStorage) -> Callable[..., ReplicatedStorage]:
    """Add a storage to the default one's site."""

    def make(entry: str, backend: str = PREFIXED, **options: Any) -> ReplicatedStorage:
        settings.STORAGES = {**settings.STORAGES, entry: {"BACKEND": backend, "OPTIONS": options}}
        made = storages[entry]
        assert isinstance(made, ReplicatedStorage)
        return made

    return make


@pytest.fixture
def assets(add: Callable[..., ReplicatedStorage]) -> ReplicatedStorage:
    return add("assets", prefix="assets")


def held(alias: str = "media1") -> dict[str, bytes]:
    target = get_target(alias)
    assert isinstance(target, MemoryTarget)
    return target.files


# A prefix is all that has to be written


def test_the_prefix_says_it_all(storage: ReplicatedStorage, assets: ReplicatedStorage, media_root: Path) -> None:
    """The alias, the folder, the URL and the place at each target."""
    assert assets.save("a.txt", ContentFile(b"of assets")) == "a.txt"
    storage.save("a.txt", ContentFile(b"of media"))
    assert everything(media_root) == {"a.txt": b"of media", "assets/a.txt": b"of assets"}
    assert assets.url("a.txt") == "/media/assets/a.txt"
    assert set(MediaFile.objects.values_list("storage", "name")) == {("default", "a.txt"), ("assets", "a.txt")}
    for alias in TARGETS:
        delivery.deliver(alias)
        assert held(alias) == {"media/a.txt": b"of media", "media/assets/a.txt": b"of assets"}
    assert assets.listdir("") == ([], ["a.txt"])
    assets.delete("a.txt")
    delivery.deliver("media1")
    assert held() == {"media/a.txt": b"of media"}


@pytest.mark.parametrize("slashed", ["assets/", "/assets", "/assets/"])
def test_slashes_around_a_prefix_mean_nothing(storage: ReplicatedStorage, slashed: str) -> None:
    made = PrefixedStorage(prefix=slashed)
    assert (made.prefix, made.alias, made.base_url) == ("assets", "assets", "/media/assets/")


def test_a_subclass_has_its_prefix_as_an_attribute(add: Callable[..., ReplicatedStorage], media_root: Path) -> None:
    add("assets", backend=f"{__name__}.Assets")
    by_hand = Assets()
    assert (by_hand.alias, by_hand.location) == ("assets", str(media_root / "assets"))
    assert by_hand.save("a.txt", ContentFile(b"1")) == "a.txt"
    assert MediaFile.objects.get().storage == "assets"
    # An option comes first; the alias need not be the folder.
    other = Assets(prefix="more/of it", alias="more")
    assert (other.alias, other.base_url) == ("more", "/media/more/of%20it/")


def test_without_a_prefix_it_says_what_to_write(add: Callable[..., ReplicatedStorage]) -> None:
    for options in ({}, {"prefix": ""}, {"prefix": "/"}):
        with pytest.raises(ImproperlyConfigured) as failed:
            PrefixedStorage(**options)
        assert str(failed.value) == (
            'PrefixedStorage has no prefix: write "OPTIONS": {"prefix": "assets"} for its STORAGES["assets"], '
            'PrefixedStorage(prefix="assets"), or prefix = "assets" in a subclass'
        )


@pytest.mark.parametrize("prefix", ["..", "../up", "a/../b", "a//b", "./a", "a\0b", "a\\b"])
def test_a_prefix_that_leads_elsewhere_is_refused(storage: ReplicatedStorage, prefix: str) -> None:
    """Promise 6: a name outside the root is never sent."""
    with pytest.raises(ValueError, match='write a folder, as in "assets"'):
        PrefixedStorage(prefix=prefix)


def test_it_follows_the_settings_of_media(assets: ReplicatedStorage, tmp_path: Path) -> None:
    """What a test of the site does: its files go elsewhere, and come back."""
    before = (assets.location, assets.base_url)
    with override_settings(MEDIA_ROOT=str(tmp_path / "other"), MEDIA_URL="/m/"):
        assert assets.location == str(tmp_path / "other/assets")
        assert assets.url("a b.txt") == "/m/assets/a%20b.txt"
        assets.save("a.txt", ContentFile(b"1"))
    assert (assets.location, assets.base_url) == before
    assert everything(tmp_path) == {"other/assets/a.txt": b"1"}


def test_location_and_base_url_of_its_own(add: Callable[..., ReplicatedStorage], tmp_path: Path) -> None:
    made = add("assets", prefix="assets", location=str(tmp_path / "cdn"), base_url="https://cdn.example.com/x")
    assert made.location == str(tmp_path / "cdn/assets")
    assert made.url("a.txt") == "https://cdn.example.com/x/assets/a.txt"
    assert target_file(made, "a.txt").prefix == "/x/assets/"


@pytest.mark.parametrize("made", [PrefixedStorage(prefix="assets"), Assets(), Assets(mogile_class="asset")])
def test_a_migration_can_hold_it(storage: ReplicatedStorage, made: ReplicatedStorage) -> None:
    """With what was written in the code, and nothing of this machine."""
    text, imports = MigrationWriter.serialize(made)
    scope: dict[str, Any] = {}
    exec("\n".join(imports) + f"\nmade = {text}", scope)
    again = scope["made"]
    assert again.deconstruct() == made.deconstruct()
    assert (again.alias, again.location, again.mogile_class) == (made.alias, made.location, made.mogile_class)
    if type(made) is PrefixedStorage:
        assert text == "replicator.storage.PrefixedStorage(prefix='assets')"


# Every kind of storage


def test_any_prefix_is_one_path_here_at_hosts_and_in_urls(
    add: Callable[..., ReplicatedStorage], settings: Any, media_host: MediaHost, media_root: Path
) -> None:
    """Each server in turn: what is delivered is found under the URL that ``url()`` gives, as browsers send it."""
    settings.REPLICATOR = {
        "TARGETS": {"host": {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": media_host.url}}}
    }
    prefix, name = "Bücher & Pläne/100% #1", "ä?b#c %41.txt"
    made = add("assets", prefix=prefix, alias="assets")
    assert made.save(name, ContentFile(b"found")) == name
    assert everything(media_root) == {f"{prefix}/{name}": b"found"}
    delivery.deliver("host")
    assert made.url(name) == ("/media/B%C3%BCcher%20%26%20Pl%C3%A4ne/100%25%20%231/%C3%A4%3Fb%23c%20%2541.txt")
    with urllib.request.urlopen(media_host.url + made.url(name), timeout=10) as answer:
        assert answer.read() == b"found"
    made.delete(name)
    delivery.deliver("host")
    assert media_host.files() == {}


@pytest.mark.parametrize("backend", [STATIC, MANIFEST])
def test_static_files_with_a_prefix(settings: Any, tmp_path: Path, backend: str) -> None:
    """Two releases beside each other, here and at every target."""
    settings.REPLICATOR = {"TARGETS": TARGETS}
    settings.STATIC_ROOT, settings.MEDIA_ROOT = str(tmp_path / "static"), str(tmp_path / "media")
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS = [str(tmp_path / "source")]
    (tmp_path / "source").mkdir()
    there: dict[str, dict[str, bytes]] = {alias: {} for alias in TARGETS}
    for release in ("v1", "v2"):
        (tmp_path / "source/site.css").write_text(f"/* {release} */")
        entry = {"BACKEND": backend, "OPTIONS": {"prefix": release, "alias": release}}
        settings.STORAGES = {"default": settings.STORAGES["default"], release: entry, "staticfiles": entry}
        call_command("collectstatic", interactive=False, verbosity=0)
        for alias in TARGETS:
            delivery.deliver(alias)
            there[alias] |= held(alias)  # settings that change empty it
    here = everything(tmp_path / "static")
    assert here["v1/site.css"] == b"/* v1 */"
    assert here["v2/site.css"] == b"/* v2 */"
    for alias in TARGETS:
        assert {name.removeprefix("static/"): data for name, data in there[alias].items()} == here
    url = storages["staticfiles"].url("site.css")
    assert url.startswith("/static/v2/site.")
    assert here[url.removeprefix("/static/")] == b"/* v2 */"


def test_keys_in_mogilefs_have_the_prefix(add: Callable[..., ReplicatedStorage], settings: Any) -> None:
    """As the ancestors had them: the path below the media's URL."""
    options = {"domain": "production", "trackers": ["127.0.0.1:9"]}
    settings.REPLICATOR = {
        "TARGETS": {"mogile": {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options}}
    }
    made = add("avatars", backend=MOGILEFS, alias="avatars", prefix="avatars/große")
    target = get_target("mogile")
    assert isinstance(target, MogileFSTarget)
    assert target.key_of(target_file(made, "me.png")) == "avatars/große/me.png"
    assert made.targets == ["mogile"]
    with override_settings(MOGILEFS_MEDIA_URL="/pictures/"):
        again = add("avatars", backend=MOGILEFS, alias="avatars", prefix="avatars")
        assert again.url("me.png") == "/pictures/avatars/me.png"
        target = get_target("mogile")
        assert isinstance(target, MogileFSTarget)
        assert target.key_of(target_file(again, "me.png")) == "avatars/me.png"


# A storage inside of another


def test_a_storage_writes_nothing_into_the_folder_of_another(
    storage: ReplicatedStorage, assets: ReplicatedStorage, media_root: Path
) -> None:
    """Promise 2: of two rows for one place, the last write would not win."""
    assets.save("x/a.txt", ContentFile(b"1"))
    delivery.deliver("media1")
    writes: list[Callable[[], object]] = [
        lambda: storage.save("assets/x/a.txt", ContentFile(b"2")),
        lambda: storage.save("./assets//x/a.txt", ContentFile(b"2")),
        lambda: storage.save("assets/new.txt", ContentFile(b"2")),
        lambda: storage.replace("assets/x/a.txt", ContentFile(b"2")),
        lambda: storage.open("assets/x/a.txt", "wb").close(),
        lambda: storage.delete("assets/x/a.txt"),
        lambda: storage.delete("assets/x"),
    ]
    for write in writes:
        with pytest.raises(SuspiciousFileOperation, match="is in the folder of the storage 'assets'"):
            write()
    with pytest.raises(SuspiciousFileOperation) as failed:
        storage.delete("assets/x/a.txt")
    assert str(failed.value) == (
        "'assets/x/a.txt' is in the folder of the storage 'assets': "
        "write it there, as storages['assets'] and the name 'x/a.txt'"
    )
    with pytest.raises(SuspiciousFileOperation, match="'assets' is the folder of the storage 'assets'"):
        storage.delete("assets")
    assert [(row.storage, row.name, row.deleted) for row in MediaFile.objects.all()] == [("assets", "x/a.txt", False)]
    assert everything(media_root) == {"assets/x/a.txt": b"1"}
    delivery.deliver("media1")
    assert held() == {"media/assets/x/a.txt": b"1"}


def test_what_only_looks_like_a_folder_of_another_is_free(
    storage: ReplicatedStorage, assets: ReplicatedStorage
) -> None:
    for name in ("assets.txt", "assets2/a.txt", "a/assets/b.txt", "Assets/a.txt"):
        assert storage.save(name, ContentFile(b"1")) == name
    storage.delete("assets2/a.txt")
    # The inner storage is free in its own.
    assert assets.save("assets/a.txt", ContentFile(b"1")) == "assets/a.txt"


def test_an_upload_that_is_called_as_the_folder_gets_another_name(
    storage: ReplicatedStorage, assets: ReplicatedStorage, media_root: Path
) -> None:
    """Before anything is in that folder, and after."""
    names = [storage.save("assets", ContentFile(b"1"))]
    assets.save("a.txt", ContentFile(b"2"))
    names.append(storage.save("assets", ContentFile(b"3")))
    assert all(name.startswith("assets_") for name in names)
    assert contents(assets, "a.txt") == b"2"


def test_reading_through_the_outer_storage_stays_as_it_was(
    storage: ReplicatedStorage, assets: ReplicatedStorage
) -> None:
    assets.save("a.txt", ContentFile(b"1"))
    assert storage.exists("assets/a.txt")
    assert contents(storage, "assets/a.txt") == b"1"
    assert storage.size("assets/a.txt") == 1
    assert storage.url("assets/a.txt") == assets.url("a.txt")
    assert storage.listdir("") == (["assets"], [])


def test_the_innermost_storage_is_named(add: Callable[..., ReplicatedStorage], storage: ReplicatedStorage) -> None:
    outer, inner = add("assets", prefix="assets"), add("assets/icons", prefix="assets/icons")
    for each, name in ((storage, "assets/icons/a.png"), (outer, "icons/a.png")):
        with pytest.raises(SuspiciousFileOperation, match=r"the storage 'assets/icons': .* the name 'a.png'"):
            each.save(name, ContentFile(b"1"))
    with pytest.raises(SuspiciousFileOperation, match="the storage 'assets':"):
        storage.save("assets/iconsets/a.png", ContentFile(b"1"))
    assert inner.save("a.png", ContentFile(b"1")) == "a.png"


@pytest.mark.parametrize("the_folder_is_a_link", [True, False])
def test_links_make_no_difference(
    add: Callable[..., ReplicatedStorage],
    storage: ReplicatedStorage,
    tmp_path: Path,
    media_root: Path,
    *,
    the_folder_is_a_link: bool,
) -> None:
    """A folder that is on another disk; and media that are reached by two ways."""
    media_root.mkdir()
    if the_folder_is_a_link:
        (tmp_path / "disk").mkdir()
        (media_root / "assets").symlink_to(tmp_path / "disk")
        add("assets", alias="assets", prefix="assets")
    else:
        (tmp_path / "link").symlink_to(media_root)
        add("assets", alias="assets", location=str(tmp_path / "link"), prefix="assets")
    with pytest.raises(SuspiciousFileOperation, match="the storage 'assets'"):
        storage.save("assets/a.txt", ContentFile(b"1"))


def test_static_files_inside_of_media_are_not_medias(
    add: Callable[..., ReplicatedStorage], storage: ReplicatedStorage, settings: Any, media_root: Path
) -> None:
    settings.STATIC_ROOT = str(media_root / "static")
    add("staticfiles", backend=STATIC)
    with pytest.raises(SuspiciousFileOperation, match="the storage 'staticfiles'"):
        storage.save("static/site.css", ContentFile(b"1"))


def test_collectstatic_clears_nothing_of_a_storage_inside(
    add: Callable[..., ReplicatedStorage], settings: Any, tmp_path: Path
) -> None:
    """``--clear`` deletes all that it finds in STATIC_ROOT."""
    settings.STATIC_ROOT = str(tmp_path / "static")
    settings.STATICFILES_FINDERS = []
    static = add("staticfiles", backend=STATIC)
    inner = add("docs", backend=STATIC, alias="docs", prefix="help/docs")
    inner.save("index.html", ContentFile(b"1"))
    static.save("help/old.css", ContentFile(b"2"))
    call_command("collectstatic", "--clear", interactive=False, verbosity=0, stdout=io.StringIO())
    assert everything(tmp_path / "static") == {"help/docs/index.html": b"1"}


def test_a_save_looks_for_storages_inside_only_once(
    storage: ReplicatedStorage, assets: ReplicatedStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads no setting and resolves no link; until settings change."""
    looks: list[int] = []
    sources = belonging.sources
    monkeypatch.setattr(belonging, "sources", lambda: looks.append(1) or sources())
    for n in range(5):
        storage.save(f"{n}.txt", ContentFile(b"1"))
    assert len(looks) == 1
    resolved: list[str] = []
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **_: resolved.append(path) or realpath(path))
    storage.save("more.txt", ContentFile(b"1"))
    assert resolved == []
    entry = {"BACKEND": PREFIXED, "OPTIONS": {"prefix": "more"}}
    settings.STORAGES = {**settings.STORAGES, "more": entry}
    with pytest.raises(SuspiciousFileOperation, match="the storage 'more'"):
        storages["default"].save("more/a.txt", ContentFile(b"1"))
    with override_settings(MEDIA_ROOT=str(storage.location) + "2"):
        assert belonging.nested(storage).keys() == {"assets", "more"}
