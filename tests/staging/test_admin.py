"""What people see and do of copies in the admin."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import staging
from replicator.admin.copyforms import CopyForm
from replicator.models import CopyChunk, CopyFailure, CopyFile, CopyPart, CopyRun
from replicator.staging import Choices
from replicator.staging.filefields import file_fields
from tests.staging.live import Staging
from tests.staging.shop.models import Letter

pytestmark = pytest.mark.django_db(transaction=True)
RUNS = "/admin/replicator/copyrun/"
FAILURES = "/admin/replicator/copyfailure/"
ADD = f"{RUNS}add/"
LETTERS = "shop.Letter.scan"


def page_of(run: CopyRun) -> str:
    return f"{RUNS}{run.pk}/change/"


def client_with(*permissions: str, **options: Any) -> Client:
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    found = Permission.objects.filter(content_type__app_label__in=["replicator", "shop"], codename__in=permissions)
    assert found.count() == len(permissions)
    user.user_permissions.set(found)
    client = Client(**options)
    client.force_login(user)
    return client


def shown(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, response
    return str(response.content.decode())


def words(page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def start(client: Client, **data: Any) -> Any:
    return client.post(ADD, {"only": [LETTERS], "compare": "size", **data})


def said(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def history(run: CopyRun) -> list[tuple[str, str]]:
    """Who did what, the oldest first."""
    entries = LogEntry.objects.filter(object_id=str(run.pk), content_type__model="copyrun").order_by("pk")
    return [(entry.user.get_username(), entry.get_change_message()) for entry in entries]


def failing(site: Staging) -> CopyRun:
    """A run that is done, with a file that is missing and one that can't be written."""
    site.fill(3)
    (site.live / "letters/00001.txt").unlink()
    (site.media / "letters").mkdir()
    (site.media / "letters/00002.txt").mkdir()
    run = site.start()
    site.work()
    return run


# The list


def test_an_empty_list_says_what_copies_are_for(site: Staging, admin_client: Client) -> None:
    page = shown(admin_client, RUNS)
    assert "Nothing has been copied yet" in page
    assert "read from the storage <code>live</code>" in page
    assert f'href="{ADD}" class="addlink"' in page


def test_a_site_that_is_not_for_staging_says_what_to_write_and_starts_nothing(
    site: Staging, admin_client: Client, settings: Any
) -> None:
    """Promise: a live site can't be copied to by mistake, and there is no button that only fails."""
    settings.REPLICATOR = {"TARGETS": {}}
    page = shown(admin_client, RUNS)
    assert '"STAGING": {"SOURCE": "live"}' in unescape(page)
    assert f'href="{ADD}"' not in page
    assert admin_client.get(ADD).headers["Location"] == RUNS
    start(admin_client)
    assert not CopyRun.objects.exists()


def test_the_list_shows_how_each_copy_is(site: Staging, admin_client: Client) -> None:
    run = failing(site)
    page = shown(admin_client, RUNS)
    assert f'<a href="{page_of(run)}">{run.pk} from live</a>' in page
    assert '<span class="replicator-badge replicator-done" title="">done</span>' in page
    assert f"{FAILURES}?run={run.pk}&amp;state=missing" in page
    assert 'value="1.0000"' in page
    assert "a test" in page


