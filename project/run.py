"""``make run``: the embedded site, from nothing to a banner with its addresses, until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

from django.core.exceptions import ImproperlyConfigured

from project.embedded import TOP, Embedded, PortTaken, wanted_ports
from project.supervision import Supervisor

#: How long the first answer may take.
PATIENCE = 60.0


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    var = Path(os.environ.get("VAR") or TOP / "var").resolve()
    var.mkdir(parents=True, exist_ok=True)
    lock = _only_one(var)
    notes = var / "run.env"
    _clear_after_kill(notes)
    try:
        ports = wanted_ports(os.environ)
    except (PortTaken, ImproperlyConfigured) as error:
        raise SystemExit(str(error)) from error
    with Embedded(var, ports, dict(os.environ)) as site:
        try:
            site.make_folders()
            environment = _prepare(site)
            notes.write_text("".join(f"{name}={value}\n" for name, value in site.addresses().items()))
            raise SystemExit(_supervise(site, environment))
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except ImproperlyConfigured as error:
            raise SystemExit(str(error)) from error
        finally:
            notes.unlink(missing_ok=True)
            lock.close()


def _only_one(var: Path) -> IO[str]:
    """Hold the lock of *var*, for as long as this process or one that it started lives."""
    lock = (var / "run.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        raise SystemExit(
            f"The site in {var} is running already. End it with Ctrl-C where it was started, or with: "
            f"kill {lock.read()}. For a second site beside it, write VAR=another-folder make run."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _clear_after_kill(notes: Path) -> None:
    """Remove what a killed predecessor could not: its notes, and the folder of its socket."""
    with suppress(FileNotFoundError):
        for line in notes.read_text().splitlines():
            place = Path(line.removeprefix("CELERY_BROKER_URL=redis+socket://"))
            if place.name == "redis.sock" and place.parent.name.startswith("replicator-"):
                shutil.rmtree(place.parent, ignore_errors=True)
        notes.unlink()


def _prepare(site: Embedded) -> dict[str, str]:
    """Migrate, and whatever else the first start needs; the environment of the site's processes."""
    environment = site.environment()
    os.environ.update(site.addresses())
    from django.conf import settings  # reads the environment just completed

    environment["SECRET_KEY"] = settings.SECRET_KEY
    # Logs on the terminal are for what goes wrong; the gallery, the admin and Flower show the rest.
    environment.setdefault("LOG_LEVEL", "WARNING")
    environment.setdefault("SERVE_MEDIA", "1")  # there is no web server in front
    if settings.DEBUG:
        environment.setdefault("FLOWER_BASIC_AUTH", "demo:demo")
    commands = [
        ["migrate", "--verbosity", "0"],
        ["demo_user"] if settings.DEBUG else ["collectstatic", "--noinput", "-v0"],
        *([["fill_bucket"]] if site.has_s3 else []),
    ]
    for command in commands:
        print(f"… manage.py {command[0]}", flush=True)
        done = subprocess.run(  # noqa: S603  # our own program, our own arguments
            [sys.executable, str(TOP / "manage.py"), *command], env=environment, check=False
        )
        if done.returncode:
            raise SystemExit(f"manage.py {command[0]} failed: the lines above say why.")
    return environment


def _supervise(site: Embedded, environment: dict[str, str]) -> int:
    supervisor = Supervisor(base={"broker", *site.stores}, may_stop=site.stores)
    for part in site.parts():
        own = dict(environment)
        if part.name in ("worker", "beat", "flower"):
            own["DEBUG"] = "0"  # with it on, Django remembers queries for as long as a process lives
        supervisor.add_process(part.name, part.command, env=own, cwd=str(TOP))
    Thread(target=_welcome, args=(site, supervisor, environment), daemon=True).start()
    supervisor.loop()
    if supervisor.ended_by:
        print(f"\n{supervisor.ended_by} ended by itself, and the site with it: the lines above say why.", flush=True)
        return 1
    return int(supervisor.returncode or 0)


def _welcome(site: Embedded, supervisor: Supervisor, environment: dict[str, str]) -> None:
    end = time.monotonic() + PATIENCE
    places = [f"{site.url}login", site.flower_url, *(f"{site.host_url(host)}/" for host in site.hosts)]
    if site.has_mogilefs:
        places.append(site.tracker)
    if site.has_s3:
        places.append(f"{site.s3_url}/")
    for place in places:
        while not _answers(place):
            if supervisor.is_ending:
                return
            if time.monotonic() > end:
                print(
                    f"\n{place} does not answer after {PATIENCE:.0f} seconds: the lines above may say why.",
                    flush=True,
                )
                supervisor.end()
                return
            time.sleep(0.1)
    print(_banner(site, supervisor, environment), flush=True)


def _banner(site: Embedded, supervisor: Supervisor, environment: dict[str, str]) -> str:
    from django.conf import settings

    login = "log in as demo, password demo" if settings.DEBUG else "make a user with: manage.py createsuperuser"
    flower = "the same" if environment.get("FLOWER_BASIC_AUTH") == "demo:demo" else "FLOWER_BASIC_AUTH"
    rows = [
        ("Gallery", site.url, login),
        *([("Shapes", f"{site.url}shapes", "one storage of each kind")] if settings.SHAPES else []),
        ("Admin", f"{site.url}admin/", "the same"),
        ("Flower", site.flower_url, flower),
    ]
    for host in site.hosts:
        pid = supervisor.pid_of(host)
        rows.append((host, f"{site.host_url(host)}{settings.MEDIA_URL}", f"stop it with: kill {pid}"))
    if site.has_mogilefs:
        pid = supervisor.pid_of("mogilefs")
        rows.append(("mogilefs", site.tracker, f"avatar: 2 copies, thumb: 1; stop it with: kill {pid}"))
    if site.has_s3:
        pid = supervisor.pid_of("s3")
        rows.append(("s3", site.s3_url, f"keeps files until it ends; stop it with: kill {pid}"))
    table = "\n".join(f"  {name:<9}{url:<34}{note}" for name, url, note in rows)
    return (
        f"\nReplicator is running; what it keeps is in {site.var}\n\n{table}\n\n"
        "Stop a media host, upload, and see the files wait for it. Ctrl-C ends everything.\n"
    )


def _answers(place: str) -> bool:
    """*place*: a URL, or host:port."""
    host, _, port = place.rpartition(":")
    try:
        if not place.startswith("http"):
            socket.create_connection((host, int(port)), timeout=5).close()
            return True
        with urllib.request.urlopen(place, timeout=5):  # noqa: S310  # our own http:// URL
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500  # Flower asks for its password, a host shows no folder
    except OSError:
        return False


if __name__ == "__main__":
    # A closed terminal ends it as Ctrl-C does.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(BrokenPipeError):
        main()
