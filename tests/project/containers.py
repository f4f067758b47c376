"""One service of docker-compose.yml without a container: its own command line and health check, on loopback.

What a container would have of its own (addresses, paths) is replaced in them; nothing else is. What images do by
themselves (PostgreSQL's makes a database, Redis's and nginx's have a working folder) is done here in their place.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.brokers import Postgres
from tests.processes import RUNNING_AS_ROOT, Server, free_port, need
from tests.project.composefile import Services, health_check, is_ours, only, published
from tests.servers import CHECKOUT, DAV_EXT

#: As in the images: Alpine's programs are all of them busybox.
BUSYBOX = ("sh",)


class Machine:
    """What stands for Docker: where containers' addresses and paths are. ``folder`` is its temporary place."""

    def __init__(self, folder: Path, services: Services) -> None:
        self.services = services
        self.tree, self.var, self.home = folder / "site", folder / "var", folder / "home"
        self._ports: dict[tuple[str, int], int] = defaultdict(free_port)
        self._published = {port: inside for (_, port), inside in published(services).items()}
        names = "|".join(map(re.escape, services))
        self._place = re.compile(rf"\b(0\.0\.0\.0|127\.0\.0\.1|localhost|{names}):(\d+)\b")

    def port(self, service: str, inside: int) -> int:
        return self._ports[service, inside]

    def published_port(self, port: int) -> int:
        return self._ports[self._published[port]]

    def local(self, text: str, service: str) -> str:
        """*text* of this service, for a process of this machine. ``localhost`` there means the machine itself."""

        def place(match: re.Match[str]) -> str:
            name, port = match[1], int(match[2])
            if name == "localhost":
                return f"localhost:{self.published_port(port)}"
            owner = name if name in self.services else service
            # As a name where it is one: what takes addresses only is not good enough.
            return f"{'localhost' if owner == name else '127.0.0.1'}:{self._ports[owner, port]}"

        text = self._place.sub(place, text)
        return text.replace("/srv/site", str(self.tree)).replace("/srv/var", str(self.var))

    def local_arguments(self, arguments: list[str], service: str) -> list[str]:
        """Of a command line, where ports and addresses stand alone, too."""
        found: list[str] = []
        for each in (self.local(argument, service) for argument in arguments):
            if each.isdigit() and int(each) > 1024:
                found.append(str(self._ports[service, int(each)]))
            elif found and found[-1] == "--address":
                found.append("localhost")
            else:
                each = each.replace("=0.0.0.0", "=127.0.0.1")
                found.append(re.sub(r"(?<=^--port=)\d+$", lambda m: str(self._ports[service, int(m[0])]), each))
        return found


class Part(Server):
    """One service. It answers when its health check says so."""

    ready_within = 120.0
    unprivileged = "nobody"

    def __init__(self, machine: Machine, name: str) -> None:
        super().__init__()
        self.machine, self.name = machine, name
        self.service = machine.services[name]

    # What differs from one image to the next.

    def command(self) -> list[str]:
        return self._local(self.service["command"])

    def extra_environment(self) -> dict[str, str]:
        return {}

    def check(self) -> list[str]:
        return self._local(health_check(self.service))

    # What does not.

    def answers(self) -> bool:
        if "healthcheck" not in self.service:
            return self.process is not None and self.process.wait(timeout=120) == 0
        if self.is_healthy():
            return True
        # Some are programs that take a second of the processor, which those that start need.
        time.sleep(0.3)
        return False

    def is_healthy(self) -> bool:
        return self.once(self.check()).returncode == 0

    def once(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """As ``docker compose exec`` does."""
        return subprocess.run(
            self._locked(command),
            cwd=self.working_folder,
            env={**self.environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **self._user(),  # type: ignore[call-overload]
        )

    @property
    def working_folder(self) -> Path:
        return self.folder

    def environment(self) -> dict[str, str]:
        """Nothing of the test run's own."""
        given: Mapping[str, Any] = self.service.get("environment", {})
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
            "HOME": str(self.machine.home),
            "HOSTNAME": socket.gethostname(),
            **{name: self.machine.local(value, self.name) for name, value in given.items()},
            **self.extra_environment(),
        }

    def spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._locked(command),
            cwd=self.working_folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **self._user(),  # type: ignore[call-overload]
        )

    def _locked(self, command: list[str]) -> list[str]:
        """Without capabilities, and with no way to get any."""
        setpriv = [need("util-linux", "setpriv"), "--no-new-privs"]
        if RUNNING_AS_ROOT and not self.unprivileged:
            setpriv += ["--bounding-set=-all", "--inh-caps=-all"]
        return [*setpriv, *command]

    def _local(self, arguments: list[str]) -> list[str]:
        found = self.machine.local_arguments(arguments, self.name)
        if found[0] in BUSYBOX and not is_ours(self.service):
            return [need("busybox", "busybox"), *found]
        return found


