"""What an examination finds at WebDAV servers, and what it says is to be changed there."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate
from functools import partial
from time import time
from typing import Any

import pytest

from replicator.targets.base import Space, TargetFile
from replicator.targets.findings import Finding
from replicator.targets.webdav import WebDAVTarget
from replicator.targets.webdavadvice import advice_for, kind_of
from replicator.targets.webdavexam import WebDAVTrial
from replicator.targets.webdavoptions import WebDAVOptions
from tests.servers import Apache, Embedded, Lighttpd, MediaHost, Nginx
from tests.targets.rawserver import RawServer, read_request
from tests.targets.test_examine import FINE, examined, words

MIB = 1024 * 1024


class WsgiDAV(MediaHost):
    """A server whose PUT is not atomic."""

    ready_within = 30.0

    def prepare(self) -> None:
        self.root.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--root", str(self.root)]
        return [sys.executable, "-m", "wsgidav.server.server_cli", *place, "--auth", "anonymous"]


def found_at(host: MediaHost, *, size: int = 2 * MIB, **options: Any) -> dict[str, Finding]:
    target = WebDAVTarget("media1", url=host.url, **options)
    try:
        return examined(target, "/media/", size=size)
    finally:
        target.close()


def found_with(host: MediaHost, **options: Any) -> dict[str, Finding]:
    """At a server of this test only."""
    with host:
        found = found_at(host, **options)
        if found["cleaning up"].ok == "fine":
            assert_clean(host)
        return found


def assert_clean(host: MediaHost) -> None:
    assert [str(path.relative_to(host.root)) for path in host.root.rglob("*")] in ([], ["media"])


# Servers as docs/webdav.md has them


@pytest.mark.parametrize("kind", ["nginx", "apache", "embedded"])
def test_a_server_that_is_configured_well_is_fine(kind: str, request: pytest.FixtureRequest) -> None:
    """Nothing is to be changed, and nothing is left; empty folders neither."""
    host: MediaHost = request.getfixturevalue(kind)
    host.write("media/mine.txt", b"mine")
    found = found_at(host)
    assert words(found, "fine") >= FINE | {"under way", "keep-alive", "clock", "listing"}, found
    # This machine's disk may be full.
    assert words(found, "must") | words(found, "should") <= {"free space"}
    assert sorted(str(path.relative_to(host.root)) for path in host.root.rglob("*")) == ["media", "media/mine.txt"]


def test_the_server_says_what_it_is(nginx: MediaHost) -> None:
    assert found_at(nginx)["answers"].text.startswith("nginx/")
    assert found_at(nginx)["not seen"].advice.startswith("client_body_temp_path must be on the file system of root")


def test_lighttpd_is_told_to_forget_what_files_were(lighttpd: MediaHost) -> None:
    """Its own defaults cost a second look, 1.1 s later."""
    found = found_at(lighttpd)
    assert not words(found, "must")
    assert words(found, "should") - {"free space"} == {"empty file"}
    assert found["empty file"].advice == 'server.stat-cache-engine = "disable"'
    assert found["long names"].ok == "note"
    assert "245 bytes" in found["long names"].advice
    assert_clean(lighttpd)
    with_it = found_with(Lighttpd(server='server.stat-cache-engine = "disable"'))
    assert with_it["empty file"].ok == "fine"


def test_only_the_scratch_folder_is_changed() -> None:
    """Promise 6. But for the storage's own folder, which a first file would need, too."""
    with Nginx(server="access_log @ROOT@/log/all.log;", full_put_path="off") as host:
        host.write("media/avatars/mine.txt", b"mine")
        found_at(host)
        log = (host.folder / "log/all.log").read_text()
        requests = re.findall(r'"([A-Z]+) (\S+) HTTP', log)
        changing = {path for method, path in requests if method not in ("GET", "HEAD", "OPTIONS", "PROPFIND")}
        assert len(changing) > 50
        outside = {path for path in changing if not re.match(r"/media/replicator-probe-[0-9a-f]{12}/", path)}
        assert outside <= {"/media/"}
        assert {method for method, path in requests if path in outside} <= {"MKCOL"}
        deleted = {path for method, path in requests if method == "DELETE"}
        assert all(path.startswith("/media/replicator-probe-") for path in deleted)


