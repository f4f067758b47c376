"""What people do with targets, and with the work at them, in the admin: asked first, allowed, and written down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client

from replicator.models import AuditFinding, Replica, TargetRun, TargetState
from replicator.operating import runs
from tests.operating.audits import Site, names
from tests.operating.overviews import PAGE, client_with, overview_site

pytestmark = pytest.mark.django_db(transaction=True)
RUNS = "/admin/replicator/targetrun/"
FINDINGS = "/admin/replicator/auditfinding/"


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return overview_site(settings, tmp_path, monkeypatch)


def press(client: Client, verb: str, target: str = "media1", **data: Any) -> Any:
    """Open the page that asks, fill in *data*, and send it as a browser would."""
    url = f"{PAGE}{target}/{verb}/"
    page = client.get(url).content.decode()
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    fields = {"seen": seen[1].replace("&quot;", '"') if seen else "{}", **data}
    if verb == "audit":
        fields = {"level": "size", "repair": "on", **fields}
    return client.post(url, fields)


def said(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def history(target: str = "media1") -> list[str]:
    """What its History says, newest first."""
    return [str(entry) for entry in LogEntry.objects.filter(object_id=target).order_by("-pk")]


def test_a_pause_says_what_it_does_and_is_written_down(site: Site, admin_client: Client) -> None:
    """Before: its effect in sentences. After: who did it and why, with the target, and at its History."""
    page = admin_client.get(f"{PAGE}media1/pause/").content.decode()
    assert "Nothing is sent to media1 nor asked of it, until it is resumed" in page
    response = press(admin_client, "pause", why="new disk")
    assert response["Location"] == PAGE
    assert "media1 is paused." in said(response)
    state = TargetState.objects.get(pk="media1")
    assert state.paused
    assert state.note == "paused by admin: new disk"
    assert LogEntry.objects.get().user == User.objects.get(username="admin")
    assert "Why: new disk" in history()[0]
    page = admin_client.get(f"{PAGE}media1/history/").content.decode()
    assert "Why: new disk" in page
    press(admin_client, "resume")
    assert not TargetState.objects.get(pk="media1").paused
    assert len(history()) == 2


@pytest.mark.parametrize("verb", ["pause", "retire", "audit"])
def test_what_helps_with_a_field_is_read_with_it(site: Site, admin_client: Client, verb: str) -> None:
    """What a screen reader is told to look for is there."""
    site.save(*names(20))
    page = admin_client.get(f"{PAGE}media1/{verb}/").content.decode()
    ids = set(re.findall(r' id="([^"]+)"', page))
    named = {
        each for found in re.findall(r' aria-(?:describedby|labelledby)="([^"]+)"', page) for each in found.split()
    }
    assert {each for each in named if each.startswith(("id_", "replicator-"))} - ids == set()
    assert "id_why_helptext" in ids


def test_what_is_so_already_is_said_and_not_written_down(site: Site, admin_client: Client) -> None:
    """Two people press the same button: the second is told, and who comes later is not asked."""
    press(admin_client, "pause")
    page = admin_client.get(f"{PAGE}media1/pause/").content.decode()
    assert "Nothing is to be done" in page
    assert "media1 is paused already." in page
    assert "What will happen" not in page
    assert 'name="why"' not in page
    response = press(admin_client, "pause")
    assert said(response) == "media1 is paused already."
    assert len(history()) == 1


@pytest.mark.parametrize(
    ("verb", "phase"), [("read-only", "read-only"), ("drain", "draining"), ("retire", "retired")]
)
def test_each_button_does_what_it_says(site: Site, admin_client: Client, verb: str, phase: str) -> None:
    press(admin_client, verb, why="moving")
    assert TargetState.objects.get(pk="media1").phase == phase
    assert "moving" in TargetState.objects.get(pk="media1").note


def test_a_button_that_starts_work_leads_to_its_page(site: Site, admin_client: Client) -> None:
    site.save("a.txt")
    response = press(admin_client, "resync")
    run = TargetRun.objects.get()
    assert response["Location"] == f"{RUNS}{run.pk}/change/"
    assert (run.kind, run.target, run.started_by) == ("resync", "media1", "admin")
    page = admin_client.get(response["Location"]).content.decode()
    assert "started by admin" in page
    assert "resync" in history()[0].lower()


def test_an_audit_as_it_is_offered_is_asked_for_once(site: Site, admin_client: Client) -> None:
    """Its page has said what that does; only what differs is said again."""
    site.save("a.txt")
    response = press(admin_client, "audit", why="strange files")
    run = TargetRun.objects.get()
    assert response["Location"] == f"{RUNS}{run.pk}/change/"
    assert (run.kind, run.target, run.dry_run) == ("audit", "media1", False)
    assert "Why: strange files" in history()[0]


def test_a_look_first_changes_nothing(site: Site, admin_client: Client) -> None:
    """A dry run: the page that asks says what it is asked for, a second time, since that differs."""
    site.save(*names(20))
    response = press(admin_client, "retire", dry_run="on")
    assert b"Nothing was done yet" in response.content
    seen = re.search(r'name="seen" value="([^"]*)"', response.content.decode())
    assert seen is not None
    response = admin_client.post(f"{PAGE}media1/retire/", {"dry_run": "on", "seen": seen[1].replace("&quot;", '"')})
    run = TargetRun.objects.get()
    assert run.dry_run
    assert response["Location"] == f"{RUNS}{run.pk}/change/"
    assert TargetState.objects.get(pk="media1").phase == "active"
    assert Replica.objects.at("media1").count() == 20


def test_nothing_is_done_that_was_not_said(site: Site, admin_client: Client) -> None:
    """Whoever ticks "delete" is told what that does before it is done."""
    site.save(*names(3))
    response = press(admin_client, "retire", delete="on", confirm="3")
    page = response.content.decode()
    assert "Nothing was done yet" in page
    assert "DELETED" in page
    assert not TargetRun.objects.exists()
    assert TargetState.objects.get(pk="media1").phase == "active"


@pytest.mark.parametrize("typed", ["", "19", "twenty", "<script>alert(1)</script>"])
def test_the_brake_wants_the_number_typed(site: Site, admin_client: Client, typed: str) -> None:
    """Giving up all that a target holds: only for whoever types how much that is."""
    site.save(*names(40))
    page = admin_client.get(f"{PAGE}media1/retire/").content.decode()
    assert "type the number of files: 40" in page
    response = press(admin_client, "retire", confirm=typed)
    assert response.status_code == 200
    page = response.content.decode()
    assert "Type 40." in page
    assert "<script>alert" not in page
    assert TargetState.objects.get(pk="media1").phase == "active"
    assert not TargetRun.objects.exists()
    press(admin_client, "retire", confirm="40")
    assert TargetState.objects.get(pk="media1").phase == "retired"


def test_what_can_not_be_done_says_what_to_do_instead(site: Site, admin_client: Client) -> None:
    runs.start("backfill", "media1")
    page = admin_client.get(f"{PAGE}media1/resync/").content.decode()
    assert "two at once would be in each other" in page
    assert '<form method="post" novalidate>' not in page
    response = press(admin_client, "resync")
    assert response.status_code == 200
    assert TargetRun.objects.count() == 1
    assert history() == []


def test_a_target_that_is_none_is_refused_in_words(site: Site, admin_client: Client) -> None:
    page = admin_client.get(f"{PAGE}media3/pause/").content.decode()
    assert "has no &#x27;media3&#x27;" in page
    assert press(admin_client, "pause", "media3").status_code == 200
    assert not TargetState.objects.filter(pk="media3").exists()


def test_only_who_may_operate_targets_does(site: Site) -> None:
    """Neither by looking at the page that asks, nor by sending what it would send."""
    for client in (client_with("view_targetstate", "change_targetstate"), Client()):
        for verb in ("pause", "retire", "backfill"):
            for response in (
                client.get(f"{PAGE}media1/{verb}/"),
                client.post(f"{PAGE}media1/{verb}/", {"seen": "{}"}),
            ):
                assert response.status_code in (302, 403)
                assert "login" in response["Location"] if response.status_code == 302 else True
    assert not TargetState.objects.filter(paused=True).exists()
    assert not TargetRun.objects.exists()
    press(client_with("operate_target"), "pause")
    assert TargetState.objects.get(pk="media1").paused


def test_a_form_of_another_site_does_nothing(site: Site) -> None:
    """CSRF."""
    client = client_with("operate_target")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    run = runs.start("backfill", "media2")
    for url in (f"{PAGE}media1/pause/", f"{RUNS}{run.pk}/pause/", f"{RUNS}{run.pk}/cancel/"):
        assert strict.post(url, {"seen": "{}"}).status_code == 403
    assert not TargetState.objects.filter(paused=True).exists()
    run.refresh_from_db()
    assert run.state == "running"


def test_a_reason_is_shown_as_text_everywhere(site: Site, admin_client: Client) -> None:
    bad = "<script>alert(1)</script>"
    press(admin_client, "pause", why=bad)
    for url in (PAGE, f"{PAGE}media1/change/", f"{PAGE}media1/history/", "/admin/"):
        page = admin_client.get(url).content.decode()
        assert "<script>alert(1)" not in page
    assert bad in TargetState.objects.get(pk="media1").note


# Work


def test_work_is_paused_resumed_and_cancelled(site: Site, admin_client: Client) -> None:
    """With what was done at the run's History, and at its target's."""
    run = runs.start("backfill", "media1")
    for verb, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert admin_client.get(f"{RUNS}{run.pk}/{verb}/").status_code == (200 if verb == "cancel" else 403)
        response = admin_client.post(f"{RUNS}{run.pk}/{verb}/")
        assert response["Location"] == f"{RUNS}{run.pk}/change/"
        run.refresh_from_db()
        assert run.state == state
    assert len(history()) == 3
    assert len(history(str(run.pk))) == 3
    response = admin_client.post(f"{RUNS}{run.pk}/resume/")
    assert said(response).endswith(f"Nothing to do: backfill {run.pk} of media1 is cancelled.")
    assert len(history()) == 3


def test_only_who_may_operate_targets_stops_their_work(site: Site) -> None:
    run = runs.start("backfill", "media1")
    client = client_with("view_targetrun", "change_targetrun")
    assert client.get(f"{RUNS}{run.pk}/change/").status_code == 200
    for verb in ("pause", "cancel"):
        assert client.post(f"{RUNS}{run.pk}/{verb}/").status_code == 403
    assert client_with("view_mediafile").get(f"{RUNS}{run.pk}/now/").status_code == 403
    run.refresh_from_db()
    assert run.state == "running"


def test_the_page_of_a_run_follows_it_until_it_is_over(site: Site, admin_client: Client) -> None:
    run = runs.start("backfill", "media1")
    now = admin_client.get(f"{RUNS}{run.pk}/now/")
    assert now.json()["over"] is False
    TargetRun.objects.filter(pk=run.pk).update(state="stopped", reason="no storage <b>has</b> it")
    found = admin_client.get(f"{RUNS}{run.pk}/now/").json()
    assert found["over"] is True
    assert "no storage &lt;b&gt;has&lt;/b&gt; it" in found["parts"]["progress"]
    page = admin_client.get(f"{RUNS}{run.pk}/change/").content.decode()
    assert "data-over" in page
    assert "/cancel/" not in page
    assert admin_client.get(f"{RUNS}?kind__exact=backfill&state__exact=stopped").status_code == 200
    assert admin_client.post(f"{RUNS}{run.pk}/change/").status_code == 403


def test_findings_are_counted_listed_and_filtered(site: Site, admin_client: Client) -> None:
    """On the page of their audit, and in a list of their own."""
    run = TargetRun.objects.create(kind="audit", target="media1", state="done", counts={"wrong": 2, "missing": 1})
    for name, what, cure in (("a<b>.txt", "wrong", "sent"), ("b.txt", "wrong", ""), ("c.txt", "missing", "sent")):
        AuditFinding.objects.create(run=run, storage="default", name=name, what=what, cure=cure, text="900 bytes")
    page = admin_client.get(f"{RUNS}{run.pk}/change/").content.decode()
    assert "a&lt;b&gt;.txt" in page
    assert f'href="{FINDINGS}?run={run.pk}&amp;what=wrong&amp;cure=sent"' in page
    for query, shown in (
        (f"run={run.pk}", {"a", "b", "c"}),
        (f"run={run.pk}&what=wrong&cure=sent", {"a"}),
        (f"run={run.pk}&what=wrong&cure=", {"b"}),
        ("what=missing", {"c"}),
        ("q=b.txt", {"b"}),
        ("run=999", set()),
        ("run=x", set()),
    ):
        page = admin_client.get(f"{FINDINGS}?{query}").content.decode()
        rows = set(re.findall(r'field-broken_name"><a[^>]*>(\w)', page))
        assert rows == shown, query
    finding = AuditFinding.objects.get(name="c.txt")
    assert admin_client.get(f"{FINDINGS}{finding.pk}/change/").status_code == 200
    assert b"2 wrong" in admin_client.get(PAGE).content
    assert admin_client.post(f"{FINDINGS}{finding.pk}/delete/").status_code == 403


def test_the_local_disk_is_audited_from_its_part_of_the_page(site: Site, admin_client: Client) -> None:
    """As a target is: said first, then done, and written down with the run."""
    site.save("a.txt")
    page = admin_client.get(PAGE).content.decode()
    assert f'href="{PAGE}:disk/audit/"' in page
    asked = admin_client.get(f"{PAGE}:disk/audit/").content.decode()
    assert "what the ledger says of the local disk" in asked
    assert "delete_unknown" not in asked
    response = press(admin_client, "audit", ":disk", why="a crash")
    run = TargetRun.objects.get()
    assert response["Location"] == f"{RUNS}{run.pk}/change/"
    assert (run.kind, run.target, run.started_by, run.state) == ("audit", "", "admin", "running")
    entry = LogEntry.objects.get(object_id=str(run.pk))
    assert "Why: a crash" in str(entry.get_change_message())
    again = press(admin_client, "audit", ":disk")
    assert "is under way" in again.content.decode()


def test_who_may_only_look_is_offered_no_audit_of_the_local_disk(site: Site) -> None:
    client = client_with("view_targetstate")
    assert ":disk/audit/" not in client.get(PAGE).content.decode()
    assert client.get(f"{PAGE}:disk/audit/").status_code == 403
    assert client.post(f"{PAGE}:disk/audit/", {"seen": "{}"}).status_code == 403
    assert not TargetRun.objects.exists()
