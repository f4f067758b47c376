"""A real Prometheus: that it may read the metrics as the documentation says, and what its alerts say when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.documented import documented, filled
from tests.processes import Server, need
from tests.promises.harness import wait_until
from tests.servers import CHECKOUT

DOCS = CHECKOUT / "docs"
TOKEN = "only-for-tests-0123456789"


class Gunicorn(Server):
    """The reference project."""

    ready_within = 90.0

    def prepare(self) -> None:
        self.run([sys.executable, str(CHECKOUT / "manage.py"), "migrate", "--verbosity", "0"])

    def command(self) -> list[str]:
        gunicorn = str(Path(sys.executable).with_name("gunicorn"))
        return [gunicorn, "project.wsgi", "--bind", f"127.0.0.1:{self.port}", "--workers", "2"]

    def environment(self) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "VAR": str(self.folder / "var"),
            "ALLOWED_HOSTS": "127.0.0.1",
            "SECRET_KEY": "tests only",
            "METRICS_TOKEN": TOKEN,
            "MEDIA_HOSTS": "media1=http://127.0.0.1:9",
        }


class Prometheus(Server):
    """With the configuration that docs/operate.md shows."""

    ready_within = 90.0

    def __init__(self, site: str, token: str) -> None:
        super().__init__()
        self._site, self._token = site, token

    def prepare(self) -> None:
        (self.folder / "token").write_text(self._token)
        shown = documented("operate.md", "yaml", under="Metrics and alerts")
        values = {
            "scheme: https": "scheme: http",
            "/etc/prometheus/replicator-token": str(self.folder / "token"),
            "www.example.com": self._site,
            "alerts.yml": str(DOCS / "alerts.yml"),
        }
        fast = "global: {scrape_interval: 3s, scrape_timeout: 3s, evaluation_interval: 1s}\n"
        (self.folder / "prometheus.yml").write_text(fast + filled(shown, values))

    def command(self) -> list[str]:
        return [
            need("prometheus", "prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, what: str, **values: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urlencode(values)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> str | None:
        found = self.ask("query", query=query)["result"]
        return str(found[0]["value"][1]) if found else None


def test_prometheus_reads_the_metrics_with_the_token_of_the_settings() -> None:
    """By the configuration that docs/operate.md shows; the rules are loaded, and find no fault with their queries."""
    need("prometheus", "prometheus")
    with Gunicorn() as site, Prometheus(f"127.0.0.1:{site.port}", TOKEN) as prometheus:
        query = 'replicator_backlog{target="media1",status="pending"}'
        wait_until(lambda: prometheus.value(query) == "0", 120, say=lambda: site.output() + prometheus.output())
        # On a busy machine one scrape or another takes longer than it may.
        wanted = {
            "up": "1",
            "replicator_scrape_errors": "0",
            'replicator_delivery_seconds_bucket{le="+Inf"}': "0",
        }
        found = lambda: {name: prometheus.value(name) for name in wanted}  # noqa: E731
        wait_until(lambda: found() == wanted, 120, say=found)

        def rules() -> list[dict[str, Any]]:
            (group,) = prometheus.ask("rules")["groups"]
            found = group["rules"]
            assert isinstance(found, list)
            return found

        wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), 120, say=rules)
        # No beat is there.
        told = {"ReplicatorNoSweep"}
        wait_until(lambda: {r["name"] for r in rules() if r["state"] != "inactive"} == told, 120, say=rules)


def test_prometheus_is_refused_with_another_token() -> None:
    """And says so, where people look: on its page of targets."""
    need("prometheus", "prometheus")
    with Gunicorn() as site, Prometheus(f"127.0.0.1:{site.port}", TOKEN[::-1]) as prometheus:
        wait_until(lambda: prometheus.value("up") == "0", 120, say=prometheus.output)
        (target,) = prometheus.ask("targets")["activeTargets"]
        assert "401" in target["lastError"]


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"replicator_{name}{{{shown}}}", "values": values}


# Everything as it should be, for four hours of minutes; the clock of these tests starts at 0.
WELL = {
    "scrape_errors": series("scrape_errors", "0x240"),
    "up": series("target_up", "1x240", target="media1"),
    "paused": series("target_paused", "0x240", target="media1"),
    "lag": series("lag_seconds", "5x240", target="media1"),
    "objective": series("lag_objective_seconds", "900x240"),
    "within": series("within_objective_total", "0+60x240", target="media1"),
    "synced": series("synced_total", "0+60x240", target="media1", operation="put"),
    "pending": series("backlog", "2000x240", target="media1", status="pending"),
    "failed": series("backlog", "0x240", target="media1", status="failed"),
    "sweep": series("sweep_timestamp_seconds", "0+60x240"),
    "node": series("node_last_seen_timestamp_seconds", "0+60x240", node="web1"),
    "audit": series("audit_timestamp_seconds", "0x240", target="media1"),
    "found": series("audit_found", "0x240", target="media1"),
    "free": series("target_free_bytes", "50x240", target="media1"),
    "size": series("target_size_bytes", "100x240", target="media1"),
    "copied": series("copy_files", "0x240", source="live", state="failed"),
}
#: Alert → what is otherwise then, and the labels that it has.
ILL: dict[str, tuple[Mapping[str, dict[str, str] | None], dict[str, str]]] = {
    "ReplicatorMetricsMissing": ({"scrape_errors": series("scrape_errors", "2x240")}, {}),
    "ReplicatorTargetDown": ({"up": series("target_up", "0x240", target="media1")}, {"target": "media1"}),
    "ReplicatorLagObjectiveMissed": (
        {"lag": series("lag_seconds", "901x240", target="media1")},
        {"target": "media1"},
    ),
    "ReplicatorFewWithinObjective": (
        {"within": series("within_objective_total", "0+59x240", target="media1")},
        {},
    ),
    "ReplicatorFailedReplicas": (
        {"failed": series("backlog", "1x240", target="media1", status="failed")},
        {"target": "media1"},
    ),
    "ReplicatorBacklogGrowing": (
        {"pending": series("backlog", "2000+10x240", target="media1", status="pending")},
        {"target": "media1"},
    ),
    "ReplicatorNoSweep": ({"sweep": series("sweep_timestamp_seconds", "0x240")}, {}),
    "ReplicatorNodeSilent": (
        {"node": series("node_last_seen_timestamp_seconds", "0x240", node="web1")},
        {"node": "web1"},
    ),
    "ReplicatorAuditOld": (
        {"audit": series("audit_timestamp_seconds", "-300000x240", target="media1")},
        {"target": "media1"},
    ),
    "ReplicatorAuditFound": ({"found": series("audit_found", "3x240", target="media1")}, {"target": "media1"}),
    "ReplicatorTargetNearlyFull": (
        {"free": series("target_free_bytes", "9x240", target="media1")},
        {"target": "media1"},
    ),
    "ReplicatorCopyFailures": (
        {"copied": series("copy_files", "4x240", source="live", state="failed")},
        {"source": "live"},
    ),
}


def judged(tmp_path: Path, tests: list[dict[str, Any]]) -> None:
    """What promtool says of *tests* of the rules."""
    promtool = need("prometheus", "promtool")
    (tmp_path / "alerts.yml").write_text((DOCS / "alerts.yml").read_text())
    plan = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(plan))
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "tests.yml")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    found = group["rules"]
    assert isinstance(found, list)
    return found


def plan(changes: Mapping[str, dict[str, str] | None], expected: dict[str, dict[str, str]]) -> dict[str, Any]:
    """After four hours exactly the alerts of *expected* fire, with these labels."""
    inputs = [each for each in {**WELL, **changes}.values() if each is not None]
    checks = []
    for rule in rules():
        firing = f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}})'
        labels = expected.get(rule["alert"])
        samples = [{"labels": "{}", "value": 1}] if labels is not None else []
        checks.append({"expr": firing, "eval_time": "4h", "exp_samples": samples})
        if labels:
            named = ",".join(f'{key}="{value}"' for key, value in labels.items())
            exact = f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing",{named}}})'
            checks.append({"expr": exact, "eval_time": "4h", "exp_samples": samples})
    return {"interval": "1m", "input_series": inputs, "promql_expr_test": checks}


def test_there_is_an_illness_for_each_alert() -> None:
    """One that nobody tries might never fire."""
    assert {rule["alert"] for rule in rules()} == ILL.keys()


def test_no_alert_fires_where_all_is_well(tmp_path: Path) -> None:
    """A backlog that does not grow, a lag within the objective, an audit of four hours ago: nobody is woken."""
    judged(tmp_path, [plan({}, {})])


@pytest.mark.parametrize("alert", ILL)
def test_each_alert_fires_for_what_it_is_about_and_no_other_does(tmp_path: Path, alert: str) -> None:
    """With the labels by which people are told where to look."""
    changes, labels = ILL[alert]
    judged(tmp_path, [plan(changes, {alert: labels})])


def test_a_target_that_people_have_paused_is_not_told_to_be_down(tmp_path: Path) -> None:
    """They know."""
    changes = {
        "up": series("target_up", "0x240", target="media1"),
        "paused": series("target_paused", "1x240", target="media1"),
    }
    judged(tmp_path, [plan(changes, {})])


def test_silence_is_told(tmp_path: Path) -> None:
    """No process that answers: what is not there can't be above or below anything."""
    nothing = dict.fromkeys(WELL)
    judged(tmp_path, [plan(nothing, {"ReplicatorMetricsMissing": {}, "ReplicatorNoSweep": {}})])


def test_a_site_that_never_delivered_anything_is_not_told_to_be_late(tmp_path: Path) -> None:
    """Zero of zero is no share."""
    changes = {
        "within": series("within_objective_total", "0x240", target="media1"),
        "synced": series("synced_total", "0x240", target="media1", operation="put"),
    }
    judged(tmp_path, [plan(changes, {})])
