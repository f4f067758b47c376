"""What the server in front is told, and the settings that say so."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import RequestFactory

from replicator.views import serve_mogilefs_file
from tests.serving.conftest import LARGE, Site


@pytest.fixture
def perlbal(settings: Any) -> None:
    settings.SERVE_WITH_PERLBAL = True


def _set(settings: Any, setting: str) -> None:
    if setting == "SERVE_WITH_PERLBAL":
        settings.SERVE_WITH_PERLBAL = True
    else:
        settings.REPLICATOR = {**settings.REPLICATOR, setting: "/fetch/"}


def _told(answer: Any) -> dict[str, str]:
    return {
        name: value for name, value in answer.headers.items() if name.lower().startswith(("x-reproxy", "x-accel"))
    }


@pytest.mark.usefixtures("perlbal")
def test_perlbal_is_told_all_paths_and_the_size(site: Site) -> None:
    """In the tracker's order, separated by spaces; the answer itself is empty."""
    site.store("a.txt", b"bytes")
    site.mogilefs.dead_path(times=None)
    answer = site.get("media/a.txt")
    assert answer.content == b""
    (copy,) = site.mogilefs.copies("a.txt")
    dead, alive = answer.headers["X-REPROXY-URL"].split(" ")
    assert dead == "http://127.0.0.1:1/dev1/0/000/000/0000000000.fid"
    assert alive.endswith(copy.name)
    assert answer.headers["X-REPROXY-EXPECTED-SIZE"] == "5"
    assert "X-REPROXY-CACHE-FOR" not in answer.headers


@pytest.mark.usefixtures("perlbal")
def test_the_size_of_a_part_is_not_that_of_the_file(site: Site) -> None:
    """Perlbal compares it with what a node sends, and would pass over all of them."""
    site.store("a.txt", b"bytes")
    assert set(_told(site.get("media/a.txt", Range="bytes=1-2"))) == {"X-REPROXY-URL"}


@pytest.mark.usefixtures("perlbal")
@pytest.mark.parametrize(
    "told", [{"Range": "bytes=-2"}, {"Range": "bytes=0-1,3-4"}, {"Range": "bytes=1-2", "If_Range": '"x"'}]
)
def test_what_nodes_would_read_wrongly_is_sent_from_here(site: Site, told: dict[str, str]) -> None:
    """Perlbal passes the range on as it came."""
    site.store("a.txt", b"bytes")
    answer = site.get("media/a.txt", **told)
    assert _told(answer) == {}
    assert answer.getvalue() == (b"es" if answer.status_code == 206 else b"bytes")


@pytest.mark.usefixtures("perlbal")
def test_perlbal_remembers_only_what_all_may_read_and_is_known(site: Site, settings: Any) -> None:
    """While it does, neither a permission nor the ledger is asked."""
    settings.REPLICATOR = {**settings.REPLICATOR, "X_REPROXY_CACHE_FOR": 600}
    site.store("a.txt", b"bytes")
    seconds, _, fields = site.get("media/a.txt").headers["X-REPROXY-CACHE-FOR"].partition("; ")
    assert seconds == "600"
    assert {"Content-Type", "ETag", "Last-Modified", "X-Content-Type-Options"} <= set(fields.split())
    assert set(_told(site.get("guarded/a.txt?word=default/a.txt"))) == {"X-REPROXY-URL", "X-REPROXY-EXPECTED-SIZE"}
    site.save("other.txt", b"bytes").unlink()
    site.mogilefs.put_behind_back("other.txt", b"12345")
    # A view that something else guards: it is not told that all may read what it serves.
    request = RequestFactory().get("/")
    assert set(_told(serve_mogilefs_file(request, "a.txt"))) == {"X-REPROXY-URL", "X-REPROXY-EXPECTED-SIZE"}
    assert set(_told(site.get("media/other.txt"))) == {"X-REPROXY-URL", "X-REPROXY-EXPECTED-SIZE"}


