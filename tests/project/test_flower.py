"""Flower, as Procfile starts it: it asks for a password, shows what docs/flower.md says, and changes nothing."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import current_app
from honcho.environ import parse_procfile

from replicator import tasks
from tests.documented import DOCS, documented, filled
from tests.processes import RUNNING_AS_ROOT, Server, need
from tests.project.running import PNG, RunningSite, Visitor, clean_environment
from tests.servers import CHECKOUT, CONF, Embedded, Redis

AUTH = ("demo", "demo")
COMMAND = parse_procfile((CHECKOUT / "Procfile").read_text()).processes["flower"]
PAGE = (DOCS / "flower.md").read_text()


@pytest.mark.parametrize("password", [{}, {"FLOWER_BASIC_AUTH": ""}], ids=["none", "empty"])
def test_flower_does_not_start_without_a_password(password: dict[str, str], tmp_path: Path) -> None:
    """Promise 9: it would show, to everybody who finds it, what the site does; it says what to write instead."""
    environment = {**clean_environment(), "VAR": str(tmp_path), **password}
    done = subprocess.run(
        ["sh", "-c", COMMAND], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "write FLOWER_BASIC_AUTH=user:password" in done.stderr


def test_the_page_tells_of_every_task() -> None:
    """Whoever adds a task says there what its arguments and its result mean."""
    names = {name for name in current_app.tasks if name.startswith("replicator.")}
    assert tasks.deliver.name in names
    assert set(re.findall(r"^\| `(replicator\.\w+)` \|", PAGE, re.MULTILINE)) == names


# A site's.


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Embedded]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Embedded()) for name in ("media1", "media2")}


@pytest.fixture(scope="module")
def site(hosts: dict[str, Embedded], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    names = ",".join(f"{name}={host.url}" for name, host in hosts.items())
    with RunningSite(tmp_path_factory.mktemp("site"), MEDIA_HOSTS=names, SHAPES="0") as site:
        yield site


def shown(site: RunningSite) -> list[dict[str, Any]]:
    answer = requests.get(f"{site.flower_url}api/tasks", auth=AUTH, timeout=60)
    assert answer.status_code == 200
    return list(answer.json().values())


def eventually(site: RunningSite, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    end = time.monotonic() + 120
    while not holds(tasks := shown(site)):
        assert time.monotonic() < end, [(task["name"], task["args"], task["result"]) for task in tasks]
        time.sleep(0.2)


def workers(site: RunningSite) -> list[str]:
    """Their names. Flower gives them a second to answer; on a busy machine it may have to ask more than once."""
    end = time.monotonic() + 120
    while True:
        answer = requests.get(f"{site.flower_url}api/workers?refresh=1", auth=AUTH, timeout=60)
        found = list(answer.json()) if answer.ok else []
        if found:
            return found
        assert time.monotonic() < end, answer.text
        time.sleep(0.5)


def done_at(target: str, tasks: list[dict[str, Any]]) -> Counter[str]:
    """The sum of what ``deliver`` says it did there."""
    total: Counter[str] = Counter()
    for task in tasks:
        if task["name"] == "replicator.deliver" and task["args"] == f"['{target}']" and task["state"] == "SUCCESS":
            found = ast.literal_eval(task["result"])
            assert all(found.values()), "what did not happen is left out"
            total.update({name: value for name, value in found.items() if name != "skipped"})
    return total


def test_flower_tells_what_became_of_each_save(site: RunningSite, hosts: dict[str, Embedded]) -> None:
    """Put, failed, deleted, and bytes, at each target by its alias; who was down, as the probe found it."""
    with Visitor(site.url) as visitor:
        visitor.log_in()
        hosts["media2"].stop()
        visitor.upload("x.png", PNG + b"1" * 4992)
        eventually(site, lambda tasks: done_at("media1", tasks) == {"put": 1, "bytes": 5000})
        eventually(site, lambda tasks: done_at("media2", tasks)["failed"] > 0)
        assert done_at("media2", shown(site)).keys() == {"failed"}
        hosts["media2"].start()
        visitor.wait_until_settled(1)
        eventually(site, lambda tasks: done_at("media2", tasks)["bytes"] == 5000)
        visitor.post("pictures/1/delete", seen="/")
        visitor.wait_until_settled(1)
        eventually(site, lambda tasks: all(done_at(host, tasks)["deleted"] == 1 for host in hosts))
    eventually(site, lambda tasks: {"replicator.sweep", "replicator.probe"} <= {task["name"] for task in tasks})
    for task in shown(site):
        assert f"| `{task['name']}` |" in PAGE
        if task["name"] == "replicator.probe" and task["state"] == "SUCCESS":
            assert all(isinstance(up, bool) for up in ast.literal_eval(task["result"]).values())


def test_flower_shows_to_those_who_know_the_password_and_changes_nothing(site: RunningSite) -> None:
    """Read-only: it neither stops a worker nor sends a task. What is open to everybody is what the page says."""
    for path in ("", "tasks", "workers", "broker", "api/tasks", "api/workers"):
        for wrong in (None, ("demo", ""), ("demo", "another")):
            assert requests.get(site.flower_url + path, auth=wrong, timeout=60).status_code == 401, path
    for path in ("metrics", "healthcheck"):
        assert requests.get(site.flower_url + path, timeout=60).status_code == 200
        assert f"location = /flower/{path} {{" in PAGE
    (worker,) = workers(site)
    for path in (f"worker/shutdown/{worker}", "task/send-task/replicator.prune", "task/async-apply/replicator.prune"):
        answer = requests.post(f"{site.flower_url}api/{path}", json={"args": []}, auth=AUTH, timeout=60)
        assert answer.status_code == 403, path
    assert not [task for task in shown(site) if task["name"] == "replicator.prune"]


# Behind nginx.


class Flower(Server):
    """Alone, at a broker."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self.redis = redis

    def command(self) -> list[str]:
        return ["sh", "-c", COMMAND]

    def environment(self) -> dict[str, str]:
        return {
            **dict.fromkeys(os.environ.keys() - clean_environment().keys(), ""),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONPATH": str(CHECKOUT),
            "VAR": str(self.folder),
            "CELERY_BROKER_URL": self.redis.tcp_url,
            "FLOWER_BASIC_AUTH": ":".join(AUTH),
            "FLOWER_PORT": str(self.port),
            "FLOWER_URL_PREFIX": "flower",
        }


