"""What the admin's overview shows, and that it stays quick and harmless."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import history
from replicator.ledger import counters, health, life
from replicator.models import MediaFile, Replica, TargetCounter, TargetRun, TargetSample, TargetState
from replicator.operating import runs
from replicator.overview import overview
from tests.operating.audits import Site
from tests.operating.overviews import PAGE, client_with, overview_site
from tests.people.conftest import record_many

pytestmark = pytest.mark.django_db(transaction=True)
REPLICAS = "/admin/replicator/replica/"


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return overview_site(settings, tmp_path, monkeypatch)


def card(client: Client, target: str) -> str:
    """The HTML of one target's card, its white space as it is shown."""
    name = target.encode().hex()
    html = client.get(f"{PAGE}now/").json()["parts"]["cards"]
    found = re.search(rf'<article class="replicator-card" data-key="{name}".*?</article>', html, re.DOTALL)
    assert found is not None, html
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


# What it says


def test_the_list_of_targets_is_the_overview(site: Site, admin_client: Client) -> None:
    """It is what people find at once: in the list of the app, and by its own name."""
    site.save("a.txt")
    page = admin_client.get(PAGE).content.decode()
    for part in ("media1", "media2", "Storages and their targets", "Local disk", 'data-poll="'):
        assert part in page
    assert admin_client.get(f"{PAGE}overview/")["Location"] == PAGE
    index = admin_client.get("/admin/replicator/").content.decode()
    assert f'<a href="{PAGE}">Overview of the targets</a>' in index


def test_a_card_says_how_its_target_is(site: Site, admin_client: Client) -> None:
    """Backlog with links to the rows, why and for how long it is down, when it last did something."""
    site.save("a.txt", "b.txt")
    record_many(3, status="pending", target="media2")
    record_many(2, status="failed", target="media2")
    health.mark_down("media2", "connection refused")
    TargetState.objects.filter(target="media2").update(since=timezone.now() - timedelta(minutes=12))
    shown = card(admin_client, "media2")
    assert "down" in shown
    assert "connection refused Down for 12 min." in shown
    assert "Pending 3 Failed 2 Lag" in shown
    html = admin_client.get(PAGE).content.decode()
    for status, count in (("pending", 3), ("failed", 2)):
        assert f'<a href="{REPLICAS}?status__exact={status}&amp;target=media2">{count}</a>' in html
    shown = card(admin_client, "media1")
    assert shown.startswith("media1 up Pending 0 Failed 0 Lag none")
    assert "Last success now" in shown or "second" in shown


def test_a_breaker_that_is_open_says_when_it_is_tried(site: Site, admin_client: Client) -> None:
    site.save("a.txt")
    health.trip("media1", "each request takes 20 s")
    shown = card(admin_client, "media1")
    assert "each request takes 20 s" in shown
    assert "Its circuit breaker is open: it answers its probe, and yet fails. One file is tried there in" in shown


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        ("read-only", "It is read from; nothing is sent there"),
        ("draining", "New files are not recorded for it"),
        ("retired", "Nothing is recorded for it, sent there, or read there."),
    ],
)
def test_a_card_says_what_people_want_of_its_target(site: Site, admin_client: Client, phase: str, says: str) -> None:
    life.enter("media1", phase, note="by anna: the disk is full")
    shown = card(admin_client, "media1")
    assert says in shown
    assert "Note: by anna: the disk is full" in shown
    assert phase in shown


def test_a_paused_target_says_so_and_who_wanted_it(site: Site, admin_client: Client) -> None:
    life.pause("media1", note="paused by anna: new disk")
    shown = card(admin_client, "media1")
    assert shown.startswith("media1 paused")
    assert "until it is resumed. Note: paused by anna: new disk" in shown
    assert "Resume" in shown
    assert "Pause " not in shown


def test_a_joining_target_shows_how_far_it_is(site: Site, admin_client: Client) -> None:
    """What it holds of what it should hold, and what people have to start."""
    record_many(8, status="synced", target="media2")
    Replica.objects.filter(target="media2").delete()
    MediaFile.objects.update(sha256="0" * 64)
    life.enter("media2", "joining")
    shown = card(admin_client, "media2")
    assert "joining" in shown
    assert "Joining 0% · 0 of 8 files" in shown
    assert "start a backfill" in shown
    file = MediaFile.objects.first()
    assert file is not None
    MediaFile.objects.exclude(pk=file.pk).delete()
    now = timezone.now()
    Replica.objects.create(
        file=file, target="media2", status="synced", version=file.version, since=now, due_at=now, synced_at=now
    )
    assert "100% · 1 of 1 files It has what it should hold. A last look, and it is active." in card(
        admin_client, "media2"
    )


