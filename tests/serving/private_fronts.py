"""What answers links to private files, as docs/private.md says: a server in front of Django, or nginx alone."""

from __future__ import annotations

from pathlib import Path

from tests.documented import documented, filled
from tests.processes import RUNNING_AS_ROOT, Server, need
from tests.servers import CONF
from tests.serving.fronts import Django, Front

PAGE = "private.md"


class _Nginx(Server):
    def command(self) -> list[str]:
        nginx = need("nginx", "nginx")
        return [nginx, "-p", str(self.folder), "-e", str(self.folder / "log/start.log"), "-c", "server.conf"]

    def write_configuration(self, template: str, values: dict[str, str]) -> None:
        for name in ("tmp", "log"):
            (self.folder / name).mkdir()
        user = "user root;" if RUNNING_AS_ROOT else ""
        text = filled((CONF / template).read_text(), {**values, "@ROOT@": str(self.folder), "@USER@": user})
        (self.folder / "server.conf").write_text(text)


class AccelNginx(Front, _Nginx):
    """In front of Django; ``private`` is the storage's location."""

    def __init__(self, django: Django) -> None:
        super().__init__(django)
        self.private = self.folder / "private"

    def prepare(self) -> None:
        self.private.mkdir()
        examples = {"127.0.0.1:8000": f"127.0.0.1:{self.django.port}", "/srv/site/private/": f"{self.private}/"}
        block = filled(documented(PAGE, "nginx", under="Answered by Django"), examples)
        self.write_configuration("front.conf", {"@DOCS@": block, "@PORT@": str(self.port)})


class SendfileApache(Front):
    """As above."""

    unprivileged = "nobody"

    def __init__(self, django: Django) -> None:
        super().__init__(django)
        self.private = self.folder / "private"

    def prepare(self) -> None:
        if not Path("/usr/lib/apache2/modules/mod_xsendfile.so").exists():
            need("libapache2-mod-xsendfile", "/usr/lib/apache2/modules/mod_xsendfile.so")
        for folder in (self.private, self.folder / "tmp", self.folder / "log"):
            folder.mkdir()
        examples = {"127.0.0.1:8000": f"127.0.0.1:{self.django.port}", "/srv/site/private": str(self.private)}
        block = filled(documented(PAGE, "apache", under="Answered by Django"), examples)
        values = {"@DOCS@": block, "@PORT@": str(self.port), "@ROOT@": str(self.folder)}
        (self.folder / "server.conf").write_text(filled((CONF / "front-apache.conf").read_text(), values))

    def command(self) -> list[str]:
        return [need("apache2", "apache2", "httpd"), "-DFOREGROUND", "-f", str(self.folder / "server.conf")]


class LinkNginx(_Nginx):
    """Serves *root* to who has a link. *rotating*: with a second secret. *origin*: the port that has other files;
    *is_origin*: *root* is the storage's own folder."""

    def __init__(self, root: Path, *, rotating: bool = False, origin: int = 0, is_origin: bool = False) -> None:
        super().__init__()
        self.root = root
        self.rotating = rotating
        self.origin = origin
        self.is_origin = is_origin

    def prepare(self) -> None:
        block = documented(PAGE, "nginx", under="Answered by nginx alone")
        if self.rotating:
            end = block.index("}\n") + 2
            block = documented(PAGE, "nginx", under="A new secret for nginx") + block[end:]
        place = "location ^~ /private/ {\n"
        if self.is_origin:
            block = filled(block, {"root /srv/media;\n": "\n", place: f"{place}alias /srv/media/;\n"})
        if self.origin:
            further = documented(PAGE, "nginx", under="A file that a host does not have yet")
            (more, fallback) = further.removeprefix(place).split("}\n", 1)
            fallback = filled(fallback, {"10.0.0.9:8080": f"127.0.0.1:{self.origin}"})
            block = filled(block, {place: f"{fallback}{place}{more}"})
        block = filled(block, {"listen 80;": f"listen 127.0.0.1:{self.port};", "/srv/media": str(self.root)})
        self.write_configuration("hosts-nginx.conf", {"@SERVERS@": block})