def test_closing_it_early_leaves_nothing(media_host: MediaHost) -> None:
    """Whoever stops looking, wherever."""
    target = WebDAVTarget("media1", url=media_host.url)
    for stop_after in ("write", "odd names", "delete folder"):
        with closing(target.examine("/media/")) as findings:
            while next(findings).what != stop_after:
                pass
            assert media_host.files()
        assert_clean(media_host)
    target.close()


# What is to be changed


def test_nginx_with_its_own_body_limit() -> None:
    """What is larger than 1 MiB fails at once, and only a person can cure it."""
    host = Nginx(location="client_max_body_size 1m;")
    found = found_with(host)
    assert words(found, "must") == {"large file"}
    assert "413" in found["large file"].text
    assert found["large file"].advice.startswith("client_max_body_size 0;")


def test_a_limit_above_the_usual_size_is_found_when_asked_for() -> None:
    with Nginx(location="client_max_body_size 5m;") as host:
        assert found_at(host)["large file"].ok == "fine"
        found = found_at(host, size=6 * MIB)
    assert found["large file"].ok == "must"


def test_nginx_without_create_full_put_path() -> None:
    """It works, at the price of two requests more."""
    found = found_with(Nginx(full_put_path="off"))
    assert not words(found, "must")
    assert found["new folders"].ok == "should"
    assert found["new folders"].advice == "create_full_put_path on;"


def test_nginx_that_can_make_no_folders() -> None:
    """Then nothing arrives."""
    found = found_with(Nginx(full_put_path="off", dav_methods="PUT DELETE"))
    assert words(found, "must") == {"write"}
    assert found["write"].advice == "create_full_put_path on; or MKCOL among dav_methods."


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        (partial(Nginx, dav_methods="off"), "dav_methods PUT DELETE MKCOL MOVE;"),
        (partial(Nginx, location="limit_except GET { deny all; }"), "limit_except"),
        (
            partial(Lighttpd, server='$HTTP["url"] =~ "^/media" { webdav.is-readonly = "enable" }'),
            'webdav.is-readonly = "disable"',
        ),
        (partial(Lighttpd, server='$HTTP["url"] =~ "^/media" { webdav.activate = "disable" }'), "webdav.activate"),
        (partial(Apache, directory="Dav Off\n Require all granted"), "Dav On"),
        (partial(Apache, directory="Require method GET HEAD OPTIONS"), "Require must let this machine in"),
    ],
    ids=["nginx off", "nginx limit", "lighttpd read-only", "lighttpd off", "Apache off", "Apache limit"],
)
def test_a_server_that_can_only_be_read(host: Any, advice: str) -> None:
    """Whoever looks is told what to write for this kind of server."""
    found = found_with(host())
    (what,) = words(found, "must")
    assert what in ("answers", "write")
    assert advice in found[what].advice
    assert "the rest" in found


def test_a_server_that_deletes_nothing() -> None:
    """It is found out with two files, which are named since they stay."""
    with Nginx(dav_methods="PUT MKCOL") as host:
        found = found_at(host)
        assert words(found, "must") == {"delete", "cleaning up"}
        assert "DELETE" in found["delete"].advice
        folder = next(iter(host.files())).split("/")[1]
        assert f"/media/{folder}/" in found["cleaning up"].text
        assert len(host.files()) == 2