def test_rates_are_those_of_the_last_minutes(site: Site, admin_client: Client) -> None:
    """Files and bytes in a second, and the share of attempts that failed, from counters and what they were."""
    now = timezone.now()
    for ago, put, size, errors in ((10, 1000, 0, 10), (1, 1600, 2_000_000, 20)):
        at = now - timedelta(minutes=ago)
        TargetSample.objects.create(target="media1", at=at, put=put, bytes=size, errors=errors)
    for key, value in {"put": 1900, "bytes": 8_000_000, "failed": 30, "within": 1881}.items():
        TargetCounter.objects.create(target="media1", key=key, value=value)
    rates = next(each for each in overview().targets if each.alias == "media1").rates
    assert rates.files == pytest.approx(300 / 60, rel=0.05)
    assert rates.bytes == pytest.approx(6_000_000 / 60, rel=0.05)
    assert rates.errors == pytest.approx(20 / 920)
    shown = card(admin_client, "media1")
    assert "Failed attempts 2.2%" in shown
    assert "Within 15 min 99%" in shown


def test_the_share_within_the_objective_is_that_of_a_day(site: Site, admin_client: Client) -> None:
    """A bad week long ago is over; a day on which nothing came in time is red; one without deliveries is empty."""
    now = timezone.now()
    for hours, put, within in ((30, 500, 100), (25, 1000, 200), (23, 1010, 205)):
        TargetSample.objects.create(target="media1", at=now - timedelta(hours=hours), put=put, within=within)
    for value, share in ((1190, 190 / 200), (1200, 1.0), (1000, 0.0)):
        TargetCounter.objects.update_or_create(target="media1", key="put", defaults={"value": 1200})
        TargetCounter.objects.update_or_create(target="media1", key="within", defaults={"value": value - 800})
        assert history.within(counters.read()) == {"media1": pytest.approx(share)}
    shown = admin_client.get(PAGE).content.decode()
    assert re.search(r'<div class="replicator-alarm"><dt>Within 15\s+min</dt><dd>0%', shown)
    TargetCounter.objects.filter(target="media1", key="put").update(value=1000)
    assert history.within(counters.read()) == {}


def test_charts_say_in_words_what_they_draw(site: Site, admin_client: Client) -> None:
    """Who does not see them hears their highest point, and reads the numbers in a table."""
    now = timezone.now().replace(second=0, microsecond=0)
    for minute in range(30, 0, -1):
        at = now - timedelta(minutes=minute)
        TargetSample.objects.create(
            target="media1", at=at, pending=700 if minute == 10 else 0, put=60 * (30 - minute)
        )
    html = admin_client.get(f"{PAGE}media1/change/").content.decode()
    assert re.search(r'<svg [^>]*role="img" aria-labelledby="([^"]+)" aria-describedby="([^"]+)"', html)
    assert "Backlog of media1</title>" in html
    assert re.search(r"<desc [^>]+>Now 0; the most since [^<]+ was 700, at [^<]+</desc>", html)
    assert "1 h ago" in html, "a young site sees its history, too"
    assert re.search(r"<th scope=\"row\">[^<]+</th><td>700</td><td>1.0</td>", html)
    path = re.search(r'replicator-line" d="([^"]+)"', html)
    assert path is not None
    assert re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+){29}", path[1])


def test_a_gap_in_what_was_noted_is_a_gap_in_the_chart(site: Site, admin_client: Client) -> None:
    """A line through a night without workers would say that all was well."""
    now = timezone.now().replace(second=0, microsecond=0)
    for minute in (40, 39, 38, 37, 3, 2, 1):
        TargetSample.objects.create(target="media1", at=now - timedelta(minutes=minute))
    html = admin_client.get(f"{PAGE}media1/change/").content.decode()
    path = re.search(r'replicator-line" d="([^"]+)"', html)
    assert path is not None
    assert path[1].count("M") == 2


def test_a_day_of_samples_is_added_up(site: Site) -> None:
    """Ten minutes are one point: the most that was pending in them, and the rate over them."""
    start = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=20)
    for minute in range(40):
        at = start + timedelta(minutes=minute)
        TargetSample.objects.create(target="media1", at=at, pending=minute, put=120 * minute, deleted=minute)
        TargetSample.objects.create(target="media2", at=at, pending=1)
    span = overview().history
    assert span.minutes == 24 * 60
    points = span.points["media1"]
    assert [point.at for point in points] == [start + timedelta(minutes=10 * n) for n in range(4)]
    assert [point.pending for point in points] == [9, 19, 29, 39]
    assert [point.files for point in points[1:]] == pytest.approx([121 / 60] * 3)
    assert points[0].files is None, "what was before is not known"
    assert [point.backlog for point in span.points[""]] == [10, 20, 30, 40]


