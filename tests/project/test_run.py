"""``make run``: a working site from nothing, and nothing left of it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.running import PNG, RunningSite, Visitor, alive, alive_after
from tests.servers import CHECKOUT

SYNCED = {"media1": "synced", "media2": "synced", "media3": "synced"}


def test_one_command_gives_a_working_site_that_ends_as_one_and_keeps_its_data(tmp_path: Path) -> None:
    """First run: environment, migrations, user, broker, hosts, web, worker, beat, Flower; Ctrl-C ends everything."""
    site = RunningSite(tmp_path)
    with site, Visitor(site.url) as visitor:
        assert visitor.get("").url.endswith("/login?next=/"), "the gallery is for people who logged in"
        page = visitor.log_in()
        assert "Nothing here yet" in page.text
        assert "MEDIA_HOSTS" not in page.text

        page = visitor.upload("one two.png", PNG + b"1" * 5000, attachment=("notes.txt", b"to read"))
        assert "on its way" in page.text
        statuses = visitor.wait_until_settled(1)
        assert len(statuses) == 2
        assert all(status == SYNCED for status in statuses.values())
        for host in SYNCED:
            files = {str(p.relative_to(site.host_root(host))) for p in site.host_root(host).rglob("*") if p.is_file()}
            assert files == {f"media/{name}" for name in statuses}
        image = next(name for name in statuses if name.startswith("pictures/"))
        assert visitor.get(f"media/{image}").content == PNG + b"1" * 5000

        page = visitor.post("pictures/1/replace", seen="/", files={"image": ("x.png", PNG + b"2")})
        assert "overwritten" in page.text
        visitor.wait_until_settled(1)
        assert {(site.host_root(host) / "media" / image).read_bytes() for host in SYNCED} == {PNG + b"2"}

        assert visitor.get("admin/").status_code == 200
        assert visitor.session.get(site.flower_url, auth=("demo", "demo"), timeout=30).status_code == 200
        assert visitor.session.get(site.flower_url, timeout=30).status_code == 401, "Flower asks for its password"

        second = subprocess.run(
            [sys.executable, "-m", "project.run"],
            env=site.environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert second.returncode == 1
        assert "is running already" in second.stderr

        assert site.end(signal.SIGINT) == 130, site.output()
        assert alive_after(site.pids, 0) == {}
        assert not (tmp_path / "run.env").exists()
        assert "Traceback" not in site.output()

    with site, Visitor(site.url) as again:
        again.log_in()
        assert image in again.get("").text
        again.post("pictures/1/delete", seen="/")
        assert again.wait_until_settled(1) == {}
        assert [p for host in SYNCED for p in site.host_root(host).rglob("*") if p.is_file()] == []
        assert site.end(signal.SIGTERM) == 143, site.output()
        assert alive_after(site.pids, 0) == {}


def test_a_killed_supervisor_leaves_nothing_running(tmp_path: Path) -> None:
    """Not even SIGKILL of ``make run`` leaves a broker or a worker behind; the next start is an ordinary one."""
    with RunningSite(tmp_path) as site:
        assert len(site.pids) > 10
        assert site.end(signal.SIGKILL) == -signal.SIGKILL
        assert alive_after(site.pids, 90) == {}
        notes = (tmp_path / "run.env").read_text()
        socket = Path(re.search(r"redis\+socket://(.*)", notes)[1])  # type: ignore[index]
        assert socket.parent.exists(), "it could not clear up"
    with site:
        assert not socket.parent.exists()
        assert site.end() == 130


def test_a_site_ends_when_one_of_its_processes_does_but_not_for_a_host(tmp_path: Path) -> None:
    """A host may be stopped by hand, to see files wait for it; a dead web or worker is said, and ends the rest."""
    with RunningSite(tmp_path) as site, Visitor(site.url) as visitor:
        host = re.search(r"media2 .*kill (\d+)", site.output())
        assert host is not None
        subprocess.run(["kill", host[1]], check=True)
        assert alive_after([int(host[1])], 60) == {}
        visitor.log_in()
        visitor.upload("waits.png", PNG + b"3")
        statuses = next(iter(visitor.statuses(1).values()))
        assert statuses["media2"] == "pending"
        beat = next(pid for pid, command in alive(site.pids).items() if " beat " in command)
        subprocess.run(["kill", "-KILL", str(beat)], check=True)
        assert site.process is not None
        assert site.process.wait(timeout=120) != 0
        assert "beat ended by itself" in site.output()
        assert alive_after(site.pids, 0) == {}


def test_an_s3_switch_that_cannot_be_read_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    """As for every other variable."""
    done = subprocess.run(
        [sys.executable, "-m", "project.run"],
        env={**RunningSite(tmp_path).environment, "S3": "ture"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "write S3=1 or S3=0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("port", "message"), [("taken", "is taken"), ("eighty", "is not a port")])
def test_a_port_that_was_asked_for_and_is_no_use_is_named(tmp_path: Path, port: str, message: str) -> None:
    """Ports taken: a clear message. (Without PORT, another one is taken.)"""
    with socket.create_server(("127.0.0.1", 0)) as other:
        value = str(other.getsockname()[1]) if port == "taken" else port
        done = subprocess.run(
            [sys.executable, "-m", "project.run"],
            env={**RunningSite(tmp_path).environment, "PORT": value},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert f"PORT={value} {message}" in done.stderr
    assert "Traceback" not in done.stderr