class Proxy(Server):
    """As the page says."""

    def __init__(self, flower: Flower, certificates: Path) -> None:
        super().__init__()
        self.flower, self.certificates = flower, certificates

    def prepare(self) -> None:
        for name in ("tmp", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        here = {
            "10.0.0.9:443": f"127.0.0.1:{self.port}",
            "/etc/ssl/ops.pem": f"{self.certificates}/server.pem",
            "/etc/ssl/ops.key": f"{self.certificates}/server.key",
            "127.0.0.1:5555": f"127.0.0.1:{self.flower.port}",
        }
        user = "user root;" if RUNNING_AS_ROOT else ""
        servers = filled(documented("flower.md", "nginx"), here)
        values = {"@SERVERS@": servers, "@ROOT@": str(self.folder), "@USER@": user}
        (self.folder / "server.conf").write_text(filled((CONF / "hosts-nginx.conf").read_text(), values))

    def command(self) -> list[str]:
        nginx = need("nginx", "nginx")
        return [nginx, "-p", str(self.folder), "-e", str(self.folder / "log/start.log"), "-c", "server.conf"]


def test_behind_nginx_it_is_reached_over_tls_and_nothing_of_it_is_open(redis: Redis, certificates: Path) -> None:
    """The configuration of the page: Flower's pages and what they load, with the password; 403 for the open ones."""
    with Flower(redis) as flower, Proxy(flower, certificates) as proxy:
        top = f"https://127.0.0.1:{proxy.port}"

        def ask(path: str, **options: Any) -> requests.Response:
            return requests.get(top + path, verify=str(certificates / "ca.pem"), timeout=60, **options)

        assert ask("/flower/tasks").status_code == 401
        page = ask("/flower/tasks", auth=AUTH)
        assert page.status_code == 200
        loaded = set(re.findall(r'(?:href|src)="(/[^"?]*\.(?:css|js))', page.text))
        assert loaded
        for path in loaded:
            assert path.startswith("/flower/")
            assert ask(path, auth=AUTH).status_code == 200, path
        for path in ("/flower/metrics", "/flower/healthcheck"):
            assert ask(path, auth=AUTH).status_code == 403
            assert requests.get(f"http://127.0.0.1:{flower.port}{path}", timeout=60).status_code == 200
