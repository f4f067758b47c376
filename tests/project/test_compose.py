"""docker-compose.yml, docker/mediahost and Dockerfile: what they say holds, and each command line in them runs.

There is no container engine in a test run. What it would do is not tested: fetch images, mount volumes, drop rights.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import requests
import yaml

from project.beat import complaint
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import TargetContract
from tests.project.composed import Composed
from tests.project.composefile import (
    COMPOSE,
    MissingVariable,
    dockerfile,
    interpolated,
    only,
    published,
    services,
    user_of,
)
from tests.project.containers import Machine, NginxPart
from tests.project.running import PNG, Visitor
from tests.servers import CHECKOUT

SECRETS = {
    "SECRET_KEY": "signs-and-is-long-enough-for-djangos-own-check-of-it",
    "POSTGRES_PASSWORD": "opensPostgres",
    "REDIS_PASSWORD": "opensRedis",
    "FLOWER_BASIC_AUTH": "somebody:opensFlower",
}
#: Without a default that would open anything.
TOKEN = "reads-the-metrics-of-the-site"
ALL = services({**SECRETS, "METRICS_TOKEN": TOKEN, "MOGILEFS_TRACKERS": "mogilefs:7001"}, ["mogilefs"])


# What the file says.


def test_the_file_is_what_the_specification_says(tmp_path: Path) -> None:
    """As the schema of the compose specification has it; a misspelt key is noticed."""
    (tmp_path / "wrong.yml").write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    for file, status in ((COMPOSE, 0), (tmp_path / "wrong.yml", 1)):
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("$$A ${B} $C", "$A b "),
        ("${B:-x}${C:-x}${E:-x}${E-x}", "bxx"),
        ("${B:+y}${E:+y}${E+y}", "yy"),
        ("${B:?no}${E?no}", "b"),
    ],
)
def test_variables_are_read_as_compose_reads_them(text: str, meaning: str) -> None:
    """What the other tests of this module stand on: empty is unset only with the colon."""
    assert interpolated([{"a": text}], {"B": "b", "E": ""}) == [{"a": meaning}]


@pytest.mark.parametrize("secret", SECRETS)
def test_it_does_not_start_without_a_secret(secret: str) -> None:
    """Promise 9: no password has a default; missing or empty, compose says what to write."""
    for environment in ({**SECRETS, secret: ""}, {name: SECRETS[name] for name in SECRETS if name != secret}):
        with pytest.raises(MissingVariable, match=f"write {secret}="):
            services(environment)


def test_every_password_is_one_that_was_given() -> None:
    """Promise 9: none is in the file, neither by itself nor in a URL."""
    found = 0
    for service in ALL.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|AUTH", name):
                assert value in (*SECRETS.values(), TOKEN), name
                found += 1
            for password in re.findall(r"://[^/@]*:([^/@]*)@", value):
                assert password in SECRETS.values(), name
                found += 1
    assert found == 4 * 5 + 3, "a key, a token and two URLs of five services; those of Flower, Redis and PostgreSQL"
    assert not services(SECRETS)["web"]["environment"]["METRICS_TOKEN"]
    assert not [name for name, s in ALL.items() if any(x in str(s.get("command")) for x in SECRETS.values())]


def test_only_what_people_use_is_published_and_only_here_unless_asked() -> None:
    """Neither the broker nor the database nor where hosts are written to; BIND opens the others to more."""
    open_ports = {("web", 8000), ("flower", 5555), ("media1", 8080), ("media2", 8080)}
    for environment, address in (({}, "127.0.0.1"), ({"BIND": "10.0.0.9"}, "10.0.0.9")):
        found = published(services({**SECRETS, **environment}, ["mogilefs"]))
        assert set(found.values()) == open_ports
        assert {where for where, _ in found} == {address}


@pytest.mark.parametrize("name", ALL)
def test_nobody_is_root_nor_writes_where_nothing_is_kept(name: str) -> None:
    """A user of its own, a read-only root, no rights of the kernel's and no way to get any."""
    service = ALL[name]
    assert user_of(service) not in ("root", "0")
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"] or "tmp:/tmp" in service["volumes"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@pytest.mark.parametrize("name", ALL)
def test_every_part_is_watched(name: str) -> None:
    """By a health check; except the one that ends, whose end the others wait for."""
    service = ALL[name]
    if name == "migrate":
        assert service["restart"] == "no"
        assert ALL["web"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    else:
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["restart"] == "unless-stopped"


def test_what_is_kept_is_in_named_volumes() -> None:
    """Each is declared and used; what is mounted from the checkout is there, and read-only. An image has its folder,
    which would else belong to root."""
    mounts = [entry.split(":") for service in ALL.values() for entry in service.get("volumes", [])]
    declared = yaml.safe_load(COMPOSE.read_text())["volumes"]
    assert {source for source, *_ in mounts if "/" not in source} == set(declared)
    for source, _, *mode in (mount for mount in mounts if "/" in mount[0]):
        assert (CHECKOUT / source).exists()
        assert mode == ["ro"]
    for name, service in ALL.items():
        for source, inside, *_ in (entry.split(":") for entry in service.get("volumes", []) if "build" in service):
            if "/" not in source and inside != "/tmp":
                made = " ".join(each.rest for each in dockerfile(service["build"]) if each.word == "RUN")
                assert f" {inside}" in made, f"{source} of {name}: the image needs the folder"


def test_the_image_is_made_of_what_there_is() -> None:
    """Its files exist, and what is not run here (a user, the packages) is only that: a new line needs a thought."""
    words = " ".join(each.word for each in dockerfile())
    assert words == "FROM RUN WORKDIR COPY RUN COPY COPY COPY ENV USER RUN EXPOSE CMD"
    runs = [each.rest for each in dockerfile() if each.word == "RUN"]
    assert runs[0].startswith("useradd ")
    assert runs[1] == "pip install --no-cache-dir -r requirements.txt"
    assert only("WORKDIR").rest == "/srv/site"
    host = dockerfile("docker/mediahost")
    assert [each.word for each in host] == ["FROM", "RUN", "RUN", "COPY", "USER", "EXPOSE", "CMD"]
    asked_for = set(host[1].rest.partition("install")[2].partition("&&")[0].split())
    assert asked_for - {"-y", "--no-install-recommends"} <= set((CHECKOUT / ".ci/run").read_text().split()), (
        "a host has the packages that the tests run"
    )
    ignored = (CHECKOUT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "var"} <= set(ignored), "neither secrets nor a site's data are sent to the builder"


def test_the_page_names_every_variable() -> None:
    """Whoever reads docs/compose.md knows what .env may have; and nothing there is without effect."""
    page = (CHECKOUT / "docs/compose.md").read_text()
    named = set(re.findall(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)(?==)|`([A-Z][A-Z0-9_]+)`", page))
    assert {a or b for a, b in named} - {"COMPOSE_PROFILES"} == set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))


