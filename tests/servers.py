"""Real servers for tests, as classes to start and as pytest fixtures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Postgres, RabbitMQ, Redis
from tests.processes import RUNNING_AS_ROOT, Server, need

CONF = Path(__file__).with_name("conf")
CHECKOUT = Path(__file__).parent.parent

__all__ = ["Apache", "Embedded", "Lighttpd", "MediaHost", "Nginx", "Postgres", "RabbitMQ", "Redis"]


class MediaHost(Server):
    """A server that takes PUT and DELETE. ``url`` has no trailing slash; ``root`` holds the files."""

    scheme = "http"
    template: str

    def __init__(self, **options: str) -> None:
        super().__init__()
        self.options = options
        self.root = self.folder / "files"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def values(self) -> dict[str, str]:
        """What the configuration's ``@NAMES@`` stand for; options of the constructor come first."""
        return {}

    def prepare(self) -> None:
        for name in ("files", "tmp", "log", "lock"):
            (self.folder / name).mkdir(exist_ok=True)
        text = (CONF / self.template).read_text()
        values = {"ROOT": str(self.folder), "PORT": str(self.port), **self.values()}
        values.update({name.upper(): value for name, value in self.options.items()})
        # Options may name the root too.
        for _ in range(2):
            for name, value in values.items():
                text = text.replace(f"@{name}@", value)
        (self.folder / "server.conf").write_text(text)

    def write(self, name: str, data: bytes) -> Path:
        """Put a file there behind everyone's back, as the server's own user."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        top = self.root / Path(name).parts[0]
        self.own(top)
        return path

    def files(self) -> dict[str, bytes]:
        """Name → bytes of everything it holds."""
        return {
            str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()
        }

    def wipe(self) -> None:
        """Remove everything it holds."""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


#: What lists files, where it is installed.
DAV_EXT = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")


class Nginx(MediaHost):
    """Options: ``server`` and ``location`` (directives), ``listen`` (parameters), ``full_put_path`` (on, off),
    ``dav_methods``."""

    template = "nginx.conf"

    def command(self) -> list[str]:
        nginx = need("nginx", "nginx")
        return [nginx, "-p", str(self.folder), "-e", str(self.folder / "log/start.log"), "-c", "server.conf"]

    def values(self) -> dict[str, str]:
        return {
            "USER": "user root;" if RUNNING_AS_ROOT else "",
            "DAV_EXT": f"load_module {DAV_EXT};" if DAV_EXT.exists() else "",
            "DAV_EXT_METHODS": "dav_ext_methods PROPFIND OPTIONS;" if DAV_EXT.exists() else "",
            "DAV_METHODS": "PUT DELETE MKCOL COPY MOVE",
            "FULL_PUT_PATH": "on",
            "SERVER": "",
            "LOCATION": "",
            "LISTEN": "",
        }


class Lighttpd(MediaHost):
    """Options: ``modules`` (``, "mod_x"``) and ``server`` (directives)."""

    template = "lighttpd.conf"

    def command(self) -> list[str]:
        return [need("lighttpd", "lighttpd"), "-D", "-f", "server.conf"]

    def prepare(self) -> None:
        if not Path("/usr/lib/lighttpd/mod_webdav.so").exists():
            need("lighttpd-mod-webdav", "/usr/lib/lighttpd/mod_webdav.so")
        super().prepare()

    def values(self) -> dict[str, str]:
        return {"MODULES": "", "SERVER": ""}


class Apache(MediaHost):
    """Options: ``modules`` (LoadModule lines) and ``directory`` (directives)."""

    template = "apache.conf"
    # It refuses to serve as root, and is the only one here that does.
    unprivileged = "nobody"

    def command(self) -> list[str]:
        return [need("apache2", "apache2", "httpd"), "-DFOREGROUND", "-f", str(self.folder / "server.conf")]

    def values(self) -> dict[str, str]:
        return {"MODULES": "", "DIRECTORY": "Require all granted"}


class Embedded(MediaHost):
    """The project's own media host. Options: ``user`` and ``password``."""

    def prepare(self) -> None:
        self.root.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        root = str(self.root)
        return [sys.executable, "-m", "project.mediahost", "--root", root, "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        values = {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        for name, value in self.options.items():
            values[f"MEDIAHOST_{name.upper()}"] = value
        return values


def _session(kind: type[Server]) -> Iterator[Server]:
    with kind() as server:
        yield server


def _revived(server: Server) -> Iterator[Server]:
    """A server for one test: running before it, whatever the test before did, and with nothing in it."""
    server.resume()
    server.start()
    if isinstance(server, MediaHost):
        server.wipe()
    yield server
    server.resume()


@pytest.fixture(scope="session")
def _nginx() -> Iterator[Server]:
    yield from _session(Nginx)


@pytest.fixture(scope="session")
def _lighttpd() -> Iterator[Server]:
    yield from _session(Lighttpd)


@pytest.fixture(scope="session")
def _apache() -> Iterator[Server]:
    yield from _session(Apache)


@pytest.fixture(scope="session")
def _embedded() -> Iterator[Server]:
    yield from _session(Embedded)


@pytest.fixture(scope="session")
def _redis() -> Iterator[Server]:
    yield from _session(Redis)


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Server]:
    yield from _session(Postgres)


@pytest.fixture(scope="session")
def _rabbitmq() -> Iterator[Server]:
    yield from _session(RabbitMQ)


@pytest.fixture
def nginx(_nginx: Server) -> Iterator[Server]:
    yield from _revived(_nginx)


@pytest.fixture
def lighttpd(_lighttpd: Server) -> Iterator[Server]:
    yield from _revived(_lighttpd)


@pytest.fixture
def apache(_apache: Server) -> Iterator[Server]:
    yield from _revived(_apache)


@pytest.fixture
def embedded(_embedded: Server) -> Iterator[Server]:
    yield from _revived(_embedded)


@pytest.fixture(params=["nginx", "lighttpd", "apache", "embedded"])
def media_host(request: pytest.FixtureRequest) -> MediaHost:
    """Each kind of media host in turn, empty."""
    host: MediaHost = request.getfixturevalue(request.param)
    return host


@pytest.fixture
def redis(_redis: Server) -> Iterator[Server]:
    yield from _revived(_redis)


@pytest.fixture
def postgres(_postgres: Server) -> Iterator[Server]:
    yield from _revived(_postgres)


@pytest.fixture
def rabbitmq(_rabbitmq: Server) -> Iterator[Server]:
    yield from _revived(_rabbitmq)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and server and client certificates that it signed."""
    folder = tmp_path_factory.mktemp("tls")
    openssl = need("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        run("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return folder