class Ours(Part):
    """In the image of the Dockerfile: what it copies, its variables, its command unless there is another."""

    # The Python of a test run may lie in root's home, where nobody else may read.
    unprivileged = None

    def command(self) -> list[str]:
        return self._local(self.service.get("command") or only("CMD").arguments)

    @property
    def working_folder(self) -> Path:
        return self.machine.tree

    def extra_environment(self) -> dict[str, str]:
        return image_environment(self.machine)


class NginxPart(Part):
    """In the image of a media host: its configuration, its command."""

    def prepare(self) -> None:
        text = (CHECKOUT / self.service["build"] / "nginx.conf").read_text()
        for inside in (8080, 8081):
            listen = f"listen 127.0.0.1:{self.machine.port(self.name, inside)};"
            assert text.count(f"listen {inside};") == 1
            text = text.replace(f"listen {inside};", listen)
        text = text.replace("/srv/media", f"{self.folder}/media").replace("/tmp/nginx", f"{self.folder}/nginx")
        (self.folder / "media/files").mkdir(parents=True)
        (self.folder / "server.conf").write_text(text)

    def command(self) -> list[str]:
        if not DAV_EXT.exists():
            need("libnginx-mod-http-dav-ext", str(DAV_EXT))
        nginx, *arguments = only("CMD", self.service["build"]).arguments
        return [need("nginx", nginx), *arguments, "-p", str(self.folder), "-c", str(self.folder / "server.conf")]


class RedisPart(Part):
    def command(self) -> list[str]:
        need("redis-server", "redis-server")
        *shell, script = self._local(self.service["command"])
        assert "redis-server -" in script
        own = f"--port {self.machine.port(self.name, 6379)} --bind 127.0.0.1 --dir {self.folder}"
        return [*shell, script.replace("redis-server -", f"redis-server - {own}")]

    def check(self) -> list[str]:
        need("redis-tools", "redis-cli")
        program, *arguments = super().check()
        return [program, "-p", str(self.machine.port(self.name, 6379)), *arguments]


class PostgresPart(Part):
    """The image makes the database that its environment names, whose user has the password."""

    stop_signal = Postgres.stop_signal
    _binary = Postgres._binary

    def prepare(self) -> None:
        self.own(self.folder)
        given = self.environment()
        password = self.folder / "password"
        password.write_text(given["POSTGRES_PASSWORD"])
        self.own(password)
        self.run([self._binary("initdb"), "-D", str(self.folder / "data"), "-U", given["POSTGRES_USER"], "-E", "UTF8",
                  "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "--locale=C.UTF-8"])  # fmt: skip
        make = f'CREATE DATABASE "{given["POSTGRES_DB"]}"\n'.encode()
        single = [self._binary("postgres"), "--single", "-D", str(self.folder / "data"), "postgres"]
        subprocess.run(single, input=make, env=given, check=True, capture_output=True, **self._user())  # type: ignore

    def command(self) -> list[str]:
        return [self._binary("postgres"), "-D", str(self.folder / "data"), "-h", "127.0.0.1",
                "-k", str(self.folder), "-c", "fsync=off"]  # fmt: skip

    def extra_environment(self) -> dict[str, str]:
        return {"PGPORT": str(self.machine.port(self.name, 5432))}

    def check(self) -> list[str]:
        program, *arguments = super().check()
        return [self._binary(program), *arguments]


KINDS: dict[str, type[Part]] = {
    "replicator-mediahost": NginxPart,
    "redis": RedisPart,
    "postgres": PostgresPart,
}


def image_environment(machine: Machine) -> dict[str, str]:
    return dict(machine.local(each, "").split("=", 1) for each in shlex.split(only("ENV").rest))