def test_a_beat_that_sends_nothing_is_a_complaint() -> None:
    """It notes what it has sent every three minutes: five are too many, and so is never."""
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    assert complaint(now - timedelta(minutes=4), now) == ""
    assert "360 seconds ago" in complaint(now - timedelta(minutes=6), now)
    assert "not sent anything" in complaint(None, now)


# What a media host does.


def directives(text: str) -> set[str]:
    text = re.sub(r"#.*|^ *@\w+@$", ";", text, flags=re.MULTILINE)
    return {" ".join(re.sub(r"@\w+@", "", each).split()) for each in re.split(r"[;{}]", text) if each.strip()}


def test_media_hosts_are_configured_as_tested() -> None:
    """Each directive of the configuration that all tests run, but those that name places; and what only reads."""

    def told(path: str) -> set[str]:
        places = ("listen", "root", "pid", "error_log", "worker_processes", "daemon", "load_module")
        found = directives((CHECKOUT / path).read_text())
        return {re.sub(r"(_temp_path).*", r"\1", each) for each in found if each.split()[0] not in places}

    ours, tested = told("docker/mediahost/nginx.conf"), told("tests/conf/nginx.conf")
    assert tested - ours == {"dav_methods", "create_full_put_path"}, "whose values the tests fill in"
    wanted = {"dav_methods PUT DELETE MKCOL COPY MOVE", "create_full_put_path on"}
    assert wanted | {"dav_ext_methods PROPFIND OPTIONS"} <= ours


@pytest.fixture(scope="module")
def media_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxPart]:
    with NginxPart(Machine(tmp_path_factory.mktemp("host"), ALL), "media1") as host:
        yield host


