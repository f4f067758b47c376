"""The command: a site in a temporary folder, one tour, and nothing left of it but the logs of a failure."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django
from django.core.management import call_command

from project import demo
from project.demo import samples
from project.demo.live import Live
from project.demo.livefiles import LiveFiles
from project.demo.saving import Failed
from project.demo.shapes import LINK_SECONDS
from project.demo.staging import StagingTour
from project.demo.tour import Tour
from project.embedded import HOSTS, MOGILEFS_PORTS, Embedded, any_port, can_have_s3
from project.processes import Ended, Processes

#: Everything that waits in the settings waits for a person or a network; the tour has neither.
QUICK = {
    "DEBUG": "0",
    "LOG_LEVEL": "INFO",
    "MOGILEFS": "1",
    "SHAPES": "1",
    "LINK_SECONDS": str(LINK_SECONDS),
    "STATIC_TO_HOSTS": "1",
    "SERVE_MEDIA": "1",
    "WEB_WORKERS": "1",
    "REPLICATOR_LEASE_SECONDS": "6",
    "REPLICATOR_DOUBT_WINDOW": "5",
    "REPLICATOR_RETRY_BASE": "1",
    "REPLICATOR_RETRY_CAP": "5",
}
#: Of the tour of a staging site.
STAGING = {"MOGILEFS": "0", "STATIC_TO_HOSTS": "0", "REPLICATOR_ORPHAN_GRACE": "5"}
PORTS = (
    "PORT",
    "FLOWER_PORT",
    *(f"{host.upper()}_PORT" for host in HOSTS),
    *MOGILEFS_PORTS,
    "MOGILEFS_CONTROL_PORT",
    "S3_PORT",
)
#: What the shell says about another site.
FOREIGN = (
    *("REPLICATOR_", "MEDIA_", "MOGILEFS", "DATABASE_URL", "CELERY_BROKER_URL", "ALLOWED_HOSTS"),
    *("S3", "STATIC_", "STAGING_"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="project.demo", description=demo.__doc__)
    parser.add_argument("files", nargs="?", default="", metavar="FOLDER", help="default: a small one of its own")
    parser.add_argument("--staging", action="store_true", help="the other tour: copying a live site's media")
    parser.add_argument("--objects", type=int, default=5000, help="files of the live site; default: %(default)s")
    parser.add_argument("--limit", type=float, default=900, help="seconds until it gives up; default: %(default).0f")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="replicator-demo-"))
    right = False
    kept: Path | None = None
    try:
        right = (_copy if options.staging else _save)(options, folder)
    except (Failed, Ended, KeyboardInterrupt) as error:
        print(f"\n{str(error) or 'Interrupted.'}", file=sys.stderr)
    finally:
        if not right:
            kept = _keep_logs(folder)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'Every host agrees' if right else 'FAILED'} after {time.monotonic() - began:.0f} s.")
    if kept:
        print(f"The logs are in {kept}")
    return 0 if right else 1


def _save(options: argparse.Namespace, folder: Path) -> bool:
    """The tour of a site that saves; whether everything was right at its end."""
    files = _sources(options.files, folder / "samples")
    if not can_have_s3():
        print("S3 is left out: moto and django-storages are not installed (make setup does that)")
    with _site(folder, S3=str(int(can_have_s3()))) as (site, processes):
        print("• Collecting static files, to every host", flush=True)
        call_command("collectstatic", interactive=False, verbosity=0)
        processes.start("web")
        return Tour(site, processes, options.limit).go(files)


def _copy(options: argparse.Namespace, folder: Path) -> bool:
    """The tour of a staging site."""
    if not can_have_s3():
        raise SystemExit("It needs moto and django-storages: write make setup, which installs them.")
    if options.objects < 100:
        raise SystemExit("Of less than 100 files none would be missing: write --objects 100, or more.")
    with Live(options.objects) as live, _site(folder, **STAGING, **live.environment()) as (site, processes):
        return StagingTour(site, processes, live, options.limit).go(LiveFiles(options.objects))


@contextmanager
def _site(folder: Path, **environment: str) -> Iterator[tuple[Embedded, Processes]]:
    """A site whose broker, hosts, worker and beat run; this process is one of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    given = {**clean, **QUICK, "SECRET_KEY": "for the demo only", "DJANGO_SETTINGS_MODULE": "project.settings"}
    ports: dict[str, int] = {}
    for name in PORTS:
        ports[name] = any_port(ports.values())
    with Embedded(folder / "var", ports, given | environment) as site, Processes(site, folder / "logs") as processes:
        site.make_folders()
        os.environ.clear()
        os.environ.update(site.environment())
        django.setup()
        logging.getLogger("replicator").setLevel("ERROR")  # that a host is down is the point, here
        call_command("migrate", verbosity=0)
        for name in ("broker", *site.stores, "worker", "beat"):
            processes.start(name)
        yield site, processes


def _sources(wanted: str, folder: Path) -> list[samples.Sample]:
    top = Path(wanted) if wanted else samples.make(folder)
    if not top.is_dir():
        raise SystemExit(f"{wanted} is not a folder: write make demo FILES=a-folder.")
    files, skipped = samples.find(top)
    if not files:
        raise SystemExit(f"{wanted} holds no files: write make demo FILES=a-folder-with-files.")
    note = "".join(f"; skipped: {count} ({reason})" for reason, count in skipped.items())
    print(f"{len(files)} files of {top if wanted else 'its own'}{note}")
    return files


def _keep_logs(folder: Path) -> Path | None:
    if not (folder / "logs").exists():
        return None
    kept = Path(tempfile.mkdtemp(prefix="replicator-demo-logs-"))
    shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
