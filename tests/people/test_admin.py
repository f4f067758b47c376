"""What people see and do in the admin."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator.ledger import health
from replicator.models import MediaFile, Replica, TargetState
from replicator.storage import ReplicatedStorage
from tests.people.conftest import Woken, fail, record, record_many

pytestmark = pytest.mark.django_db(transaction=True)
FILES = "/admin/replicator/mediafile/"
REPLICAS = "/admin/replicator/replica/"
TARGETS = "/admin/replicator/targetstate/"


@pytest.fixture
def requeuer(db: None) -> Client:
    """Someone who may look, and have failed replicas tried again."""
    return client_with("view_mediafile", "view_replica", "change_replica")


def client_with(*permissions: str) -> Client:
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    found = Permission.objects.filter(content_type__app_label="replicator", codename__in=permissions)
    assert found.count() == len(permissions)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def requeue(client: Client, page: str, ids: list[int], *, everything: bool = False, query: str = "") -> list[str]:
    """Run the action on these rows; what it said."""
    data = {"action": "requeue_failed", "_selected_action": ids, "select_across": int(everything), "index": 0}
    response = client.post(page + query, data)
    assert response.status_code == 302, response.content[:200]
    return [str(message) for message in get_messages(response.wsgi_request)]


# Lists


def test_each_file_shows_its_status_at_each_target(site: ReplicatedStorage, admin_client: Client) -> None:
    file = record("deep/a.txt", targets=("media1", "media2", "old"))
    fail(file.replicas.filter(target="media2"))
    file.replicas.filter(target="media1").update(status="synced")
    page = admin_client.get(FILES).content.decode()
    assert '<span class="replicator-badge replicator-synced" title="synced">media1</span>' in page
    title = "failed, refused: 403 Forbidden"
    assert f'<span class="replicator-badge replicator-failed" title="{title}">media2</span>' in page
    assert '<span class="replicator-badge replicator-gone" title="pending">old</span>' in page
    assert f"{REPLICAS}{file.replicas.get(target='media2').pk}/change/" in page


def test_the_link_to_a_private_file_is_not_shown(
    site: ReplicatedStorage, settings: Any, tmp_path: Path, admin_client: Client
) -> None:
    """Promise 9: who may look at the ledger need not be one who may read it."""
    options = {"alias": "private", "location": str(tmp_path / "private"), "base_url": "/private/"}
    entry = {"BACKEND": "replicator.storage.ProtectedStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "private": entry}
    for storage, shown in (("default", True), ("private", False)):
        file = record("a.txt", storage, targets=("media1",))
        page = admin_client.get(f"{FILES}{file.pk}/change/").content.decode()
        assert ('<a href="/media/a.txt">' in page) is shown
        assert "signature=" not in page


@pytest.mark.parametrize("page", [FILES, REPLICAS])
def test_a_longer_list_takes_no_more_queries(site: ReplicatedStorage, admin_client: Client, page: str) -> None:
    """No query for each row."""
    numbers = []
    for count in (2, 40):
        for n in range(count):
            record(f"{count}/{n}")
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(page).status_code == 200
        numbers.append(len(queries))
    assert numbers[0] == numbers[1] <= 6


def test_no_list_asks_all_rows_for_their_values(site: ReplicatedStorage, admin_client: Client) -> None:
    """On ten million rows a DISTINCT takes half a minute."""
    record("a.txt")
    for page in (FILES, REPLICAS, TARGETS):
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(page)
        assert not [q["sql"] for q in queries if "DISTINCT" in q["sql"]]


@pytest.mark.parametrize(
    ("page", "query", "names"),
    [
        (FILES, "?q=cat", {"cats/1.png"}),
        (FILES, "?storage=avatars", {"me.png"}),
        (FILES, "?deleted__exact=1", {"gone.txt"}),
        (REPLICAS, "?q=cat", {"cats/1.png"}),
        (REPLICAS, "?status__exact=failed", {"cats/1.png"}),
        (REPLICAS, "?target=media2", {"cats/1.png", "gone.txt"}),
        (REPLICAS, "?error_kind=refused", {"cats/1.png"}),
        (REPLICAS, "?storage=avatars", {"me.png"}),
        (REPLICAS, "?target=old", set()),
    ],
)
def test_lists_can_be_filtered(
    site: ReplicatedStorage, admin_client: Client, page: str, query: str, names: set[str]
) -> None:
    fail(record("cats/1.png").replicas.filter(target="media1"))
    record("me.png", "avatars", targets=("media1",))
    gone = record("gone.txt", targets=("media2",))
    MediaFile.objects.filter(pk=gone.pk).update(deleted=True)
    response = admin_client.get(page + query)
    found = {getattr(row, "file", row).name for row in response.context["cl"].result_list}
    assert found == names


def test_a_list_of_failed_ones_begins_with_the_newest(site: ReplicatedStorage, admin_client: Client) -> None:
    """And is read from the partial index: by primary key it would pass over all that is synced."""
    names = ["b", "c", "a"]
    for age, name in enumerate(names):
        fail(record(name, targets=("media1",)).replicas)
        Replica.objects.filter(file__name=name).update(since=timezone.now() - timedelta(hours=age))
    rows = admin_client.get(f"{REPLICAS}?status__exact=failed").context["cl"].result_list
    assert [row.file.name for row in rows] == names
    rows = admin_client.get(REPLICAS).context["cl"].result_list
    assert [row.file.name for row in rows] == ["a", "c", "b"]


def test_targets_show_their_state_and_lead_to_their_replicas(site: ReplicatedStorage, admin_client: Client) -> None:
    record("a.txt")
    fail(Replica.objects.at("media2"))
    health.note_success("media1")
    health.mark_down("media2", "connection refused")
    page = admin_client.get(TARGETS).content.decode()
    assert '<span class="replicator-badge replicator-up">up</span>' in page
    assert '<span class="replicator-badge replicator-down">down</span>' in page
    assert "connection refused" in page
    assert f'<a href="{REPLICAS}?status__exact=failed&amp;target=media2">1</a>' in page
    assert admin_client.get(f"{TARGETS}media2/change/").status_code == 200


def test_a_file_shows_its_facts_and_its_replicas(site: ReplicatedStorage, admin_client: Client) -> None:
    file = record("a.txt")
    fail(file.replicas.all(), text="<script>alert(1)</script>")
    page = admin_client.get(f"{FILES}{file.pk}/change/").content.decode()
    assert '<a href="/media/a.txt">/media/a.txt</a>' in page
    assert "0" * 64 in page
    assert "(HTTP 403)" in page
    assert "<script>alert(1)" not in page
    MediaFile.objects.update(storage="removed")
    assert admin_client.get(f"{FILES}{file.pk}/change/").status_code == 200


def test_a_provisional_success_says_what_it_waits_for(site: ReplicatedStorage, admin_client: Client) -> None:
    record("a.txt", targets=("media1",)).replicas.update(provisional=True, doubt=True)  # type: ignore[attr-defined]
    assert "pending, to be confirmed" in admin_client.get(REPLICAS).content.decode()


# Who may do what


def test_nobody_writes_rows_in_the_admin(site: ReplicatedStorage, admin_client: Client) -> None:
    """Only the ledger writes them; a superuser is no exception."""
    file = record("a.txt")
    health.note_success("media1")
    pages = {
        FILES: str(file.pk),
        REPLICAS: str(file.replicas.first().pk),  # type: ignore[union-attr]
        TARGETS: "media1",
    }
    for page, pk in pages.items():
        assert admin_client.get(f"{page}add/").status_code == 403
        assert admin_client.get(f"{page}{pk}/change/").status_code == 200
        assert admin_client.post(f"{page}{pk}/change/", {"name": "b", "_save": "1"}).status_code == 403
        assert admin_client.post(f"{page}{pk}/delete/", {"post": "yes"}).status_code == 403
        assert "delete_selected" not in admin_client.get(page).content.decode()
    file.refresh_from_db()
    assert file.name == "a.txt"
    assert TargetState.objects.exists()


def test_slots_are_not_shown(admin_client: Client) -> None:
    assert admin_client.get("/admin/replicator/slot/").status_code == 404


@pytest.mark.parametrize("page", [FILES, REPLICAS])
def test_who_may_only_look_can_not_requeue(site: ReplicatedStorage, page: str) -> None:
    """The action is neither offered nor done."""
    client = client_with("view_mediafile", "view_replica")
    file = record("a.txt")
    fail(file.replicas.all())
    assert "requeue_failed" not in client.get(page).content.decode()
    ids = [file.pk] if page == FILES else list(file.replicas.values_list("pk", flat=True))
    requeue_response = client.post(page, {"action": "requeue_failed", "_selected_action": ids, "index": 0})
    assert requeue_response.status_code in (200, 302)
    assert Replica.objects.failed().count() == 2


def test_who_may_not_look_sees_nothing(site: ReplicatedStorage) -> None:
    client = client_with("change_replica")
    assert client.get(FILES).status_code == 403
    assert client.get(TARGETS).status_code == 403
    assert client.get(REPLICAS).status_code == 200  # whoever may change, may look


# Requeue failed replicas


def test_requeue_takes_the_failed_ones_of_the_selection(
    site: ReplicatedStorage, requeuer: Client, woken: Woken
) -> None:
    """What is pending keeps its place in the queue, what is synced stays so, and what was not selected too."""
    for name in ("a.txt", "b.txt", "c.txt"):
        record(name)
    fail(Replica.objects.filter(target="media1"))
    Replica.objects.filter(file__name="b.txt", target="media2").update(status="synced")
    chosen = Replica.objects.exclude(file__name="c.txt")
    untouched = list(Replica.objects.exclude(status="failed").order_by("pk").values())
    woken.clear()
    said = requeue(requeuer, REPLICAS, list(chosen.values_list("pk", flat=True)))
    assert said == [
        "2 failed replicas are pending again. 2 of the selected have not failed and were left as they are."
    ]
    assert list(Replica.objects.failed().values_list("file__name", flat=True)) == ["c.txt"]
    requeued = Replica.objects.filter(file__name__in=["a.txt", "b.txt"], target="media1")
    assert [(r.status, r.attempts) for r in requeued] == [("pending", 0)] * 2
    assert list(Replica.objects.filter(pk__in=[r["id"] for r in untouched]).order_by("pk").values()) == untouched
    assert woken == ["media1"]


def test_requeue_of_files_takes_their_failed_replicas(
    site: ReplicatedStorage, requeuer: Client, woken: Woken
) -> None:
    one, two = record("a.txt"), record("b.txt")
    fail(Replica.objects.filter(target="media2"))
    woken.clear()
    assert requeue(requeuer, FILES, [one.pk]) == ["1 failed replica is pending again."]
    assert Replica.objects.failed().get().file == two
    assert woken == ["media2"]


def test_requeue_of_nothing_failed_says_so(site: ReplicatedStorage, requeuer: Client, woken: Woken) -> None:
    file = record("a.txt")
    woken.clear()
    assert requeue(requeuer, FILES, [file.pk]) == ["Nothing to do: none of the selected has failed."]
    assert woken == []


def test_requeue_says_what_may_take_a_while(site: ReplicatedStorage, requeuer: Client, woken: Woken) -> None:
    file = record("a.txt")
    fail(file.replicas.filter(target="media1"))
    health.mark_down("media1", "connection refused")
    woken.broker_is_up = False
    assert requeue(requeuer, FILES, [file.pk]) == [
        "1 failed replica is pending again.",
        "The broker can't be reached: the next sweep that runs will wake the workers.",
        "media1 is down: it gets its files when it answers again.",
    ]


@pytest.mark.parametrize("page", [FILES, REPLICAS])
def test_requeue_works_on_100000_selected_rows(
    site: ReplicatedStorage, requeuer: Client, woken: Woken, page: str
) -> None:
    """All pages of a filtered list: one UPDATE, within a request's time, and nothing outside the filter."""
    record_many(100_000, status="failed", error_kind="refused")
    record_many(10, status="failed", target="media2", error_kind="corrupt")
    for n in range(5):
        record(f"elsewhere/{n}")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as autovacuum does, soon after so many rows have come
    first = list((MediaFile if page == FILES else Replica).objects.values_list("pk", flat=True)[:50])
    query = "?q=many/" if page == FILES else "?error_kind=refused&status__exact=failed"
    start = time.monotonic()
    with CaptureQueriesContext(connection) as queries:
        said = requeue(requeuer, page, first, everything=True, query=query)
    seconds = time.monotonic() - start
    requeued = 100_010 if page == FILES else 100_000
    assert said[0] == f"{requeued:,} failed replicas are pending again."
    assert len([q for q in queries if q["sql"].startswith("UPDATE") and "replicator_" in q["sql"]]) == 1
    assert Replica.objects.failed().count() == 100_010 - requeued
    assert set(woken) == ({"media1", "media2"} if page == FILES else {"media1"})
    assert seconds < 60


def test_requeue_is_idempotent(site: ReplicatedStorage, requeuer: Client) -> None:
    """A double click does no harm."""
    file = record("a.txt")
    fail(file.replicas.all())
    requeue(requeuer, FILES, [file.pk])
    before: list[dict[str, Any]] = list(Replica.objects.values())
    requeue(requeuer, FILES, [file.pk])
    assert list(Replica.objects.values()) == before