class TestMediaHost(TargetContract):
    """The contract of every target, at the address for workers."""

    large = 8 << 20
    unlisted_names = frozenset({".hidden", "..."})

    @pytest.fixture(autouse=True)
    def _host(self, media_host: NginxPart) -> None:
        self.host = media_host

    def make_target(self, port: int = 8081) -> WebDAVTarget:
        return WebDAVTarget("media1", url=f"http://127.0.0.1:{self.host.machine.port('media1', port)}")

    def test_audits_list_it_and_strangers_do_not(self) -> None:
        assert self.make_target().can_list()
        assert not self.make_target(8080).can_list()


# The whole of it.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """Up: every command line and every health check has run, in compose's order, and every part is healthy."""
    with Composed(tmp_path_factory.mktemp("compose"), ALL) as site:
        yield site


def test_a_file_that_is_uploaded_arrives_at_every_host(site: Composed) -> None:
    """From the first command in the file's head to a picture that anybody reads, and nobody else writes."""
    made = site.parts["web"].once(
        ["python", "manage.py", "createsuperuser", "--noinput", "--username", "somebody", "--email", "x@example.com"],
        DJANGO_SUPERUSER_PASSWORD="opens the site",
    )
    assert made.returncode == 0, made.stderr
    with Visitor(site.url(8000)) as visitor:
        visitor.post("login", data={"username": "somebody", "password": "opens the site"})
        visitor.upload("a b.png", PNG + b"1" * 5000)
        ((name, hosts),) = visitor.wait_until_settled(1).items()
        assert hosts == {"media1": "synced", "media2": "synced", "mogilefs": "synced"}
        page = visitor.get().text
    for port in (8101, 8102):
        url = f"{site.url(port)}media/{name}"
        read = requests.get(url, timeout=60)
        assert read.content == PNG + b"1" * 5000
        assert read.headers["X-Content-Type-Options"] == "nosniff"
        assert requests.put(url, b"mine", timeout=60).status_code == 403
        assert requests.delete(url, timeout=60).status_code == 403
        assert requests.get(url, timeout=60).content == read.content
    assert f"{site.url(8101)}media/{name}".replace("127.0.0.1", "localhost") in page
    assert requests.get(f"{site.url(8000)}metrics", timeout=60).status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    metrics = requests.get(f"{site.url(8000)}metrics", headers=bearer, timeout=60)
    assert 'replicator_backlog{status="pending",target="media1"} 0' in metrics.text, site.parts["web"].output()
    assert requests.get(site.url(5555), timeout=60).status_code == 401
    assert requests.get(site.url(5555), auth=("somebody", "opensFlower"), timeout=60).status_code == 200


def test_nothing_is_written_into_an_image(site: Composed) -> None:
    """Their roots are read-only: neither the site's folder nor the home folder has a new file."""
    (site.machine.home / "proof").write_text("seen")
    assert site.written_into_the_image() == [str(site.machine.home / "proof")]


def test_the_broker_asks_for_its_password_and_shows_it_to_nobody(site: Composed) -> None:
    """Promise 9: neither an empty one nor another opens it; it is in no command line."""
    redis = site.parts["redis"]
    assert redis.once(redis.check()).stdout == "PONG\n"
    for wrong in ("", "another"):
        assert redis.once(redis.check(), REDISCLI_AUTH=wrong).returncode == 1
    for part in site.parts.values():
        assert not any(secret in " ".join(part.command()) for secret in SECRETS.values())


def test_a_part_that_ends_is_noticed_and_ends_when_told(site: Composed) -> None:
    """Each health check fails once its part is gone; each part ends by itself on the signal that Docker sends."""
    # Last in this module, since nothing is up afterwards.
    beat = site.parts["beat"]
    beat.stop()
    assert beat.is_healthy(), "a restart is no reason to be alarmed"
    _age_the_schedule(site)

    def ends(name: str) -> None:
        part = site.parts[name]
        if part.process is not None:
            part.process.send_signal(part.stop_signal)
            assert part.process.wait(timeout=60) == 0, f"{name}: {part.output()}"
        assert not part.is_healthy(), name

    with ThreadPoolExecutor() as pool:
        list(pool.map(ends, ("flower", "web", "worker", "beat", "mogilefs", "media1", "media2")))
        list(pool.map(ends, ("redis", "postgres")))


def _age_the_schedule(site: Composed) -> None:
    """As if what beat did had been long ago."""
    url = site.parts["beat"].environment()["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE django_celery_beat_periodictask SET last_run_at = last_run_at - interval '6 minutes'"
        )
