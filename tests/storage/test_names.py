"""Facts about names: whoever saves at the same time, on one machine or on several, gets one of his own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection

from replicator.models import MediaFile
from replicator.storage import ReplicatedStorage
from tests.promises.harness import Shell, Site, new_database
from tests.servers import Postgres
from tests.storage.conftest import contents, everything


@pytest.fixture(params=["sqlite", "postgresql"])
def two_web_hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., tuple[Site, Site]]]:
    """Two machines with one ledger; *shared*: with one disk, too."""
    sites: list[Site] = []

    def make(*, shared: bool) -> tuple[Site, Site]:
        database = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
        if request.param == "postgresql":
            postgres = request.getfixturevalue("postgres")
            assert isinstance(postgres, Postgres)
            database = new_database(postgres)
        hosts = {"media1": "http://127.0.0.1:9"}
        sites.append(Site(tmp_path / "one", hosts, database=database))
        sites.append(Site(tmp_path / ("one" if shared else "two"), hosts, database=database))
        return sites[0], sites[1]

    yield make
    for site in sites:
        site.close()


@pytest.mark.parametrize("shared", [True, False])
def test_two_web_hosts_never_take_the_same_name(
    two_web_hosts: Callable[..., tuple[Site, Site]], *, shared: bool
) -> None:
    """Promise 2 begins with names: two uploads called photo.jpg are two files."""
    sites = two_web_hosts(shared=shared)
    names = [f"{n}.txt" for n in range(40)]

    def save_all(saver: Shell, who: str) -> list[str]:
        return [saver.call("save", name=name, data=f"{who} {name}") for name in names]

    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(save_all, [site.operator for site in sites], "AB"))
    assert len({*got[0], *got[1]}) == 2 * len(names)
    rows = {row["name"] for row in sites[0].operator.call("rows")}
    assert rows == {*got[0], *got[1]}
    for site, who, mine in zip(sites, "AB", got, strict=True):
        for name, saved in zip(names, mine, strict=True):
            assert (site.media_root / saved).read_text() == f"{who} {name}"


@pytest.mark.django_db(transaction=True)
def test_threads_of_one_process_never_take_the_same_name(storage: ReplicatedStorage, media_root: Path) -> None:
    barrier = threading.Barrier(8)

    def save(number: int) -> list[str]:
        barrier.wait()
        try:
            return [storage.save("same.txt", ContentFile(f"{number} {n}")) for n in range(5)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(save, range(8)))
    assert len({name for names in got for name in names}) == 40
    assert MediaFile.objects.count() == 40
    for number, names in enumerate(got):
        assert [contents(storage, name) for name in names] == [f"{number} {n}".encode() for n in range(5)]


@pytest.mark.django_db(transaction=True)
def test_a_name_that_another_web_host_took_meanwhile_is_left_to_it(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch, tidy_now: Callable[[], int]
) -> None:
    """The moment between choosing a name and recording it: only the ledger's unique constraint sees it."""
    from replicator import ledger

    original = ledger.record

    def take_it_first(write: ledger.Write, targets: Any, **options: Any) -> bool:
        monkeypatch.setattr(ledger, "record", original)
        original(ledger.Write("default", write.name, 5, "other"), targets)
        return original(write, targets, **options)

    monkeypatch.setattr(ledger, "record", take_it_first)
    name = storage.save("a.txt", ContentFile(b"mine"))
    assert name != "a.txt"
    assert contents(storage, name) == b"mine"
    assert MediaFile.objects.get(name="a.txt").sha256 == "other"
    tidy_now()
    assert everything(media_root) == {name: b"mine"}


@pytest.mark.django_db(transaction=True)
def test_a_name_that_another_node_has_is_taken(storage: ReplicatedStorage, media_root: Path) -> None:
    """Not on this disk, but in the ledger."""
    from replicator import ledger

    ledger.record(ledger.Write("default", "a.txt", 1, "other"), ["media1"])
    assert storage.exists("a.txt")
    assert storage.save("a.txt", ContentFile(b"1")) != "a.txt"
    assert not (media_root / "a.txt").exists()


@pytest.mark.django_db(transaction=True)
def test_a_file_from_elsewhere_is_not_overwritten(storage: ReplicatedStorage, media_root: Path) -> None:
    """Not in the ledger, but on this disk: a site that has not adopted yet."""
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"elsewhere")
    assert storage.save("a.txt", ContentFile(b"1")) != "a.txt"
    assert (media_root / "a.txt").read_bytes() == b"elsewhere"


@pytest.mark.django_db(transaction=True)
def test_storages_do_not_share_their_names(
    storage: ReplicatedStorage, settings: Any, tmp_path: Path, media_root: Path
) -> None:
    options = {"alias": "avatars", "location": str(tmp_path / "avatars"), "base_url": "/media/avatars/"}
    entry = {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "avatars": entry}
    assert storages["default"].save("a.txt", ContentFile(b"1")) == "a.txt"
    assert storages["avatars"].save("a.txt", ContentFile(b"2")) == "a.txt"
    storages["default"].delete("a.txt")
    assert MediaFile.objects.get(storage="avatars", name="a.txt").deleted is False
    assert (tmp_path / "avatars/a.txt").read_bytes() == b"2"