def test_work_under_way_has_its_bar_and_its_buttons(site: Site, admin_client: Client) -> None:
    run = runs.start("backfill", "media1", who="anna")
    TargetRun.objects.filter(pk=run.pk).update(total=200, done=50)
    html = admin_client.get(f"{PAGE}now/").json()["parts"]["work"]
    assert "Backfill of media1" in html
    assert 'value="0.2500"' in html
    assert f'<form method="post" action="/admin/replicator/targetrun/{run.pk}/pause/">' in html
    assert f'href="/admin/replicator/targetrun/{run.pk}/cancel/"' in html
    html = client_with("view_targetstate").get(f"{PAGE}now/").json()["parts"]["work"]
    assert "Backfill of media1" in html
    assert "<form" not in html


def test_without_targets_the_page_says_how_to_name_one(site: Site, admin_client: Client, settings: Any) -> None:
    TargetState.objects.all().delete()
    settings.REPLICATOR = {"TARGETS": {}}
    page = admin_client.get(PAGE).content.decode()
    assert "There are no targets yet" in page
    assert "&quot;TARGETS&quot;" in page or '"TARGETS"' in page


def test_without_a_worker_the_page_says_how_to_start_one(site: Site, admin_client: Client) -> None:
    """Until a sweep has run, and again when none has for a minute."""
    assert "one of them is not running" in admin_client.get(PAGE).content.decode()
    counters.note_swept()
    assert "not running" not in admin_client.get(PAGE).content.decode()
    TargetCounter.objects.filter(key=counters.SWEPT_AT).update(value=timezone.now().timestamp() - 600)
    page = admin_client.get(PAGE).content.decode()
    assert "celery -A yoursite worker" in page
    assert "10 minutes ago" in page.replace("\xa0", " ")


def test_a_target_that_left_the_settings_is_still_shown(site: Site, admin_client: Client) -> None:
    """With what waits for it, and the way to have it removed."""
    record_many(3, status="pending", target="old")
    shown = card(admin_client, "old")
    assert "not in the settings" in shown
    assert "Pending 3" in shown
    assert "Retire" in shown
    assert "Pause" not in shown


def test_a_target_that_is_not_used_any_more_is_no_alarm(site: Site, admin_client: Client) -> None:
    """A host that burned down and was retired: nobody waits for it, on the page or at a screen reader."""
    for target in ("media1", "old"):
        health.note_failures(target, 9, "connection refused")
        health.mark_down(target, "connection refused")
    life.enter("media1", TargetState.Phase.RETIRED, note="retired by anna: burned down")
    shown = card(admin_client, "media1")
    assert "Nothing is recorded for it, sent there, or read there. Note: retired by anna: burned down" in shown
    for target in ("media1", "old"):
        assert "refused" not in card(admin_client, target)
    assert "No target is down." in admin_client.get(PAGE).content.decode()
    health.mark_down("media2", "connection refused")
    assert "refused" in card(admin_client, "media2")
    assert "media2 is down.</p>" in admin_client.get(PAGE).content.decode()


def test_what_failed_last_ends_as_a_sentence(site: Site, admin_client: Client) -> None:
    """What comes next is not part of it."""
    health.note_failures("media1", 2, "connection refused")
    life.enter("media1", "read-only")
    assert "The last 2 attempts failed: connection refused. It is read from;" in card(admin_client, "media1")


def test_an_audit_that_was_stopped_is_not_one_that_found_nothing(site: Site, admin_client: Client) -> None:
    """Neither on the card nor on its own page: it has not looked."""
    run = runs.start("audit", "media1")
    TargetRun.objects.filter(pk=run.pk).update(
        state="stopped", reason="is it mounted? " * 20, ended_at=timezone.now()
    )
    shown = card(admin_client, "media1")
    assert "Last audit stopped, now, after 0 files" in shown
    page = admin_client.get(f"/admin/replicator/targetrun/{run.pk}/change/").content.decode()
    assert "None: no file was looked at." in page
    assert "is as the ledger says" not in page
    runs_page = admin_client.get("/admin/replicator/targetrun/").content.decode()
    assert re.search(r'<div class="replicator-why">is it mounted\? .{150,190}…</div>', runs_page)


# Who sees it, and what it does


def test_who_may_not_look_sees_nothing(site: Site) -> None:
    client = client_with("view_mediafile")
    for page in ("", "now/", "media1/change/", "media1/now/", "overview/../now/"):
        assert client.get(f"{PAGE}{page}").status_code in (403, 404), page
    assert Client().get(f"{PAGE}now/").status_code == 302


