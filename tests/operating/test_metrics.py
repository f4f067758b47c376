"""What Prometheus reads: by its own library's parser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pytest_django import DjangoAssertNumQueries

from replicator import metrics
from replicator.ledger import counters, life
from replicator.models import CopyPart, CopyRun, NodeState, Replica, Slot, TargetRun, TargetState
from replicator.storage import ReplicatedStorage
from tests.people.conftest import fail, record, record_many, site, woken  # noqa: F401  # fixtures
from tests.processes import need
from tests.promises.harness import Site, new_database, wait_until

DOCS = Path(__file__).parents[2] / "docs"
TOKEN = "only-for-tests-0123456789"

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.operating.monitored_urls")]


@pytest.fixture
def scraped(site: ReplicatedStorage, settings: Any, client: Client) -> Any:  # noqa: F811
    """``scraped()``: the samples, as Prometheus gets them."""
    settings.REPLICATOR = {**settings.REPLICATOR, "METRICS_TOKEN": TOKEN}

    def scrape() -> list[Sample]:
        answer = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.content
        return _samples(answer.content.decode())

    return scrape


def _samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """Of the one sample with this name and exactly these labels."""
    found = [sample.value for sample in samples if sample.name == f"replicator_{name}" and sample.labels == labels]
    assert len(found) == 1, (name, labels, [s for s in samples if s.name == f"replicator_{name}"])
    return float(found[0])


def names(samples: list[Sample], name: str) -> list[dict[str, str]]:
    return [dict(sample.labels) for sample in samples if sample.name == f"replicator_{name}"]


# Values


def test_the_backlog_and_its_lag(scraped: Any) -> None:
    """By target; what failed for good is backlog, and does not make the lag grow for ever."""
    for number in range(3):
        record(f"{number}.txt", targets=("media1",))
    old = timezone.now() - timedelta(seconds=500)
    Replica.objects.filter(file__name="0.txt").update(since=old)
    fail(Replica.objects.filter(file__name="1.txt"))
    Replica.objects.filter(file__name="1.txt").update(since=old - timedelta(days=9))
    samples = scraped()
    assert value(samples, "backlog", target="media1", status="pending") == 2
    assert value(samples, "backlog", target="media1", status="failed") == 1
    assert value(samples, "backlog", target="media2", status="pending") == 0
    assert 500 <= value(samples, "lag_seconds", target="media1") < 560
    assert value(samples, "lag_seconds", target="media2") == 0
    assert value(samples, "lag_objective_seconds") == 900


def test_what_was_counted_is_a_counter_and_a_histogram(scraped: Any) -> None:
    """Buckets are cumulative, and the last is the number of all; before anything was sent there are zeros."""
    samples = scraped()
    assert value(samples, "synced_total", target="media1", operation="put") == 0
    assert value(samples, "delivery_seconds_count", target="media2") == 0
    numbers = {"put": 5, "deleted": 2, "failed": 3, "bytes": 12345, "within": 6, "seconds": 9.25}
    numbers |= {"le=0.01": 4, "le=1": 2, "le=+Inf": 1}
    counters._write([("media1", key, float(number)) for key, number in numbers.items()], add=True)
    samples = scraped()
    assert value(samples, "synced_total", target="media1", operation="put") == 5
    assert value(samples, "synced_total", target="media1", operation="delete") == 2
    assert value(samples, "attempts_failed_total", target="media1") == 3
    assert value(samples, "bytes_total", target="media1") == 12345
    assert value(samples, "within_objective_total", target="media1") == 6
    for end, below in (("0.005", 0), ("0.01", 4), ("0.5", 4), ("1.0", 6), ("300.0", 6), ("+Inf", 7)):
        assert value(samples, "delivery_seconds_bucket", target="media1", le=end) == below, end
    assert value(samples, "delivery_seconds_count", target="media1") == 7
    assert value(samples, "delivery_seconds_sum", target="media1") == 9.25


def test_how_a_target_is(scraped: Any) -> None:
    """Down, paused, and the phase of its life; one that nobody has tried yet is up."""
    life.enter("media1", "draining")
    life.pause("media1")
    TargetState.objects.filter(pk="media1").update(state="down", free_bytes=10, total_bytes=40)
    samples = scraped()
    assert value(samples, "target_up", target="media1") == 0
    assert value(samples, "target_up", target="media2") == 1
    assert value(samples, "target_paused", target="media1") == 1
    assert value(samples, "target_paused", target="media2") == 0
    phases = {phase: value(samples, "target_phase", target="media1", phase=phase) for phase in ("active", "draining")}
    assert phases == {"active": 0, "draining": 1}
    assert value(samples, "target_free_bytes", target="media1") == 10
    assert value(samples, "target_size_bytes", target="media1") == 40
    assert {"target": "media2"} not in names(samples, "target_free_bytes")


def test_work_under_way(scraped: Any) -> None:
    """Runs at targets, and at the local disk; the last audit; copies of live media."""
    hour_ago = timezone.now() - timedelta(hours=1)
    TargetRun.objects.create(kind="backfill", target="media1", total=100, done=40)
    TargetRun.objects.create(kind="audit", target="", state="paused", done=5)
    for ended, found in ((hour_ago - timedelta(days=1), 9), (hour_ago, 2)):
        TargetRun.objects.create(kind="audit", target="media2", state="done", ended_at=ended, counts={"wrong": found})
    TargetRun.objects.create(kind="audit", target="media2", state="cancelled", ended_at=timezone.now())
    CopyRun.objects.create(source="live", state="done")
    run = CopyRun.objects.create(source="live")
    CopyPart.objects.create(run=run, model="a.A", copied=3, failed=1)
    CopyPart.objects.create(run=run, model="a.B", copied=4)
    samples = scraped()
    assert value(samples, "target_runs", target="media1", kind="backfill", state="running") == 1
    assert value(samples, "target_runs", target="local disk", kind="audit", state="paused") == 1
    assert value(samples, "target_run_files", target="media1", kind="backfill") == 100
    assert value(samples, "target_run_files_done", target="media1", kind="backfill") == 40
    assert names(samples, "target_run_files") == [{"target": "media1", "kind": "backfill"}]
    assert value(samples, "audit_found", target="media2") == 2
    assert value(samples, "audit_timestamp_seconds", target="media2") == pytest.approx(hour_ago.timestamp())
    assert value(samples, "copy_runs", source="live", state="running") == 1
    assert value(samples, "copy_files", source="live", state="copied") == 7
    assert value(samples, "copy_files", source="live", state="failed") == 1


def test_workers_and_machines(scraped: Any) -> None:
    """Who is busy, who was last seen, and when the last sweep ran."""
    now = timezone.now()
    for number, end in enumerate((now + timedelta(seconds=60), now - timedelta(seconds=60), None)):
        Slot.objects.create(target="media1", number=number, lease_until=end)
    Slot.objects.create(target="media2", number=0)
    NodeState.objects.create(node="web1", seen_at=now)
    samples = scraped()
    assert names(samples, "sweep_timestamp_seconds") == []
    assert value(samples, "slots_busy", target="media1") == 1
    assert value(samples, "slots_busy", target="media2") == 0
    assert value(samples, "node_last_seen_timestamp_seconds", node="web1") == pytest.approx(now.timestamp())
    counters.note_swept()
    assert value(scraped(), "sweep_timestamp_seconds") >= now.timestamp()


def test_a_target_that_only_the_ledger_knows_is_told_of(scraped: Any, settings: Any) -> None:
    """Nothing is delivered there any more: whoever took it from the settings should see what waits."""
    life.meet("gone")
    record("a.txt", targets=("gone",))
    assert value(scraped(), "backlog", target="gone", status="pending") == 1


def test_what_is_retired_or_gone_rings_no_alarm(scraped: Any) -> None:
    """A host that died and was retired stays down for ever, and nobody audits it: alerts would never end."""
    week_ago = timezone.now() - timedelta(days=7)
    for target in ("media1", "gone", "media2"):
        TargetRun.objects.create(kind="audit", target=target, state="done", ended_at=week_ago, counts={"wrong": 2})
    TargetRun.objects.create(kind="audit", target="", node="web9", state="done", ended_at=week_ago)
    TargetRun.objects.create(kind="audit", target="", node="web1", state="done", ended_at=week_ago)
    NodeState.objects.create(node="web1", seen_at=week_ago)
    Slot.objects.create(target="gone", number=0)
    TargetState.objects.create(target="media1", state="down", phase="retired", free_bytes=1, total_bytes=100)
    samples = scraped()
    assert names(samples, "target_free_bytes") == names(samples, "target_size_bytes") == []
    for name in ("audit_timestamp_seconds", "audit_found"):
        assert {each["target"] for each in names(samples, name)} == {"media2", "local disk of web1"}
    assert [each["target"] for each in names(samples, "target_up")] == ["media2"]
    assert value(samples, "target_phase", target="media1", phase="retired") == 1
    assert [each["target"] for each in names(samples, "slots_busy")] == ["media1", "media2"]


# Cost and trouble


def test_a_scrape_is_a_handful_of_statements(
    site: ReplicatedStorage,  # noqa: F811
    django_assert_max_num_queries: Any,
) -> None:
    """However many replicas, files and samples there are."""
    record_many(300, status="pending")
    record_many(30, status="failed", target="media2")
    with django_assert_max_num_queries(12):
        list(metrics.ReplicatorCollector().collect())


def test_to_be_registered_needs_no_database(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """A project adds the collector to its own registry while it starts."""
    with django_assert_num_queries(0):
        CollectorRegistry(auto_describe=True).register(metrics.ReplicatorCollector())


def test_what_cannot_be_read_is_left_out_and_counted(
    scraped: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest is still worth having; and an alert can go by the number."""

    def fails() -> dict[str, dict[str, float]]:
        raise OperationalError("password=secret is wrong")

    samples = scraped()
    assert value(samples, "scrape_errors") == 0
    monkeypatch.setattr(counters, "read", fails)
    samples = scraped()
    assert value(samples, "scrape_errors") == 1
    assert names(samples, "synced_total") == []
    assert value(samples, "target_up", target="media1") == 1
    assert "metrics not read" in caplog.text
    assert "secret" not in caplog.text