@pytest.mark.parametrize("setting", ["SERVE_WITH_PERLBAL", "X_ACCEL_REDIRECT"])
@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:1/dev1/a b", "http://u@h/dev1/1.fid", "https://h/dev1/1.fid", "http://h/%0d%0aX: y"]
)
def test_a_path_that_is_none_is_told_to_nobody(site: Site, settings: Any, setting: str, path: str) -> None:
    """It would be put into a header, or into nginx's proxy_pass."""
    _set(settings, setting)
    site.store("a.txt", b"bytes")
    site.mogilefs.dead_path(path.replace("%", "%25").replace(" ", "+"), times=None)
    answer = site.get("media/a.txt")
    told = next(iter(_told(answer).values()))
    assert told.startswith(("http://127.0.0.1:", "/fetch/127.0.0.1:"))
    assert "127.0.0.1:1/" not in told
    assert " " not in told


def test_nginx_is_told_one_path_that_answers(site: Site, settings: Any) -> None:
    """The location of the setting, host and port, the path."""
    settings.REPLICATOR = {**settings.REPLICATOR, "X_ACCEL_REDIRECT": "/internal/nodes/"}
    site.store("a.txt", b"bytes")
    site.mogilefs.dead_path(times=None)
    answer = site.get("media/a.txt")
    assert answer.content == b""
    (copy,) = site.mogilefs.copies("a.txt")
    prefix, dev, path = answer.headers["X-Accel-Redirect"].partition("/dev")
    assert prefix in [f"/internal/nodes/127.0.0.1:{port}" for port in site.mogilefs.node_ports]
    assert str(copy).endswith(dev + path)


@pytest.mark.parametrize("setting", ["SERVE_WITH_PERLBAL", "X_ACCEL_REDIRECT"])
def test_local_files_are_sent_from_here(site: Site, settings: Any, setting: str) -> None:
    """No server in front could know where they are."""
    _set(settings, setting)
    site.save("a.bin", LARGE)
    answer = site.get("media/a.bin")
    assert (_told(answer), answer.getvalue()) == ({}, LARGE)


@pytest.mark.parametrize(
    ("replicator", "message", "hint"),
    [
        ({"X_ACCEL_REDIRECT": "replicator"}, "X_ACCEL_REDIRECT", '"/replicator-mogilefs/"'),
        ({"X_ACCEL_REDIRECT": "/"}, "X_ACCEL_REDIRECT", '"/replicator-mogilefs/"'),
        ({"X_ACCEL_REDIRECT": "/a b/"}, "X_ACCEL_REDIRECT", '"/replicator-mogilefs/"'),
        ({"X_ACCEL_REDIRECT": True}, "X_ACCEL_REDIRECT", '"/replicator-mogilefs/"'),
        ({"X_ACCEL_REDIRECTS": "/a/"}, "X_ACCEL_REDIRECTS", "Did you mean 'X_ACCEL_REDIRECT'?"),
        ({"X_REPROXY_CACHE_FOR": "600"}, "X_REPROXY_CACHE_FOR", "Write a number"),
    ],
)
def test_a_wrong_setting_says_what_to_write(
    site: Site, settings: Any, replicator: Any, message: str, hint: str
) -> None:
    """One message, which names the setting."""
    right = settings.REPLICATOR
    settings.REPLICATOR = {**right, **replicator}
    (error,) = _errors()
    settings.REPLICATOR = right
    assert message in error.msg
    assert hint in str(error.hint)


def test_a_request_meets_one_server_in_front(site: Site, settings: Any) -> None:
    """Both settings at once: which is it?"""
    _set(settings, "X_ACCEL_REDIRECT")
    assert _errors() == []
    settings.SERVE_WITH_PERLBAL = True
    (error,) = _errors()
    settings.SERVE_WITH_PERLBAL = False
    assert error.msg == 'SERVE_WITH_PERLBAL and REPLICATOR["X_ACCEL_REDIRECT"] are both set.'
    assert "Remove X_ACCEL_REDIRECT if Perlbal is in front" in str(error.hint)


def _errors() -> list[CheckMessage]:
    return [each for each in run_checks(tags=["replicator"]) if each.id == "replicator.E001"]
