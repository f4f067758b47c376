"""Lists of millions in the admin, and what people do about single files there."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from replicator import conf, delivery
from replicator.admin import counting
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from tests.people.conftest import Woken, record, record_many
from tests.people.test_admin import FILES, REPLICAS, client_with

pytestmark = pytest.mark.django_db(transaction=True)


def act(client: Client, page: str, action: str, ids: list[int]) -> list[str]:
    """Run the action on these rows; what it said."""
    response = client.post(page, {"action": action, "_selected_action": ids, "index": 0})
    assert response.status_code == 302, response.content[:200]
    return [str(message) for message in get_messages(response.wsgi_request)]


def synced(*names: str) -> MemoryTarget:
    """Files that media1 and media2 hold; media1."""
    for name in names:
        get_storage().save(name, ContentFile(b"12345"))
    for alias in ("media1", "media2"):
        delivery.deliver(alias)
    assert not Replica.objects.exclude(status="synced").exists()
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    return target


def get_storage() -> ReplicatedStorage:
    from django.core.files.storage import default_storage

    return default_storage  # type: ignore[return-value]


# Counting


@pytest.mark.parametrize(("page", "noun"), [(FILES, "media files"), (REPLICAS, "replicas")])
def test_rows_are_counted_no_further_than_people_look(
    site: ReplicatedStorage, admin_client: Client, monkeypatch: pytest.MonkeyPatch, page: str, noun: str
) -> None:
    """Ten million rows take a database seconds to count, for a number that nobody needs."""
    monkeypatch.setattr(counting, "MOST", 100)
    record_many(120, status="synced")
    with CaptureQueriesContext(connection) as queries:
        shown = admin_client.get(page).content.decode()
    assert f"more than 100 {noun}" in shown
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 101" in sql for sql in counts)
    assert admin_client.get(f"{page}?p=2").status_code == 200


def test_a_list_that_is_counted_whole_says_its_number(site: ReplicatedStorage, admin_client: Client) -> None:
    record_many(3, status="synced")
    shown = admin_client.get(REPLICAS).content.decode()
    assert "3 replicas" in shown
    assert "more than" not in shown


@pytest.mark.parametrize(("page", "column"), [(FILES, "name"), (REPLICAS, "file__name")])
def test_a_whole_name_is_found_by_an_index(
    site: ReplicatedStorage, admin_client: Client, page: str, column: str
) -> None:
    """A part of a name has to be looked for in each row; who has a whole one, from a log, gets that file alone."""
    record("a.txt")
    record("data.txt")
    record("a.txt", "avatars", targets=("media1",))
    shown = admin_client.get(page, {"q": "a.txt"}).context["cl"].queryset
    assert set(shown.values_list(column, flat=True)) == {"a.txt"}
    assert len({row.pk for row in shown}) == (2 if page == FILES else 3)
    part = admin_client.get(page, {"q": "ata"}).context["cl"].queryset
    assert set(part.values_list(column, flat=True)) == {"data.txt"}


def test_the_filter_of_errors_leaves_what_is_synced_to_itself(site: ReplicatedStorage, admin_client: Client) -> None:
    """So that the partial indexes answer it."""
    record_many(2, status="failed", error_kind="refused")
    with CaptureQueriesContext(connection) as queries:
        answer = admin_client.get(REPLICAS, {"error_kind": "refused"})
    assert answer.context["cl"].result_count == 2
    assert any("\"status\" = 'pending'" in query["sql"] for query in queries)


# What people do


def test_verify_now_says_what_targets_hold_and_sends_again_what_they_lack(
    site: ReplicatedStorage, woken: Woken
) -> None:
    """Without an audit of everything, for a file that somebody asks about."""
    target = synced("a.txt", "b.txt", "c.txt")
    del target.files["media/a.txt"]
    target.files["media/b.txt"] = b"1"
    woken.clear()
    client = client_with("view_mediafile", "view_replica", "change_replica")
    said = act(client, FILES, "verify_now", list(MediaFile.objects.values_list("pk", flat=True)))
    assert said[0] == "4 replicas are as recorded."
    assert len(said) == 3
    assert [line.startswith("default: a.txt at media1: ") for line in said] == [False, True, False]
    assert all(line.endswith("It is sent again.") for line in said[1:])
    assert woken == ["media1"]
    delivery.deliver("media1")
    assert target.files == {f"media/{name}.txt": b"12345" for name in "abc"}
    assert LogEntry.objects.filter(change_message__contains="sent again").count() == 2


def test_only_a_few_are_verified_while_somebody_waits(
    site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator.admin.base.MOST", 1)
    synced("a.txt")
    client = client_with("view_replica", "change_replica")
    said = act(client, REPLICAS, "verify_now", list(Replica.objects.values_list("pk", flat=True)))
    assert said[0] == "1 replica is as recorded."
    assert "Only the first 1 were looked at: to look at more, start an audit of the target." in said


def test_send_again_sends_what_was_confirmed(site: ReplicatedStorage, woken: Woken) -> None:
    """For who knows better than the ledger: a disk was replaced, a folder removed."""
    target = synced("a.txt", "b.txt")
    target.files.clear()
    woken.clear()
    client = client_with("view_mediafile", "view_replica", "change_replica")
    file = MediaFile.objects.get(name="a.txt")
    assert act(client, FILES, "send_again", [file.pk])[0] == "2 replicas are sent again."
    assert sorted(woken) == ["media1", "media2"]
    delivery.deliver("media1")
    assert target.files == {"media/a.txt": b"12345"}


@pytest.mark.parametrize("action", ["verify_now", "send_again"])
def test_who_may_only_look_changes_nothing(site: ReplicatedStorage, woken: Woken, action: str) -> None:
    synced("a.txt")
    woken.clear()
    client = client_with("view_mediafile", "view_replica")
    page = client.get(FILES).content.decode()
    assert action not in page
    client.post(FILES, {"action": action, "_selected_action": [1], "index": 0})
    assert woken == []
    assert not Replica.objects.exclude(status="synced").exists()


def test_the_task_that_was_last_at_a_file_is_linked_to_flower(
    site: ReplicatedStorage, settings: Any, admin_client: Client
) -> None:
    replica = record("a.txt").replicas.get(target="media1")
    page = f"{REPLICAS}{replica.pk}/change/"
    task = uuid4()
    Replica.objects.filter(pk=replica.pk).update(task=task)
    assert str(task) in admin_client.get(page).content.decode()
    assert "/task/" not in admin_client.get(page).content.decode()
    settings.REPLICATOR = {**settings.REPLICATOR, "FLOWER_URL": "https://flower.example.com/"}
    assert f'<a href="https://flower.example.com/task/{task}"' in admin_client.get(page).content.decode()


@pytest.mark.parametrize("wrong", ["flower.example.com", "https://user:password@flower.example.com/", 5555])
def test_where_flower_is_not_is_said(wrong: Any) -> None:
    """Bad input: and no password is shown to whoever may see the admin."""
    [problem] = conf.problems({"FLOWER_URL": wrong})
    assert "FLOWER_URL" in problem.message
    assert '"https://flower.example.com/"' in problem.hint


# What a row shows


def test_of_a_dozen_targets_a_row_names_those_that_lack_the_file(
    site: ReplicatedStorage, admin_client: Client, settings: Any
) -> None:
    """In the order of the settings. What is well is one badge, so that a row stays a row."""
    targets = [f"media{number}" for number in (12, 2, 1, 3, 4, 5)]
    settings.REPLICATOR = {"TARGETS": {alias: {"BACKEND": "replicator.testing.MemoryTarget"} for alias in targets}}
    file = record("a.txt", targets=tuple(targets))
    Replica.objects.exclude(target__in=["media12", "media1"]).update(status="synced", version=file.version)
    page = admin_client.get(FILES).content.decode()
    row = page[page.index('field-targets">') :].split("</td>")[0]
    assert (
        row.index(">media12<") < row.index(">media1<") < row.index('title="media2, media3, media4, media5">4 synced<')
    )
    assert ">media2<" not in row
    Replica.objects.filter(target="media5").delete()
    page = admin_client.get(FILES).content.decode()
    assert ">media2<" in page, "of a few each has its own"
    assert "4 synced" not in page


def test_the_list_of_failures_has_room_for_what_is_wrong(site: ReplicatedStorage, admin_client: Client) -> None:
    """What failed is due no more."""
    record_many(1, status="failed")
    assert "column-due" in admin_client.get(REPLICAS).content.decode()
    page = admin_client.get(f"{REPLICAS}?status__exact=failed").content.decode()
    assert "column-due" not in page
    assert "column-error" in page


@pytest.mark.parametrize("page", [FILES, REPLICAS])
def test_a_name_goes_on_in_the_next_line_behind_a_slash(
    site: ReplicatedStorage, admin_client: Client, page: str
) -> None:
    """And stays text, whatever is in it."""
    record("pictures/2026/a<b>.jpg")
    assert "pictures/<wbr>2026/<wbr>a&lt;b&gt;.jpg</a>" in admin_client.get(page).content.decode()