# How they are read


def test_open_metrics_for_who_asks_for_them(scraped: Any, client: Client) -> None:
    """Prometheus does; the answer is what the format's own parser takes, to its last line."""
    scraped()
    headers = {
        "authorization": f"Bearer {TOKEN}",
        "accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    }
    answer = client.get("/metrics", headers=headers)
    assert answer["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in open_metrics(answer.content.decode())}
    assert families["replicator_synced"].type == "counter"
    assert families["replicator_delivery_seconds"].type == "histogram"
    assert answer.content.endswith(b"# EOF\n")


def test_names_are_as_prometheus_wants_them(scraped: Any, client: Client) -> None:
    """One prefix, base units, _total for counters only, and a help text for each."""
    answer = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    for family in text_string_to_metric_families(answer.content.decode()):
        assert re.fullmatch(r"replicator(_[a-z]+)+", family.name)
        assert family.documentation
        totals = [sample.name.endswith("_total") for sample in family.samples]
        assert all(totals) if family.type == "counter" else not any(totals)
        assert not re.search(r"_(ms|millis|kb|mb|minutes|hours)\b", family.name)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong-0123456789-0123456789"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer \xe4\xf6"},
    ],
)
def test_nobody_else_reads_them(scraped: Any, client: Client, headers: dict[str, str]) -> None:
    """Safe unless somebody opens them; the answer says what to write."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    text = answer.content.decode()
    assert 'REPLICATOR["METRICS_TOKEN"]' in text
    assert TOKEN not in text
    assert "replicator_" not in text


def test_without_a_token_in_the_settings_none_opens_them(site: ReplicatedStorage, client: Client) -> None:  # noqa: F811
    """An empty one least of all."""
    for given in ("", "Bearer", "Bearer ", 'Bearer ""'):
        assert client.get("/metrics", headers={"authorization": given}).status_code == 401


def test_staff_who_are_logged_in_may_look(site: ReplicatedStorage, client: Client) -> None:  # noqa: F811
    """A person with a browser has no token to send. Others who are logged in may not."""
    client.force_login(User.objects.create_user("visitor"))
    assert client.get("/metrics").status_code == 401
    client.force_login(User.objects.create_user("operator", is_staff=True))
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "replicator_backlog" in answer.content.decode()


def test_a_scrape_leaves_no_session_and_is_never_kept(scraped: Any, client: Client) -> None:
    """Neither a cookie, nor a row in the database; no proxy may answer with what was."""
    answer = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert not answer.cookies
    assert "no-store" in answer["Cache-Control"]
    assert client.post("/metrics").status_code == 405
    head = client.head("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("token", ["short", 12345678901234567890, "with spaces in it, of all things", "ä" * 20])
def test_a_token_that_cannot_be_sent_is_refused(settings: Any, token: object) -> None:
    """With what to write; and the token itself is in no message."""
    from replicator import conf

    (problem,) = conf.problems({"METRICS_TOKEN": token})
    assert "secrets.token_urlsafe" in problem.hint
    assert str(token) not in problem.message + problem.hint
    assert TOKEN not in repr(conf.Config(metrics_token=TOKEN))


# Several processes


@pytest.fixture(params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    hosts = {"media1": request.getfixturevalue("nginx"), "media2": request.getfixturevalue("embedded")}
    url = new_database(request.getfixturevalue("postgres")) if request.param == "postgresql" else ""
    redis = request.getfixturevalue("redis")
    # Another site's flag would say that a wake-up is waiting.
    redis.flush()
    with Site(tmp_path, hosts, broker=redis.url, database=url, replicator={"METRICS_TOKEN": TOKEN}) as running:
        yield running


def test_any_process_answers_for_all_of_them(running: Site) -> None:
    """Workers count, web processes answer: two of these, one after the other started, say the same."""
    names = [f"{number}.txt" for number in range(40)]
    for _ in range(2):
        running.worker(2)
    running.beat()
    for name in names:
        running.operator.call("save", name=name, data="12345")
    running.operator.call("delete", name=names.pop())
    running.wait_for_agreement(names)
    shells = [running.shell() for _ in range(2)]

    def scrape(number: int) -> list[Sample]:
        return _samples(shells[number].call("scrape", token=TOKEN))

    def all_counted() -> bool:
        samples = scrape(0)
        done = [
            value(samples, "synced_total", target=target, operation=operation)
            for target in ("media1", "media2")
            for operation in ("put", "delete")
        ]
        return done[0] >= 39 and done[2] >= 39 and done[1] == done[3] == 1

    wait_until(all_counted, say=lambda: (scrape(0), running.logs()))

    def counters_of(number: int) -> list[Sample]:
        return [sample for sample in scrape(number) if "total" in sample.name or "bucket" in sample.name]

    # What is sent again, after a doubt, may be counted in between.
    wait_until(lambda: counters_of(0) == counters_of(1), say=lambda: (counters_of(0), counters_of(1)))
    first = counters_of(0)
    assert value(first, "bytes_total", target="media1") >= 39 * 5


# What the documentation has of them


def _documented_names(text: str) -> set[str]:
    return set(re.findall(r"\breplicator_[a-z_]+", text))


@pytest.fixture
def exposed(scraped: Any, client: Client) -> set[str]:
    """Every name that a query may have."""
    answer = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).content.decode()
    found = set()
    for kind, ends in (("counter", ["_total"]), ("histogram", ["_bucket", "_sum", "_count"]), ("gauge", [""])):
        for name in re.findall(rf"^# TYPE (\S+) {kind}$", answer, re.MULTILINE):
            found |= {name + end for end in ends} if kind != "counter" else {name}
    return found


def test_the_dashboard_shows_nothing_that_there_is_not(exposed: set[str]) -> None:
    """docs/grafana.json imports into Grafana: its panels have queries, units, and a data source to choose."""
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    used = _documented_names(" ".join(expressions))
    assert used - exposed == set()
    # All of them are somewhere on it, but for what only alerts need.
    assert exposed - used - _documented_names((DOCS / "alerts.yml").read_text()) == set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert {"x", "y", "w", "h"} == panel["gridPos"].keys()
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["id"] is None
    for name in re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])):
        assert name in {*variables, "__rate_interval"}, name


def _rules() -> list[dict[str, Any]]:
    import yaml

    (group,) = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    assert group["name"] == "replicator"
    rules = group["rules"]
    assert isinstance(rules, list)
    return rules


def test_the_alerts_ask_for_nothing_that_there_is_not(exposed: set[str]) -> None:
    """A rule over a name that nobody exposes would be silent for ever."""
    rules = _rules()
    for rule in rules:
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}, rule
        assert _documented_names(rule["expr"]) <= exposed, rule["alert"]
        assert _documented_names(rule["expr"]), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == rule["annotations"].keys()
        assert re.fullmatch(r"\d+[smhd]", rule["for"])
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_prometheus_takes_the_alerts() -> None:
    """By its own tool."""
    import subprocess

    promtool = need("prometheus", "promtool")
    done = subprocess.run(
        [promtool, "check", "rules", str(DOCS / "alerts.yml")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_explained(exposed: set[str]) -> None:
    """The table of docs/operate.md has each by its name."""
    table = (DOCS / "operate.md").read_text()
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    bare = {name for name in bare if name not in ("replicator_delivery",)}
    assert {name for name in bare if f"`{name}`" not in table} == set()
