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
from pathlib import Path

from project import demo
from project.demo import samples
from project.demo.saving import Failed
from project.demo.shapes import LINK_SECONDS
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
    parser.add_argument("--limit", type=float, default=900, help="seconds until it gives up; default: %(default).0f")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="replicator-demo-"))
    right = False
    kept: Path | None = None
    try:
        files = _sources(options.files, folder / "samples")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        if can_have_s3():
            clean["S3"] = "1"
        else:
            print("S3 is left out: moto and django-storages are not installed (make setup does that)")
        given = {**clean, **QUICK, "SECRET_KEY": "for the demo only", "DJANGO_SETTINGS_MODULE": "project.settings"}
        ports: dict[str, int] = {}
        for name in PORTS:
            ports[name] = any_port(ports.values())
        with Embedded(folder / "var", ports, given) as site, Processes(site, folder / "logs") as processes:
            right = _tour(site, processes, options.limit).go(files)
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


def _tour(site: Embedded, processes: Processes, limit: float) -> Tour:
    import django
    from django.core.management import call_command

    site.make_folders()
    os.environ.clear()
    os.environ.update(site.environment())
    django.setup()
    logging.getLogger("replicator").setLevel("ERROR")  # that a host is down is the point, here
    call_command("migrate", verbosity=0)
    for name in ("broker", *site.stores, "worker", "beat"):
        processes.start(name)
    print("• Collecting static files, to every host", flush=True)
    call_command("collectstatic", interactive=False, verbosity=0)
    processes.start("web")
    return Tour(site, processes, limit)


def _keep_logs(folder: Path) -> Path | None:
    if not (folder / "logs").exists():
        return None
    kept = Path(tempfile.mkdtemp(prefix="replicator-demo-logs-"))
    shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