def test_who_may_look_only_gets_no_buttons_and_no_links_to_what_is_not_theirs(site: Site) -> None:
    record_many(1, status="failed", target="media1")
    client = client_with("view_targetstate")
    page = client.get(PAGE).content.decode()
    assert "media1" in page
    assert "/pause/" not in page
    assert REPLICAS not in page
    page = client_with("view_targetstate", "view_replica", "operate_target").get(PAGE).content.decode()
    assert f"{PAGE}media1/pause/" in page
    assert REPLICAS in page


def test_looking_changes_nothing(site: Site, admin_client: Client) -> None:
    """No page of targets, whatever is asked for in its address, writes a row."""
    TargetState.objects.all().delete()
    before = list(TargetState.objects.values())
    pages = ["", "now/", "media1/change/", "media1/now/", "media1/history/", "no-such/change/"]
    pages += [f"media1/{verb}/" for verb in ("pause", "resume", "drain", "retire", "backfill", "resync", "read-only")]
    with CaptureQueriesContext(
        connection,
    ) as asked:
        for page in pages:
            admin_client.get(f"{PAGE}{page}?why=x&confirm=1&dry_run=")
    written = [q["sql"] for q in asked if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert [sql for sql in written if "replicator" in sql] == []
    assert list(TargetState.objects.values()) == before
    assert not TargetRun.objects.exists()
    assert admin_client.post(PAGE).status_code == 403
    assert admin_client.post(f"{PAGE}media1/change/", {"target": "x"}).status_code == 403


def test_what_people_and_hosts_write_is_shown_as_text(site: Site, admin_client: Client, settings: Any) -> None:
    """An alias, a reason, a note: none becomes part of the page, in its HTML or in what its script is sent."""
    bad = '"><script>alert(1)</script>'
    settings.REPLICATOR = {"TARGETS": {bad: {"BACKEND": "replicator.testing.MemoryTarget"}}}
    life.pause(bad, note=bad)
    health.mark_down(bad, bad)
    runs.start("backfill", bad, who=bad)
    record_many(1, status="pending", target=bad)
    for page in (admin_client.get(PAGE).content.decode(), *admin_client.get(f"{PAGE}now/").json()["parts"].values()):
        assert "<script>alert" not in page
    from django.contrib.admin.utils import quote

    page = admin_client.get(f"{PAGE}{quote(bad)}/change/")
    assert page.status_code == 200
    assert "<script>alert" not in page.content.decode()
    assert "<script>alert" not in admin_client.get(f"{PAGE}{quote(bad)}/resume/").content.decode()


def test_no_option_of_a_target_is_shown(site: Site, admin_client: Client, settings: Any) -> None:
    """Promise 9: among them are passwords."""
    options = {"url": "https://writer:hunter2@10.0.0.1", "password": "hunter3"}
    entry = {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": options}
    settings.REPLICATOR = {"TARGETS": {"media1": entry}}
    for page in (PAGE, f"{PAGE}now/", f"{PAGE}media1/change/", f"{PAGE}media1/pause/"):
        assert "hunter" not in admin_client.get(page).content.decode()


def test_the_page_asks_as_much_of_many_replicas_as_of_few(site: Site, admin_client: Client) -> None:
    """And never counts those that are synced."""
    record_many(2, status="pending")
    admin_client.get(PAGE)

    def asked() -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(f"{PAGE}now/").status_code == 200
        return [query["sql"] for query in queries]

    few = asked()
    record_many(300, status="pending")
    record_many(300, status="synced")
    many = asked()
    assert len(many) == len(few) <= 24
    about_replicas = [sql for sql in many if 'FROM "replicator_replica"' in sql]
    assert about_replicas
    assert all("pending" in sql or "failed" in sql for sql in about_replicas)


def test_a_count_that_takes_long_is_believed_for_a_while(
    site: Site, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten people who look at a backlog of a million cost no more than one."""
    monkeypatch.setattr("replicator.overview._QUICK", 0.0)
    monkeypatch.setattr("replicator.overview._FACTOR", 1e6)
    record_many(2, status="pending")
    assert "Pending 2" in card(admin_client, "media1")
    record_many(1, status="pending")
    assert "Pending 2" in card(admin_client, "media1")
    monkeypatch.setattr("replicator.overview._believed.until", 0.0)
    assert "Pending 3" in card(admin_client, "media1")


def test_parts_of_the_page_are_never_kept_by_a_cache(site: Site, admin_client: Client) -> None:
    assert "no-store" in admin_client.get(f"{PAGE}now/")["Cache-Control"]


def test_a_target_that_is_retired_is_none_of_those_that_are_up(site: Site, admin_client: Client) -> None:
    """Of what is used: one that is gone for good is no alarm, and no comfort."""
    life.enter("media2", TargetState.Phase.RETIRED)
    life.meet("old")
    page = admin_client.get(PAGE).content.decode()
    configured = len(site.settings.REPLICATOR["TARGETS"])
    assert f"{configured - 1} of {configured - 1} target" in page