def test_a_server_that_asks_for_credentials() -> None:
    """The password is not in what is said."""
    with Embedded(user="me", password="secret") as host:
        found = found_at(host)
        assert words(found, "must") == {"answers"}
        assert "set the target's options username and password" in found["answers"].text
        found = found_at(host, username="me", password="guess")
        assert words(found, "must") == {"answers"}
        assert "guess" not in str(found)
        found = found_at(host, username="me", password="secret")
        assert not words(found, "must")
        assert "can't read (401) here, and can't write (401)" in found["strangers"].text
        assert_clean(host)


def test_a_server_where_anybody_can_write(nginx: MediaHost, apache: MediaHost) -> None:
    """The target has credentials, and they are not asked for: who set them believes that they protect something."""
    found = found_at(nginx, username="me", password="secret")
    assert words(found, "must") == {"strangers"}
    assert "limit_except" in found["strangers"].advice
    assert "LimitExcept" in found_at(apache, token="secret")["strangers"].advice
    assert found_at(nginx)["strangers"].ok == "note"
    assert "see that only workers get here" in found_at(nginx)["strangers"].text


def test_a_put_that_is_seen_before_its_end() -> None:
    """Promise 5: with ``atomic_put: False`` it is kept there, too."""
    with WsgiDAV() as host:
        found = found_at(host)
        assert words(found, "must") == {"cut off", "under way"}
        assert '"atomic_put": False' in found["under way"].advice
        assert '"atomic_put": False' in found["cut off"].advice
        assert_clean(host)
        found = found_at(host, atomic_put=False)
        assert not words(found, "must")
        assert "they do not" in found["under way"].text
        assert_clean(host)


def test_an_option_that_is_not_needed(nginx: MediaHost) -> None:
    """It costs two requests for each file."""
    found = found_at(nginx, atomic_put=False)
    assert found["under way"].ok == "note"
    assert "not needed" in found["under way"].text


def test_a_server_without_move_that_needs_it() -> None:
    found = found_with(Nginx(dav_methods="PUT DELETE MKCOL"), atomic_put=False)
    assert words(found, "must") == {"write"}
    assert found["write"].advice == "MOVE among dav_methods."


class _Ends(Apache):
    """An Apache with its own limit."""

    def prepare(self) -> None:
        super().prepare()
        conf = self.folder / "server.conf"
        conf.write_text(conf.read_text().replace("MaxKeepAliveRequests 0", "MaxKeepAliveRequests 100"))


def test_a_connection_that_ends_early() -> None:
    """A backlog needs many; what each server calls it."""
    found = found_with(_Ends())
    assert found["keep-alive"].ok == "should"
    assert re.search(r"after (100|101) requests", found["keep-alive"].text)
    assert "MaxKeepAliveRequests 0" in found["keep-alive"].advice
    found = found_with(Nginx(server="keepalive_requests 100;"))
    assert "after 100 requests" in found["keep-alive"].text
    assert "keepalive_requests" in found["keep-alive"].advice
    found = found_with(Nginx(server="keepalive_timeout 0;"))
    assert "after 1 request:" in found["keep-alive"].text


def test_a_server_that_can_not_be_listed() -> None:
    """Audits ask for each file then."""

    class NoList(Nginx):
        def values(self) -> dict[str, str]:
            return {**super().values(), "DAV_EXT_METHODS": ""}

    found = found_with(NoList())
    assert found["listing"].ok == "should"
    assert "libnginx-mod-http-dav-ext" in found["listing"].advice


def test_names_that_a_server_hides() -> None:
    """Written, and then not given out: they would be sent for ever."""
    found = found_with(Nginx(server=r"location ~ /\.hidden { return 403; }"))
    assert found["odd names"].ok == "should"
    assert "'.hidden' (403 to PUT" in found["odd names"].text


def test_a_server_that_does_not_answer() -> None:
    """Where nothing was sent, nothing can be left; and it takes one time-out, not ten."""
    with RawServer(lambda sock: None) as server:
        url = server.url
    found = examined(WebDAVTarget("media1", url=url, connect_timeout=1.0), "/media/")
    assert words(found, "must") == {"answers"}
    assert found["cleaning up"].ok == "fine"


