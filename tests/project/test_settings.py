"""project/settings.py: what a deployment writes wrong, it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.running import clean_environment
from tests.servers import CHECKOUT

SHOW = """
import json, django
from django.conf import settings as s
django.setup()
from project.celery import app
print(json.dumps({
    "debug": s.DEBUG, "key": s.SECRET_KEY, "targets": s.REPLICATOR["TARGETS"], "db": s.DATABASES["default"],
    "numbers": {k: v for k, v in s.REPLICATOR.items() if k != "TARGETS"}, "broker": app.conf.broker_url,
    "accept": app.conf.accept_content, "late": app.conf.task_acks_late, "lost": app.conf.task_reject_on_worker_lost,
    "prefetch": app.conf.worker_prefetch_multiplier, "ignore": app.conf.task_ignore_result,
    "soft": app.conf.task_soft_time_limit, "hard": app.conf.task_time_limit, "utc": app.conf.enable_utc,
    "s3": s.STORAGES.get("s3-bucket", {}).get("OPTIONS"), "live": s.STORAGES.get("live"),
    "avatars": s.STORAGES.get("live-avatars"),
    "storages": {k: v["OPTIONS"]["targets"] for k, v in s.STORAGES.items() if "targets" in v.get("OPTIONS", {})},
    "beat": app.conf.beat_max_loop_interval, "media": str(s.MEDIA_ROOT), "serve": s.SERVE_MEDIA,
}, default=str))
"""


def read(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"VAR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "project.settings", **environment}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOW],
        env={**clean_environment(), **environment},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_without_any_variable_the_site_is_embedded(tmp_path: Path) -> None:
    """SQLite in WAL mode with IMMEDIATE transactions, three hosts, a key of its own that stays."""
    found = json.loads(read(tmp_path).stdout)
    assert found["debug"]
    assert found["serve"]
    assert sorted(found["targets"]) == ["media1", "media2", "media3", "second"]
    assert found["storages"]["default"] == ["media1", "media2", "media3"]
    assert found["db"]["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in found["db"]["OPTIONS"]["init_command"]
    assert len(found["key"]) > 50
    assert json.loads(read(tmp_path).stdout)["key"] == found["key"]
    assert (tmp_path / "secret-key").stat().st_mode & 0o077 == 0


def test_celery_is_safe_for_a_ledger_with_leases(tmp_path: Path) -> None:
    """JSON only, acks late, reject on worker lost, prefetch 1, results ignored, UTC; a run fits into the limits."""
    found = json.loads(read(tmp_path).stdout)
    assert found["accept"] == ["json"]
    assert found["late"] and found["lost"] and found["ignore"] and found["utc"]  # noqa: PT018
    assert found["prefetch"] == 1
    assert found["beat"] <= 5
    assert 240 < found["soft"] < found["hard"]


def test_everything_that_differs_comes_from_the_environment(tmp_path: Path) -> None:
    """A deployment names its database, broker and hosts, with credentials for all of them or for one."""
    done = read(
        tmp_path,
        ALLOWED_HOSTS="www.example.com",
        SECRET_KEY="s" * 50,
        DATABASE_URL="postgresql://user:pass@db:5433/site",
        CELERY_BROKER_URL="amqp://user:pass@mq:5672//",
        MEDIA_HOSTS="east=https://10.0.0.1,west-2=https://10.0.0.2/dav",
        MEDIA_HOSTS_USERNAME="writer",
        MEDIA_HOSTS_PASSWORD="for all",
        MEDIA_HOSTS_WEST_2_PASSWORD="for one",
        MEDIA_ROOT=str(tmp_path / "uploads"),
        REPLICATOR_LEASE_SECONDS="7.5",
        REPLICATOR_NODE="web1",
    )
    found = json.loads(done.stdout)
    assert not found["debug"]
    assert not found["serve"]
    assert found["targets"]["east"]["OPTIONS"] == {
        "url": "https://10.0.0.1",
        "username": "writer",
        "password": "for all",
    }
    assert found["targets"]["west-2"]["OPTIONS"]["password"] == "for one"
    assert (found["db"]["HOST"], found["db"]["PORT"]) == ("db", 5433)
    assert found["broker"] == "amqp://user:pass@mq:5672//"
    assert found["media"] == str(tmp_path / "uploads")
    assert found["numbers"] == {"LEASE_SECONDS": 7.5, "NODE": "web1"}


def test_a_mogilefs_that_is_named_is_one_more_target(tmp_path: Path) -> None:
    """For every storage; thumbs, which can be made again, are only there. The switch alone names none."""
    found = json.loads(read(tmp_path, MOGILEFS_TRACKERS="10.0.0.5:7001,10.0.0.6:7001", MOGILEFS_DOMAIN="site").stdout)
    assert list(found["targets"]) == ["media1", "media2", "media3", "mogilefs", "second"]
    assert found["targets"]["mogilefs"]["OPTIONS"] == {
        "domain": "site",
        "trackers": ["10.0.0.5:7001", "10.0.0.6:7001"],
    }
    assert found["storages"]["default"] == ["media1", "media2", "media3", "mogilefs"]
    assert found["storages"]["avatars"] == ["media1", "media2", "media3", "mogilefs"]
    assert found["storages"]["thumbs"] == ["mogilefs"]
    found = json.loads(read(tmp_path, MOGILEFS="1").stdout)
    for alias in ("default", "avatars", "thumbs"):
        assert found["storages"][alias] == ["media1", "media2", "media3"]


def test_a_bucket_that_is_named_has_the_files_of_one_storage(tmp_path: Path) -> None:
    """A target of its own, which no other storage uses; without credentials, boto finds some. No switch names one."""
    found = json.loads(read(tmp_path, S3_BUCKET="files.example.com", S3_REGION="eu-central-1").stdout)
    assert {alias for alias, targets in found["storages"].items() if "s3" in targets} == {"bucket"}
    assert found["s3"] == {"bucket_name": "files.example.com", "region_name": "eu-central-1"}
    found = json.loads(
        read(tmp_path, S3_BUCKET="x", S3_ENDPOINT_URL="http://127.0.0.1:9", S3_SECRET_KEY="secret").stdout
    )
    assert found["s3"]["endpoint_url"] == "http://127.0.0.1:9"
    assert found["s3"]["secret_key"] == "secret"
    assert "s3" not in json.loads(read(tmp_path, S3="1").stdout)["targets"]


def test_a_live_site_that_is_named_makes_this_one_its_staging_site(tmp_path: Path) -> None:
    """A bucket, another site over HTTP or a folder; unless one is named, nothing may be copied to it."""
    found = json.loads(
        read(
            tmp_path,
            STAGING_S3_BUCKET="live.example.com",
            STAGING_S3_ACCESS_KEY="reads",
            STAGING_S3_SECRET_KEY="secret",
            S3_BUCKET="mine",
        ).stdout
    )
    assert found["numbers"] == {"STAGING": {"SOURCE": "live", "SOURCES": {}}}
    assert found["live"]["BACKEND"] == "storages.backends.s3.S3Storage"
    assert found["live"]["OPTIONS"] == {
        "bucket_name": "live.example.com",
        "region_name": "us-east-1",
        "access_key": "reads",
        "secret_key": "secret",
    }
    assert found["s3"] == {"bucket_name": "mine", "region_name": "us-east-1"}, "its own, with other keys"
    found = json.loads(read(tmp_path, STAGING_URL="https://www.example.com/media/").stdout)
    assert found["live"]["BACKEND"] == "replicator.storage.HTTPStorage"
    assert found["live"]["OPTIONS"] == {"base_url": "https://www.example.com/media/"}
    assert found["avatars"]["OPTIONS"] == {"base_url": "https://www.example.com/media/avatars"}
    assert found["numbers"]["STAGING"]["SOURCES"]["avatars"] == "live-avatars"
    top = tmp_path / "live"
    (top / "avatars").mkdir(parents=True)
    found = json.loads(read(tmp_path, STAGING_FOLDER=str(top)).stdout)
    assert found["live"]["OPTIONS"] == {"location": str(top)}
    assert found["avatars"]["OPTIONS"] == {"location": str(top / "avatars")}
    assert found["numbers"] == {"STAGING": {"SOURCE": "live", "SOURCES": {"avatars": "live-avatars"}}}
    found = json.loads(read(tmp_path).stdout)
    assert found["live"] is None
    assert found["numbers"] == {}


def test_a_site_that_is_no_try_has_no_shapes_unless_asked(tmp_path: Path) -> None:
    """No folders beside MEDIA_ROOT, which a container may not write, no links to hosts that browsers do not reach."""
    names = {"ALLOWED_HOSTS": "www.example.com", "SECRET_KEY": "s" * 50}
    found = json.loads(read(tmp_path, **names).stdout)
    assert list(found["targets"]) == ["media1", "media2", "media3"]
    assert set(found["storages"]) == {"default", "avatars", "thumbs"}
    assert "public_url" not in found["targets"]["media1"]["OPTIONS"]
    found = json.loads(read(tmp_path, SHAPES="1", STATIC_TO_HOSTS="1", **names).stdout)
    assert {"assets", "private", "archive", "careful", "cdn", "staticfiles"} < set(found["storages"])


SHAPES_AND_SWITCHES: list[dict[str, str]] = [
    {},
    {"SHAPES": "0"},
    {"MEDIA_HOSTS": ""},
    {"MEDIA_HOSTS": "only=http://10.0.0.1"},
    {"STATIC_TO_HOSTS": "1"},
    {"MOGILEFS_TRACKERS": "10.0.0.5:7001", "S3_BUCKET": "x", "S3_ENDPOINT_URL": "http://127.0.0.1:9"},
    {"STAGING_S3_BUCKET": "x", "STAGING_S3_ENDPOINT_URL": "http://127.0.0.1:9"},
    {"STAGING_URL": "http://127.0.0.1:9/media/"},
    {"STAGING_FOLDER": "/srv/live/media", "SHAPES": "0"},
]


@pytest.mark.parametrize("environment", SHAPES_AND_SWITCHES, ids=str)
def test_no_migration_and_no_check_differs_whatever_is_switched_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Whoever turns a switch keeps the database, and nothing is to be complained of."""
    for command in (["makemigrations", "--check", "--dry-run"], ["check", "--fail-level", "WARNING"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            env={**clean_environment(), "VAR": str(tmp_path), **environment},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("environment", "cure"),
    [
        ({"DEBUG": "0"}, "Write SECRET_KEY="),
        ({"ALLOWED_HOSTS": "www.example.com"}, "Write SECRET_KEY="),
        ({"DEBUG": "ture"}, "write DEBUG=1 or DEBUG=0"),
        ({"MEDIA_HOSTS": "https://10.0.0.1"}, "write MEDIA_HOSTS=media1=https://10.0.0.1"),
        ({"MEDIA_HOSTS": "a=http://1.2.3.4,a=http://1.2.3.5"}, "each alias once"),
        ({"MEDIA_HOSTS": "mogilefs=http://1.2.3.4", "MOGILEFS_TRACKERS": "1.2.3.4:7001"}, "write another"),
        ({"MEDIA_HOSTS": "second=http://1.2.3.4"}, "write another"),
        ({"STAGING_URL": "https://1.2.3.4/", "STAGING_FOLDER": "/srv/live"}, "write one only"),
        ({"MAX_UPLOAD_MIB": "1O"}, "MAX_UPLOAD_MIB=1O is not a whole number"),
        ({"REPLICATOR_DOUBT_WINDOW": "60s"}, "REPLICATOR_DOUBT_WINDOW=60s is not a number"),
    ],
)
def test_a_value_that_cannot_be_used_is_an_error_that_says_what_to_write(
    tmp_path: Path, environment: dict[str, str], cure: str
) -> None:
    """No setting falls back in silence; in production there is no key of ours."""
    done = read(tmp_path, **environment)
    assert done.returncode != 0
    assert "ImproperlyConfigured" in done.stderr
    assert cure in done.stderr
