"""``manage.py replicator probe``, where it examines a target."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from replicator.errors import Refused, Unavailable
from replicator.ledger import health, life
from replicator.models import TargetState
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from tests.people.conftest import Output
from tests.promises.harness import wait_until
from tests.servers import Embedded, MediaHost, Nginx

pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]
WEBDAV = "replicator.targets.webdav.WebDAVTarget"


def memory(alias: str) -> MemoryTarget:
    target = get_target(alias)
    assert isinstance(target, MemoryTarget)
    return target


def use(settings: Any, host: MediaHost, **options: Any) -> None:
    """One target, a real server."""
    settings.REPLICATOR = {"TARGETS": {"media1": {"BACKEND": WEBDAV, "OPTIONS": {"url": host.url, **options}}}}
    default = {"BACKEND": "replicator.storage.ReplicatedStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    settings.STORAGES.pop("avatars", None)


def test_without_an_alias_nothing_is_written(site: ReplicatedStorage, manage: Manage) -> None:
    """Anybody may ask at any time."""
    assert manage("probe").out == "media1: answers\nmedia2: answers\n"
    assert {operation for operation, _ in memory("media1").operations} == {"probe"}


def test_with_an_alias_it_is_examined(site: ReplicatedStorage, manage: Manage) -> None:
    """A line for each thing that was tried; the other target is left alone."""
    done = manage("probe", "media1")
    assert done.error == ""
    lines = done.out.splitlines()
    assert lines[0] == "media1: answers"
    assert lines[1].startswith("  note    scratch        all of this happens in /media/replicator-probe-")
    assert "  fine    overwrite      a file replaces what had its name" in lines
    assert lines[-1] == "  fine    cleaning up    nothing is left"
    assert memory("media1").files == {}
    assert memory("media2").operations == []


def test_all_are_examined_when_asked_for(site: ReplicatedStorage, manage: Manage) -> None:
    done = manage("probe", "--full")
    assert done.out.count("scratch") == done.out.count("nothing is left") == 2
    assert done.out.index("media2: answers") > done.out.index("nothing is left")


def test_what_must_be_changed_makes_the_exit_code_1(site: ReplicatedStorage, manage: Manage) -> None:
    """For scripts; what only should be changed does not."""

    def refuse(operation: str, file: Any) -> None:
        if operation == "put" and file.size > 1_000_000:
            raise Refused("413: too large")

    memory("media1").before = refuse
    done = manage("probe", "media1")
    assert "  MUST    large file     413: too large" in done.out
    assert done.error == "There is something that must be changed: media1 (1)."
    memory("media1").before = lambda operation, file: refuse("put", file) if "?" in file.name else None
    memory("media1").fail_with = None
    assert manage("probe", "media1").error == ""


def test_advice_is_below_what_it_is_for(settings: Any, site: ReplicatedStorage, manage: Manage) -> None:
    """In the words of the server's configuration."""
    with Nginx(location="client_max_body_size 1m;", full_put_path="off") as host:
        use(settings, host)
        done = manage("probe", "media1")
        lines = done.out.splitlines()
        large = next(n for n, line in enumerate(lines) if line.startswith("  MUST    large file"))
        assert lines[large + 1].strip().startswith("→ client_max_body_size 0;")
        assert "→ create_full_put_path on;" in done.out
        assert done.error == "There is something that must be changed: media1 (1)."
        assert not host.files()


def test_a_target_that_is_down_is_examined_for_its_advice(site: ReplicatedStorage, manage: Manage) -> None:
    """One that lets nobody in may need to be configured."""
    memory("media1").fail_with = Refused("403 to OPTIONS")
    done = manage("probe", "media1")
    assert "media1: no answer: 403 to OPTIONS" in done.out
    assert "  MUST    answers        403 to OPTIONS" in done.out
    assert done.error == "1 target did not answer."


def test_what_people_closed_is_left_alone_unless_it_is_named(site: ReplicatedStorage, manage: Manage) -> None:
    """A host that is being repaired is no alarm."""
    memory("media2").fail_with = Unavailable("connection refused")
    life.pause("media2")
    done = manage("probe", "--full")
    assert "media2: paused: not asked" in done.out
    assert done.error == ""
    assert memory("media2").operations == []
    assert json.loads(manage("probe", "--json").out)[1]["answers"] is None
    assert manage("probe", "media2").error == "1 target did not answer."
    life.enter("media1", TargetState.Phase.READ_ONLY)
    done = manage("probe", "--full")
    assert done.out == "media1: answers\nmedia2: paused: not asked\n"
    assert "nothing is left" in manage("probe", "media1").out


