"""Media hosts that fall back to an origin, and the origin: real servers, configured as docs/hosts.md says."""

from __future__ import annotations

import contextlib
import itertools
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.documented import documented, filled
from tests.processes import RUNNING_AS_ROOT, Server, descendants, free_port, need
from tests.servers import CONF, DAV_EXT

PAGE = "hosts.md"
#: The site's network in the page, and here: without 127.0.0.9, for example.
NETWORK = {"10.0.0.0/8": "127.0.0.0/29"}


class _Nginx(Server):
    """An nginx with these ``server`` blocks."""

    def servers(self) -> str:
        raise NotImplementedError

    def prepare(self) -> None:
        for name in ("tmp", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        user = "user root;" if RUNNING_AS_ROOT else ""
        module = f"load_module {DAV_EXT};" if DAV_EXT.exists() else ""
        values = {"@SERVERS@": self.servers(), "@ROOT@": str(self.folder), "@USER@": f"{module}\n{user}"}
        (self.folder / "server.conf").write_text(filled((CONF / "hosts-nginx.conf").read_text(), values))

    def command(self) -> list[str]:
        nginx = need("nginx", "nginx")
        return [nginx, "-p", str(self.folder), "-e", str(self.folder / "log/start.log"), "-c", "server.conf"]


class Origin(_Nginx):
    """Serves ``media``; knows what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.media = self.folder / "media"
        self._numbers = itertools.count()
        self._read = 0

    def prepare(self) -> None:
        self.media.mkdir()
        super().prepare()

    def servers(self) -> str:
        block = documented(PAGE, "nginx", under="The origin")
        return filled(
            block, {"10.0.0.9:8080": f"127.0.0.1:{self.port}", "/srv/site/media/": f"{self.media}/", **NETWORK}
        )

    def write(self, name: str, data: bytes) -> None:
        _write(self.media / name, data)

    def asked(self) -> list[str]:
        """``GET /media/a.txt`` for each request since the last call."""
        marker = f"/asked-{next(self._numbers)}"
        # It logs in the order in which it answered: what is logged before this is all there was.
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{marker}", method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as answer:
            answer.close()
        log = self.folder / "log/access.log"
        deadline = time.monotonic() + 60
        while f"HEAD {marker}\n" not in (text := log.read_text()[self._read :]):
            assert time.monotonic() < deadline, text
            time.sleep(0.01)
        self._read += len(text)
        return [line for line in text.splitlines() if "/asked-" not in line]


class Host(Server):
    """Browsers talk to ``port``, workers to ``writing_port``; ``root`` has what it holds.

    It falls back to *origin*, a port (0: nobody is there), which may be silent for *patience* seconds.
    """

    #: How its block says five seconds.
    patient: str

    def __init__(self, origin: int = 0, *, patience: int = 5) -> None:
        super().__init__()
        self.origin = origin or free_port()
        self.patience = patience
        self.writing_port = free_port()
        self.root = self.folder / "files"

    def prepare(self) -> None:
        for name in ("files", "uploads", "tmp", "log"):
            (self.folder / name).mkdir(exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Put a file below the media path, as if it had been delivered."""
        _write(self.root / "media" / name, data)
        self.own(self.root)

    def waiting(self) -> int:
        """Bytes on the disk in files that it has open, also in those without a name."""
        assert self.process is not None
        waiting = 0
        for pid in descendants(self.process.pid):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()).startswith(str(self.folder)):
                        waiting += descriptor.stat().st_blocks * 512
        return waiting

    def holds(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())

    def values(self) -> dict[str, str]:
        """The examples in its block, and what they are here."""
        return {
            "10.0.0.9:8080": f"127.0.0.1:{self.origin}",
            "10.0.0.1:8081": f"127.0.0.1:{self.writing_port}",
            "/srv/files": str(self.root),
            self.patient: self.patient.replace("5", str(self.patience)),
            **NETWORK,
        }


class NginxHost(Host, _Nginx):
    patient = "proxy_read_timeout 5s;"

    def prepare(self) -> None:
        Host.prepare(self)
        _Nginx.prepare(self)

    def servers(self) -> str:
        values = {"listen 80;": f"listen 127.0.0.1:{self.port};", "/srv/uploads": str(self.folder / "uploads")}
        if not DAV_EXT.exists():
            values["dav_ext_methods PROPFIND;"] = ""
        return filled(documented(PAGE, "nginx", under="nginx"), {**values, **self.values()})


class LighttpdHost(Host):
    patient = '"read-timeout" => 5'

    def prepare(self) -> None:
        super().prepare()
        if not Path("/usr/lib/lighttpd/mod_webdav.so").exists():
            need("lighttpd-mod-webdav", "/usr/lib/lighttpd/mod_webdav.so")
        values = self.values()
        del values["10.0.0.9:8080"]
        values |= {
            '"host" => "10.0.0.9", "port" => 8080': f'"host" => "127.0.0.1", "port" => {self.origin}',
            "server.port = 80\n": f'server.bind = "127.0.0.1"\nserver.port = {self.port}\n',
            "/srv/uploads": str(self.folder / "uploads"),
        }
        text = filled(documented(PAGE, "lighttpd", under="lighttpd"), values)
        (self.folder / "server.conf").write_text(f'server.errorlog = "{self.folder}/log/error.log"\n{text}')

    def command(self) -> list[str]:
        return [need("lighttpd", "lighttpd"), "-D", "-f", "server.conf"]


class ApacheHost(Host):
    patient = " timeout=5"
    # It refuses to serve as root.
    unprivileged = "nobody"

    def prepare(self) -> None:
        super().prepare()
        values = {"<VirtualHost *:80>": f"<VirtualHost 127.0.0.1:{self.port}>", **self.values()}
        sites = filled(documented(PAGE, "apache", under="Apache"), values)
        values = {"@SITES@": sites, "@ROOT@": str(self.folder), "@PORT@": str(self.port)}
        (self.folder / "server.conf").write_text(filled((CONF / "hosts-apache.conf").read_text(), values))

    def command(self) -> list[str]:
        return [need("apache2", "apache2", "httpd"), "-DFOREGROUND", "-f", str(self.folder / "server.conf")]


class CaddyHost(Host):
    """Its workers' side is an nginx, of another user."""

    unprivileged = "nobody"
    patient = "response_header_timeout 5s"

    def __init__(self, origin: int = 0, *, patience: int = 5) -> None:
        super().__init__(origin, patience=patience)
        self.writer = NginxHost(self.origin)
        self.writing_port, self.root = self.writer.writing_port, self.writer.root

    def start(self) -> Self:
        need("caddy", "caddy")
        self.writer.start()
        self.writer.folder.chmod(0o755)
        return super().start()

    def close(self) -> None:
        super().close()
        self.writer.close()

    def prepare(self) -> None:
        super().prepare()
        values = {"media.example.com {": f"http://:{self.port} {{\n\tbind 127.0.0.1", **self.values()}
        for example in ("10.0.0.1:8081", *NETWORK):
            del values[example]
        block = filled(documented(PAGE, "caddy", under="Caddy"), values)
        # Without a certificate, and without a listener for its own commands.
        (self.folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{block}")

    def command(self) -> list[str]:
        return [need("caddy", "caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "XDG_DATA_HOME": f"{self.folder}/tmp",
            "XDG_CONFIG_HOME": f"{self.folder}/tmp",
        }


KINDS: dict[str, type[Host]] = {
    "nginx": NginxHost,
    "lighttpd": LighttpdHost,
    "apache": ApacheHost,
    "caddy": CaddyHost,
}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