def test_a_copy_that_is_held_up_says_why_in_the_list(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    run = site.start()
    CopyRun.objects.filter(pk=run.pk).update(trouble="503 Slow Down <b>")
    assert "503 Slow Down &lt;b&gt;" in shown(admin_client, RUNS)
    staging.cancel(run)
    assert "503 Slow Down" not in shown(admin_client, RUNS), "it is over"


@pytest.mark.parametrize("page", [RUNS, FAILURES])
def test_a_longer_list_takes_no_more_queries(site: Staging, admin_client: Client, page: str) -> None:
    failing(site)
    numbers = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert shown(admin_client, page)
        assert not [q["sql"] for q in queries if "DISTINCT" in q["sql"]]
        numbers.append(len(queries))
        for _ in range(3):
            site.start()
            site.work()
    assert numbers[0] == numbers[1] <= 8


# Starting


def test_the_form_as_it_is_copies_all_that_is_missing(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    form = admin_client.get(ADD).context["form"]
    run_choices = {name: form[name].value() for name in form.fields if form[name].value() not in (None, False)}
    response = admin_client.post(ADD, run_choices)
    run = CopyRun.objects.get()
    assert response.headers["Location"] == page_of(run)
    assert Choices.from_json(run.choices) == Choices()
    assert (run.source, run.started_by, run.state) == ("live", "admin", "running")
    assert said(response) == [f"Copy {run.pk} from live has begun."]
    assert history(run) == [
        ("admin", "Started: All file fields. Files that are here with the same size are left alone.")
    ]
    assert site.messages, "workers are told"


def test_every_choice_reaches_the_run(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    response = start(
        admin_client,
        filters="shop.Letter:pk__gte=2\n\n  shop.Letter:scan__contains=é \r\n",
        sample="5%",
        since="2026-01-01 12:00",
        max_size="20M",
        compare="checksum",
        newest_first="on",
        dry_run="on",
        overwrite_newer="on",
        require_read_only="",
    )
    assert response.status_code == 302, response.context["form"].errors
    choices = Choices.from_json(CopyRun.objects.get().choices)
    assert [str(each) for each in choices.filters] == ["shop.Letter:pk__gte=2", "shop.Letter:scan__contains=é"]
    assert choices == Choices(
        only=("shop.Letter",),
        filters=choices.filters,
        since=timezone.make_aware(datetime(2026, 1, 1, 12)),
        sample=5.0,
        max_size=20 * 2**20,
        compare="checksum",
        newest_first=True,
        dry_run=True,
        overwrite_newer=True,
    )


def test_a_source_that_takes_writes_is_refused_if_one_says_so(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    response = start(admin_client, require_read_only="on")
    assert response.status_code == 200
    assert not CopyRun.objects.exists()
    assert "can be written" in response.context["form"].non_field_errors()[0]
    assert [path.name for path in site.live.rglob("*")] == ["letters", "00000.txt"], "nothing is left there"


@pytest.mark.parametrize(
    ("chosen", "only"),
    [
        ({"shop.Photo"}, ("shop.Photo",)),
        ({"shop.Photo.thumb"}, ("shop.Photo.thumb",)),
        ({"shop.Letter", "shop.Photo.thumb"}, ("shop.Letter", "shop.Photo.thumb")),
    ],
)
def test_what_is_ticked_is_kept_in_the_fewest_words(site: Staging, chosen: set[str], only: tuple[str, ...]) -> None:
    """A field that a model gets later belongs to a run of that model."""
    ticked = [f"{of.label}.{n}" for of in file_fields() for n in of.names if {of.label, f"{of.label}.{n}"} & chosen]
    form = CopyForm({"only": ticked, "compare": "size"})
    assert form.is_valid(), form.errors
    assert form.choices.only == only


def test_the_tree_has_each_file_field_once_and_says_how_many_an_app_has(site: Staging, admin_client: Client) -> None:
    page = shown(admin_client, ADD)
    fields = [f"{of.label}.{name}" for of in file_fields() for name in of.names]
    assert re.findall(r'name="only" value="([^"]+)"', page) == fields
    assert f"{len(fields)} file fields" in page
    assert page.count(" checked data-tree") == len(fields)


@pytest.mark.parametrize(
    ("field", "typed", "error"),
    [
        ("sample", "five", "'five' is no sample. Write percents, such as 5% or 0.1%."),
        ("since", "yesterday", "'yesterday' is no date. Write such as 2026-01-01"),
        ("max_size", "large", "'large' is no size of a file. Write such as 500 KiB, 20M or 1.5 GiB."),
        ("filters", "shop.Letter:scam=1", "shop.Letter has no field 'scam'. Did you mean 'scan'?"),
        ("filters", "shop.Photo:pk=1", "shop.Photo is not chosen"),
        ("only", "shop.Letter.nothing", "shop.Letter.nothing is not one of the available choices."),
    ],
)
def test_what_can_not_be_is_said_beside_its_field_and_nothing_is_lost(
    site: Staging, admin_client: Client, field: str, typed: str, error: str
) -> None:
    others = {"filters": "shop.Letter:pk=7", "sample": "5%", "since": "30d", "max_size": "1G", "dry_run": "on"}
    response = start(admin_client, **{**others, field: typed})
    assert response.status_code == 200
    form = response.context["form"]
    assert list(form.errors) == [field]
    assert error in form.errors[field][0]
    page = response.content.decode()
    for name, text in others.items():
        if name != "dry_run":
            assert (typed if name == field else text) in unescape(page)
    assert re.search(r'name="dry_run"[^>]* checked', page)
    assert re.search(r'value="shop.Letter.scan"[^>]* checked', page) or field == "only"
    assert not re.search(r'value="shop.Photo.thumb"[^>]* checked', page)
    assert not CopyRun.objects.exists()


def test_each_wrong_filter_has_its_own_error(site: Staging, admin_client: Client) -> None:
    response = start(admin_client, filters="nonsense\nshop.Letter:pk=1\nshop.Letter:pk=one")
    first, second = response.context["form"].errors["filters"]
    assert first.startswith("'nonsense' is no filter.")
    assert second.startswith("shop.Letter:pk=one:")


def test_nothing_ticked_is_not_everything(site: Staging, admin_client: Client) -> None:
    response = admin_client.post(ADD, {"compare": "size"})
    assert response.context["form"].errors["only"] == ["Choose at least one file field."]
    assert not CopyRun.objects.exists()


def test_a_refusal_to_start_is_on_top_and_nothing_is_lost(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    under_way = site.start()
    response = start(admin_client, sample="7%", filters="shop.Letter:pk=1")
    assert response.status_code == 200
    (error,) = response.context["form"].non_field_errors()
    assert error.startswith(f"Nothing was started: copy {under_way.pk} is running: two would copy the same files.")
    page = response.content.decode()
    assert 'value="7%"' in page
    assert "shop.Letter:pk=1" in page
    assert f'<a href="{page_of(under_way)}">Copy {under_way.pk} from live is running.</a>' in page
    assert CopyRun.objects.count() == 1
    assert start(admin_client, dry_run="on").status_code == 302, "a dry run may be beside it"


def test_another_can_be_started_with_the_choices_of_one(site: Staging, admin_client: Client) -> None:
    """After a dry run, what was counted can be copied without choosing it again."""
    site.fill(1)
    start(
        admin_client,
        dry_run="on",
        sample="0.5%",
        max_size="20M",
        since="2026-01-01",
        compare="nothing",
        filters="shop.Letter:pk__gte=2",
        newest_first="on",
    )
    site.work()
    run = CopyRun.objects.get()
    page = shown(admin_client, page_of(run))
    assert f'href="{ADD}?like={run.pk}"' in page
    form = admin_client.get(f"{ADD}?like={run.pk}").context["form"]
    values = {name: form[name].value() for name in form.fields if form[name].value() not in (None, False)}
    again = CopyForm(values)
    assert again.is_valid(), again.errors
    assert again.choices.as_json() == {**run.choices, "dry_run": False}
    assert admin_client.get(f"{ADD}?like=999999").status_code == 200
    assert admin_client.get(f"{ADD}?like=x").status_code == 200


# Watching


def test_a_running_copy_shows_how_far_it_is(site: Staging, admin_client: Client) -> None:
    site.configure(workers=1)
    site.fill(700)
    run = site.start(only=("shop.Letter",))
    site.work(most=1)
    CopyPart.objects.filter(run=run).update(bytes=3 * 2**20)
    CopyRun.objects.filter(pk=run.pk).update(resumed_at=timezone.now() - timedelta(seconds=100))
    page = words(shown(admin_client, page_of(run)))
    assert "running" in page
    assert "500 of 700 rows walked" in page or "700 of 700 rows walked" in page
    assert "71%" in page
    assert "5.0 files/s · 30.7 KB/s · about 41 s left" in page
    assert "Copied 500 3.0 MB" in page
    assert "All file fields" not in page
    assert "Only shop.Letter." in page


def test_rows_that_are_not_counted_yet_are_said_to_be(site: Staging, admin_client: Client) -> None:
    site.fill(3)
    run = site.start()
    CopyPart.objects.filter(run=run).update(total=None, walked=False)
    page = shown(admin_client, page_of(run))
    assert "counting…" in page
    assert 'data-share="run"></progress>' in page, "without a value: a bar that says that it does not know"


def test_files_that_wait_for_a_worker_are_not_done(site: Staging, admin_client: Client) -> None:
    """Rows are walked at once, where there are few: what counts is what became of their files."""
    site.fill(4)
    run = site.start(only=("shop.Letter",))
    assert CopyPart.objects.get(run=run).walked
    answer = admin_client.get(f"{RUNS}{run.pk}/progress/").json()
    assert (answer["run"]["texts"]["percent"], answer["run"]["share"]) == ("0%", 0.0)
    site.work()
    answer = admin_client.get(f"{RUNS}{run.pk}/progress/").json()
    assert (answer["run"]["texts"]["percent"], answer["over"]) == ("100%", True)


def test_the_script_is_told_what_the_page_shows(site: Staging, admin_client: Client) -> None:
    """The numbers that a page begins with are those that it goes on with: nothing jumps when the script comes."""
    run = failing(site)
    response = admin_client.get(page_of(run))
    answer = admin_client.get(f"{RUNS}{run.pk}/progress/")
    assert answer.json() == response.context["page"].as_json()
    assert "no-store" in answer.headers["Cache-Control"]
    page = response.content.decode()
    keys = set(re.findall(r'data-(?:text|share|flag)="([^"]+)"', page))
    told = answer.json()
    for key in keys:
        name, _, text = key.partition(".")
        part = told["run"] if name == "run" else told["models"][int(name)]
        assert not text or text in part["texts"] or text in part["flags"], key


def test_a_source_in_trouble_says_why_and_when_it_goes_on(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    run = site.start()
    due = timezone.now() + timedelta(seconds=39.5)
    CopyRun.objects.filter(pk=run.pk).update(trouble="<script>503 Slow Down", due_at=due, attempts=1)
    page = shown(admin_client, page_of(run))
    assert "&lt;script&gt;503 Slow Down" in page
    assert re.search(r"It goes on by itself in (39|40) s\.", page)
    assert "Try again now" in page
    flags = admin_client.get(f"{RUNS}{run.pk}/progress/").json()["run"]["flags"]
    assert flags == {"trouble": True, "pause": True, "resume": False, "now": True, "cancel": True, "like": False}


def test_a_model_whose_rows_can_not_be_read_says_why(site: Staging, admin_client: Client) -> None:
    site.fill(1)
    run = site.start()
    CopyPart.objects.filter(run=run, model="shop.Letter").update(trouble="no such table <b>", walked=True)
    page = shown(admin_client, page_of(run))
    assert "no such table &lt;b&gt;" in page
    assert "given up" in page


def test_failed_files_that_are_tried_again_are_announced(site: Staging, admin_client: Client) -> None:
    run = failing(site)
    CopyRun.objects.filter(pk=run.pk).update(state="running", ended_at=None)
    failed = CopyFile.objects.filter(run=run, state="missing")
    failed.update(state="failed", due_at=timezone.now() + timedelta(seconds=39.5))
    page = shown(admin_client, page_of(run))
    assert re.search(r"1 failed file is tried again in (39|40) s\.", page)
    assert f"{FAILURES}?run={run.pk}&amp;state=failed" in page


def test_a_dry_run_says_what_would_be_copied(site: Staging, admin_client: Client) -> None:
    site.fill(3)
    run = site.start(dry_run=True)
    site.work()
    page = words(shown(admin_client, page_of(run)))
    assert "Would be copied 3" in page
    assert "dry run: nothing is copied" in page
    assert f"{run.pk} from live (dry run)" in shown(admin_client, RUNS)
    assert not site.held()


def test_the_run_of_another_version_is_shown(site: Staging, admin_client: Client) -> None:
    """One that only a newer version of the code understands breaks no list."""
    run = CopyRun.objects.create(source="live", choices={"from_the_future": 1}, state="done", ended_at=timezone.now())
    assert "started by another version" in shown(admin_client, page_of(run))
    assert shown(admin_client, RUNS)
    assert admin_client.get(f"{ADD}?like={run.pk}").status_code == 200


def test_pages_need_no_inline_script_or_style(site: Staging, admin_client: Client) -> None:
    """A site whose Content-Security-Policy allows neither shows them as they are meant."""
    run = failing(site)
    for url in (RUNS, ADD, page_of(run), FAILURES):
        page = shown(admin_client, url)
        mine = page.partition('id="content"')[2]
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", mine), url


# Stopping


def test_people_pause_resume_and_cancel(site: Staging, admin_client: Client) -> None:
    site.fill(3)
    run = site.start()
    response = admin_client.post(f"{RUNS}{run.pk}/pause/")
    assert response.headers["Location"] == page_of(run)
    assert said(response)[0].startswith(f"Copy {run.pk} from live is paused.")
    run.refresh_from_db()
    assert run.state == "paused"
    site.work()
    assert not site.held()
    response = admin_client.post(f"{RUNS}{run.pk}/resume/")
    assert f"Copy {run.pk} from live goes on." in said(response)
    admin_client.post(f"{RUNS}{run.pk}/cancel/")
    run.refresh_from_db()
    assert run.state == "cancelled"
    assert not CopyChunk.objects.filter(run=run).exists()
    assert history(run) == [("admin", "Paused."), ("admin", "Resumed."), ("admin", "Cancelled.")]
    assert f'href="{RUNS}{run.pk}/history/"' in shown(admin_client, page_of(run))
    assert "Cancelled." in shown(admin_client, f"{RUNS}{run.pk}/history/")


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_what_is_over_can_not_be_steered(site: Staging, admin_client: Client, verb: str) -> None:
    run = failing(site)
    response = admin_client.post(f"{RUNS}{run.pk}/{verb}/")
    assert said(response) == [f"Nothing to do: Copy {run.pk} from live is done."]
    assert history(run) == []
    flags = admin_client.get(f"{RUNS}{run.pk}/progress/").json()["run"]["flags"]
    assert flags == {"trouble": False, "pause": False, "resume": False, "now": False, "cancel": False, "like": True}


def test_cancel_asks_first_and_says_what_it_does(site: Staging, admin_client: Client) -> None:
    """The one thing here that can't be undone."""
    site.configure(workers=1)
    site.fill(1600)
    run = site.start(only=("shop.Letter",))
    site.work(most=3)
    page = words(shown(admin_client, f"{RUNS}{run.pk}/cancel/"))
    assert "What is copied stays: 1,500 files so far." in page
    assert "can't be resumed" in page
    run.refresh_from_db()
    assert run.state == "running"
    admin_client.post(f"{RUNS}{run.pk}/cancel/")
    assert len(site.held()) == 1500


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_a_link_or_another_site_stops_nothing(site: Staging, verb: str) -> None:
    """Nothing happens by GET, or without the form's token."""
    site.fill(3)
    run = site.start()
    client = client_with("view_copyrun", "change_copyrun", enforce_csrf_checks=True)
    assert client.get(f"{RUNS}{run.pk}/{verb}/").status_code == (200 if verb == "cancel" else 403)
    assert client.post(f"{RUNS}{run.pk}/{verb}/").status_code == 403
    run.refresh_from_db()
    assert run.state == "running"


# Who may do what


def test_who_may_only_look_is_offered_nothing_else(site: Staging) -> None:
    site.fill(1)
    run = site.start(dry_run=True)
    client = client_with("view_copyrun", "view_copyfailure")
    page = shown(client, page_of(run))
    assert "Pause" not in page
    assert "like=" not in page
    assert f'href="{ADD}"' not in shown(client, RUNS)
    assert client.get(ADD).status_code == 403
    assert start(client).status_code == 403
    for verb in ("pause", "resume", "cancel"):
        assert client.post(f"{RUNS}{run.pk}/{verb}/").status_code == 403
    assert client.get(f"{RUNS}{run.pk}/progress/").status_code == 200
    run.refresh_from_db()
    assert (run.state, CopyRun.objects.count()) == ("running", 1)


def test_who_may_start_need_not_be_one_who_may_stop(site: Staging) -> None:
    site.fill(1)
    starter = client_with("add_copyrun", "view_copyrun")
    assert start(starter).status_code == 302
    run = CopyRun.objects.get()
    assert "Pause" not in shown(starter, page_of(run))
    stopper = client_with("change_copyrun")
    assert "Pause" in shown(stopper, page_of(run))
    assert stopper.get(ADD).status_code == 403
    stopper.post(f"{RUNS}{run.pk}/pause/")
    assert [what for _, what in history(run)][1:] == ["Paused."]


def test_who_may_only_start_is_told_that_it_has_begun(site: Staging) -> None:
    """And is not led to a page that is forbidden."""
    site.fill(1)
    response = client_with("add_copyrun").post(ADD, {"only": [LETTERS], "compare": "size"}, follow=True)
    assert response.status_code == 200
    assert f"Copy {CopyRun.objects.get().pk} from live has begun." in response.content.decode()


def test_who_may_not_look_sees_nothing(site: Staging) -> None:
    site.fill(1)
    run = site.start(dry_run=True)
    client = client_with("view_replica")
    for url in (RUNS, ADD, page_of(run), f"{RUNS}{run.pk}/progress/", f"{RUNS}{run.pk}/cancel/", FAILURES):
        assert client.get(url).status_code == 403, url
    assert Client().get(f"{RUNS}{run.pk}/progress/").status_code == 302, "to the log-in page"


def test_nobody_writes_rows_in_the_admin(site: Staging, admin_client: Client) -> None:
    run = failing(site)
    failure = CopyFailure.objects.first()
    assert failure is not None
    assert admin_client.post(page_of(run), {"state": "paused"}).status_code == 403
    assert admin_client.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{FAILURES}{failure.pk}/change/", {"name": "b"}).status_code == 403
    assert admin_client.get(f"{FAILURES}add/").status_code == 403
    for url in (f"{RUNS}999999/change/", f"{RUNS}999999/progress/"):
        assert admin_client.get(url).status_code == 404


# Failures


def test_failures_say_what_could_not_be_copied_and_why(site: Staging, admin_client: Client) -> None:
    run = failing(site)
    page = shown(admin_client, FAILURES)
    assert '<span class="replicator-badge replicator-missing" title="missing at the source">missing</span>' in page
    assert '<span class="replicator-badge replicator-failed" title="failed">failed</span>' in page
    letter = Letter.objects.get(scan="letters/00001.txt")
    assert f"shop.Letter {letter.pk}<br>scan" in page
    failure = CopyFailure.objects.get(run=run, state="failed")
    assert failure.error_text in unescape(page)
    one = shown(admin_client, f"{FAILURES}{failure.pk}/change/")
    assert failure.error_text in unescape(one)
    assert page_of(run) in one


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"letters/00001.txt", "letters/00002.txt"}),
        ("?run={run}", {"letters/00001.txt", "letters/00002.txt"}),
        ("?run=0", set()),
        ("?run=nonsense", set()),
        ("?state=failed", {"letters/00002.txt"}),
        ("?state=missing&model=shop.Letter", {"letters/00001.txt"}),
        ("?model=shop.Sheet", set()),
        ("?model=gone.Model", set()),
        ("?q=0002", {"letters/00002.txt"}),
    ],
)
def test_failures_can_be_filtered(site: Staging, admin_client: Client, query: str, names: set[str]) -> None:
    run = failing(site)
    response = admin_client.get(FAILURES + query.format(run=run.pk))
    assert {row.name for row in response.context["cl"].result_list} == names


def test_a_failure_leads_to_its_object_for_those_who_may_see_it(site: Staging, settings: Any) -> None:
    """In an admin site of any name; elsewhere, and for others, it is a text."""
    settings.ROOT_URLCONF = "tests.staging.staff_urls"
    failing(site)
    letter = Letter.objects.get(scan="letters/00001.txt")
    link = f'<a href="/staff/shop/letter/{letter.pk}/change/">shop.Letter {letter.pk}</a>'
    allowed = client_with("view_copyfailure", "view_copyrun", "view_letter")
    page = shown(allowed, "/staff/replicator/copyfailure/")
    assert link in page
    assert "/staff/replicator/copyrun/" in page
    failure = CopyFailure.objects.get(name=letter.scan.name)
    assert link in shown(allowed, f"/staff/replicator/copyfailure/{failure.pk}/change/")
    assert "/staff/replicator/copyrun/" in shown(allowed, f"/staff/replicator/copyrun/{failure.run_id}/change/")
    others = client_with("view_copyfailure")
    assert link not in shown(others, "/staff/replicator/copyfailure/")


def requeue(client: Client, failures: Any) -> list[str]:
    ids = list(failures.values_list("pk", flat=True))
    response = client.post(FAILURES, {"action": "requeue_failures", "_selected_action": ids, "index": 0})
    assert response.status_code == 302, response.content[:300]
    return said(response)[-1:]


def test_requeue_tries_failures_again_and_leaves_cancelled_copies_alone(site: Staging, admin_client: Client) -> None:
    cancelled = failing(site)
    CopyRun.objects.filter(pk=cancelled.pk).update(state="cancelled")
    run = site.start()
    site.work()
    assert CopyFailure.objects.filter(run=run).count() == 2
    site.write("letters/00001.txt", b"put there since")
    (site.media / "letters/00002.txt").rmdir()
    assert requeue(admin_client, CopyFailure.objects.all()) == [
        "2 failures are tried again. 2 are of copies that were cancelled and were left as they are."
    ]
    site.later(run)
    staging.sweep()
    site.work()
    run.refresh_from_db()
    assert run.state == "done"
    assert not CopyFailure.objects.filter(run=run).exists()
    assert site.held()["letters/00001.txt"] == b"put there since"
    assert history(run) == [("admin", "Requeued 2 failures.")]
    assert history(cancelled) == []
    assert requeue(admin_client, CopyFailure.objects.filter(run=cancelled)) == [
        "Nothing to do: none of the selected can be tried again. "
        "2 are of copies that were cancelled and were left as they are."
    ]


def test_who_may_not_change_failures_can_not_requeue_them(site: Staging) -> None:
    """The action is neither offered nor done."""
    failing(site)
    client = client_with("view_copyfailure", "view_copyrun")
    assert "requeue_failures" not in shown(client, FAILURES)
    ids = list(CopyFailure.objects.values_list("pk", flat=True))
    client.post(FAILURES, {"action": "requeue_failures", "_selected_action": ids, "index": 0})
    assert CopyFailure.objects.filter(state="missing").count() == 1
    allowed = client_with("change_copyfailure")
    assert requeue(allowed, CopyFailure.objects.all()) == ["2 failures are tried again."]
