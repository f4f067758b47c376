"""What a listing shows under a name that the ledger does not have, and is not unknown: it must not be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from replicator import ledger, operating
from replicator.models import MediaFile, Replica, TargetRun
from replicator.operating import audit
from replicator.operating.audit.removing import Removing
from replicator.targets.base import Entry
from tests.operating.audits import BACKEND, Site, at, finish, found

pytestmark = pytest.mark.django_db(transaction=True)


def unknown(site: Site, *names: str) -> TargetRun:
    """An audit of what media1 holds that removes what is unknown."""
    old = datetime.now(UTC) - timedelta(days=3)

    def listed(prefix: str = "/") -> Iterator[Entry]:
        yield from (Entry(name, 1, old) for name in names)

    for name in names:
        at("media1").files[f"media/avatars/{name}"] = b"?"
    at("media1").entries = listed  # type: ignore[method-assign]
    return audit.begin("media1", {"delete_unknown": True, "storages": ["avatars"]})


def avatars(site: Site) -> None:
    """A storage inside the default one, which keeps nothing here."""
    options = {"alias": "avatars", "location": str(site.media / "avatars"), "base_url": "/media/avatars/"}
    entry = {"BACKEND": BACKEND, "OPTIONS": {**options, "keep_local": False}}
    site.settings.STORAGES = {**site.settings.STORAGES, "avatars": entry}


@pytest.mark.parametrize(
    ("alias", "name"), [("default", "avatars/u1.jpg"), ("people", "avatars/u1.jpg"), ("people", "u1.jpg")]
)
def test_what_a_storage_around_it_has_there_is_not_unknown(site: Site, alias: str, name: str) -> None:
    """Promises 1 and 6: files that were saved before a part of the storage became one of its own, or by one of
    another address that is not in the settings any more."""
    ledger.record_new([ledger.Write(alias, name, 1, "0" * 64)], ["media1"])
    Replica.objects.filter(file__name=name).update(status="synced", version=MediaFile.objects.get(name=name).version)
    avatars(site)
    run = finish(unknown(site, "u1.jpg", "u2.jpg"))
    site.deliver()
    assert run.state == "done"
    assert found(run) == [("u1.jpg", "unknown", "failed"), ("u2.jpg", "unknown", "deleted")]
    assert "media/avatars/u1.jpg" in at("media1").files


def test_a_name_that_comes_back_in_another_form_is_not_unknown(site: Site) -> None:
    """Some file systems compose or decompose letters: a DELETE of either name hits the one file."""
    avatars(site)
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    ledger.record_new([ledger.Write("avatars", composed, 1, "0" * 64)], ["media1"])
    run = finish(unknown(site, decomposed))
    assert found(run) == [(decomposed, "unknown", "failed")]
    assert not MediaFile.objects.filter(name=decomposed).exists()


def test_nothing_is_removed_once_it_is_cancelled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6: whoever sees what it is about to do can stop it, also while it asks the target for the next ones."""
    avatars(site)
    run = unknown(site, *(f"u{n}.jpg" for n in range(10)))
    real = Removing._taken

    def cancel_first(self: Removing, some: Any) -> Any:
        operating.cancel(TargetRun.objects.get(pk=run.pk))
        return real(self, some)

    monkeypatch.setattr(Removing, "_taken", cancel_first)
    assert finish(run).state == "cancelled"
    assert not MediaFile.objects.filter(storage="avatars").exists()