def test_a_target_whose_breaker_is_open_is_not_called_up(site: ReplicatedStorage, manage: Manage) -> None:
    """A probe proves nothing against files that failed."""
    health.trip("media1", "it hangs on each PUT")
    done = manage("probe")
    assert "media1: answers; but files fail there" in done.out
    assert health.is_down("media1")


def test_for_programs(site: ReplicatedStorage, manage: Manage) -> None:
    """All of it, and nothing else on the output."""
    memory("media2").fail_with = Unavailable("connection refused")
    done = manage("probe", "media1", "media2", "--json")
    first, second = json.loads(done.out)
    assert (first["target"], first["answers"], first["text"]) == ("media1", True, "answers")
    assert {"what": "delete", "ok": "fine", "advice": ""}.items() <= next(
        finding.items() for finding in first["findings"] if finding["what"] == "delete"
    )
    assert (second["answers"], second["text"]) == (False, "no answer: connection refused")
    assert done.error == "1 target did not answer."
    quick = json.loads(manage("probe", "--json").out)
    assert [each["findings"] for each in quick] == [[], []]


def test_it_works_below_the_path_of_a_storage_that_uses_the_target(site: ReplicatedStorage, manage: Manage) -> None:
    """A server may treat each path in its own way."""
    assert "/media/avatars/replicator-probe-" in manage("probe", "media1", "--storage", "avatars").out
    assert "in /media/replicator-probe-" in manage("probe", "media1").out
    assert manage("probe", "media2", "--storage", "avatars").error == "The storage 'avatars' has no target 'media2'."
    assert "Did you mean 'avatars'?" in manage("probe", "media1", "--storage", "avatar").error


def test_the_size_of_the_large_file(site: ReplicatedStorage, manage: Manage) -> None:
    """A limit shows only to who exceeds it."""
    assert "2.0 MiB were written" in manage("probe", "media1").out
    done = manage("probe", "media1", "--size", "5")
    assert "5.0 MiB were written" in done.out
    for wrong in ("0", "-1", "5M"):
        with pytest.raises(CommandError, match="is no number of MiB: write one from 1 on"):
            call_command("replicator", "probe", "media1", "--size", wrong)


def test_no_secret_is_shown(settings: Any, site: ReplicatedStorage, manage: Manage) -> None:
    """Promise 9."""
    with Embedded(user="me", password="s3cret-word") as host:
        use(settings, host, username="me", password="s3cret-word")
        assert "s3cret" not in manage("probe", "media1").out
        use(settings, host, username="me", password="wr0ng-word")
        done = manage("probe", "media1")
        assert "set the target's options username and password" in done.out
        assert "wr0ng" not in done.out + done.err + done.error


OWN = """
from pathlib import Path
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{folder}/db.sqlite3"}}}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_celery_beat", "replicator"]
MEDIA_ROOT = "{folder}/media"
MEDIA_URL = "/media/"
STORAGES = {{
    "default": {{"BACKEND": "replicator.storage.ReplicatedStorage"}},
    "staticfiles": {{"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}},
}}
REPLICATOR = {{"TARGETS": {{"media1": {{"BACKEND": "{backend}", "OPTIONS": {options!r}}}}}}}
"""


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, embedded: MediaHost) -> None:
    """In the middle of a transfer, which the option ``bandwidth`` makes a long one."""
    options = {"url": embedded.url, "bandwidth": 512 * 1024, "workers": 1}
    (tmp_path / "own_settings.py").write_text(OWN.format(folder=tmp_path, backend=WEBDAV, options=options))
    checkout = Path(__file__).parents[2]
    environment = {
        "PYTHONPATH": f"{tmp_path}:{checkout}",
        "DJANGO_SETTINGS_MODULE": "own_settings",
        "PATH": "/usr/bin:/bin",
    }
    manage = [sys.executable, "-m", "django"]
    subprocess.run([*manage, "migrate", "-v0"], env=environment, check=True, timeout=120)
    command = [*manage, "replicator", "probe", "media1", "--size", "100", "--skip-checks"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if b"under way" in line:
                break
        wait_until(embedded.files)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
        error = process.stderr.read().decode()
    assert "Stopped. What was put there is removed." in error
    assert "Traceback" not in error
    assert embedded.files() == {}
    assert [path.name for path in embedded.root.iterdir()] == ["media"]
    assert list((embedded.root / "media").iterdir()) == []