def test_a_server_that_dies_meanwhile() -> None:
    """What stays there is named."""
    with Nginx() as host:
        target = WebDAVTarget("media1", url=host.url, connect_timeout=1.0)
        findings = target.examine("/media/")
        while next(findings).what != "odd names":
            pass
        host.kill()
        rest = {finding.what: finding for finding in findings}
        assert rest["speed"].ok == "must"
        assert rest["cleaning up"].ok == "must"
        assert "/media/replicator-probe-" in rest["cleaning up"].text
        target.close()


# What no server here does


@pytest.fixture
def dated() -> Iterator[tuple[RawServer, list[float]]]:
    """A server whose clock is so many seconds ahead."""
    ahead = [0.0]

    def script(sock: socket.socket) -> None:
        while True:
            read_request(sock)
            date = f"Date: {formatdate(time() + ahead[0], usegmt=True)}\r\n" if ahead else ""
            sock.sendall(f"HTTP/1.1 200 OK\r\n{date}Content-Length: 0\r\n\r\n".encode())

    with RawServer(script) as server:
        yield server, ahead


def _trial(url: str) -> WebDAVTrial:
    options: dict[str, Any] = {"alias": "media1", "url": url, "headers": {}, "verify": "size", "atomic_put": True}
    texts = ("username", "password", "token", "ca_bundle", "client_cert", "client_key")
    options |= {**dict.fromkeys(texts, ""), "auth": "basic"}
    options |= {"connect_timeout": 5.0, "read_timeout": 5.0, "min_rate": 1024.0}
    make_file = partial(TargetFile, "", prefix="/media/")
    return WebDAVTrial(WebDAVTarget("media1", url=url), make_file, MIB, WebDAVOptions(**options))


def test_a_clock_that_differs(dated: tuple[RawServer, list[float]]) -> None:
    """Audits go by when a file was written there."""
    server, ahead = dated
    trial = _trial(server.url)
    assert [finding.ok for finding in trial.clock()] == ["fine"]
    for seconds, says in ((600, "600 s ahead of"), (-90, "90 s behind")):
        ahead[0] = seconds + 0.5
        (finding,) = trial.clock()
        assert finding.ok == "should"
        assert re.search(says.replace(str(abs(seconds)), r"\d+"), finding.text)
        assert "NTP" in finding.advice
    ahead.clear()
    assert [finding.ok for finding in trial.clock()] == ["note"]


def test_free_space_is_told_where_the_target_tells(nginx: MediaHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebDAVTarget, "space", lambda self: Space(free=50 * 1024**3, total=100 * 1024**3))
    assert found_at(nginx)["free space"].text == "50.0 of 100.0 GiB"


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        ("nginx/1.22.1", "nginx"),
        ("nginx", "nginx"),
        ("openresty/1.25", "nginx"),
        ("lighttpd/1.4.69", "lighttpd"),
        ("Apache/2.4.71 (Debian)", "Apache"),
        ("WsgiDAV/4.4.0 Cheroot/11.1.2 Python/3.11", "WsgiDAV"),
        ("cloudflare", "Cloudflare"),
        ("", ""),
        ("Microsoft-IIS/10.0", ""),
    ],
)
def test_the_kind_of_a_server(server: str, kind: str) -> None:
    assert kind_of(server) == kind


def test_what_to_change_at_an_unknown_server_is_said_of_each() -> None:
    """Many hide what they are, and a proxy says what it is itself."""
    advice = advice_for("large file", "")
    for text in ("nginx: client_max_body_size 0;", "lighttpd: server.max-request-size", "Apache: LimitRequestBody 0"):
        assert text in advice
    assert advice_for("atomic", "") == advice_for("atomic", "WsgiDAV") != ""
    assert advice_for("odd names", "nginx") == ""
