"""``serve_mogilefs_file``: where a file comes from, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.http import Http404, HttpResponseRedirect
from django.test import RequestFactory
from django.utils.http import http_date

from replicator import delivery
from replicator.errors import Unavailable
from replicator.ledger import life
from replicator.models import MediaFile, Replica, TargetState
from replicator.urls import mogilefs_urls
from replicator.views import serve_mogilefs_file
from tests.serving.conftest import LARGE, Site

Queries = Callable[[int], Any]


def _stop_everything(site: Site) -> None:
    """Whoever is asked now, gives no answer."""
    site.mogilefs.stop_tracker()
    for number in (1, 2, 3):
        site.mogilefs.stop_node(number)


def _receive(answer: Any, received: bytearray) -> None:
    for piece in answer:
        received += piece


# Where it comes from.


def test_a_file_comes_from_mogilefs_with_what_is_known_of_it(site: Site) -> None:
    """Whatever a node says of its type: nodes know none."""
    site.store("photos/é 1.png", LARGE)
    answer = site.get("media/photos/%C3%A9%201.png")
    row = MediaFile.objects.get()
    assert (answer.status_code, answer.getvalue()) == (200, LARGE)
    assert answer.headers == {
        "Content-Type": "image/png",
        "Content-Length": str(len(LARGE)),
        "ETag": f'"{row.sha256}"',
        "Last-Modified": http_date(int(row.updated_at.timestamp())),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


@pytest.mark.parametrize("data", [b"", b"a few bytes"], ids=["empty", "small"])
def test_small_files(site: Site, data: bytes) -> None:
    """An empty one has a body too: none."""
    site.store("a.txt", data)
    answer = site.get("media/a.txt")
    assert (answer.status_code, answer.headers["Content-Length"], answer.getvalue()) == (200, str(len(data)), data)


def test_a_fresh_upload_is_served_before_it_is_in_mogilefs(site: Site) -> None:
    """From the local copy; nobody else is asked."""
    site.save("a.txt", LARGE)
    _stop_everything(site)
    answer = site.get("media/a.txt")
    assert (answer.status_code, answer.getvalue()) == (200, LARGE)
    assert site.get("media/a.txt", Range="bytes=-3").getvalue() == LARGE[-3:]
    assert site.get("media/a.txt", "HEAD").headers["Content-Length"] == str(len(LARGE))


def test_the_local_copy_is_served_when_mogilefs_is_not_there(site: Site) -> None:
    """Neither a tracker that is gone nor its nodes are noticed by who has the bytes here."""
    site.store("a.txt", b"bytes", keep=True)
    for number in (1, 2, 3):
        site.mogilefs.stop_node(number, noticed=False)
    assert site.get("media/a.txt").getvalue() == b"bytes"
    site.mogilefs.stop_tracker()
    assert site.get("media/a.txt").getvalue() == b"bytes"


def test_a_target_that_is_down_is_not_waited_for(site: Site) -> None:
    """Promise 7: a tracker that hangs does not make the site slow, once that is known."""
    site.store("a.txt", b"bytes", keep=True)
    site.mogilefs.hang_tracker()
    TargetState.objects.update_or_create(target="mogilefs", defaults={"state": "down"})
    began = time.monotonic()
    assert site.get("media/a.txt").getvalue() == b"bytes"
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("known", [True, False], ids=["in the ledger", "from before"])
def test_a_target_that_is_down_has_one_second(site: Site, settings: Any, known: bool) -> None:
    """Promise 7, for what is nowhere else: a worker of the site is not kept for a time-out. It may be up again."""
    options = settings.REPLICATOR["TARGETS"]["mogilefs"]["OPTIONS"]
    options["read_timeout"] = 10.0
    settings.REPLICATOR = dict(settings.REPLICATOR)
    if known:
        site.store("a.txt", b"bytes")
    else:
        site.mogilefs.put_behind_back("a.txt", b"bytes")
    TargetState.objects.update_or_create(target="mogilefs", defaults={"state": "down"})
    assert site.get("media/a.txt").getvalue() == b"bytes"
    site.mogilefs.hang_tracker()
    began = time.monotonic()
    assert site.get("media/a.txt").status_code == 503
    assert time.monotonic() - began < 7


@pytest.mark.parametrize("known", [True, False], ids=["in the ledger", "from before"])
def test_a_target_that_people_have_paused_is_not_asked(site: Site, known: bool) -> None:
    """Not even for a second: somebody works at it. And that is no 404."""
    if known:
        site.store("a.txt", b"bytes")
    else:
        site.mogilefs.put_behind_back("a.txt", b"bytes")
    life.pause("mogilefs")
    assert site.get("media/a.txt").status_code == 503
    life.resume("mogilefs")
    assert site.get("media/a.txt").getvalue() == b"bytes"


def test_a_file_in_doubt_is_served_from_here(site: Site) -> None:
    """What was sent earlier may have taken effect since: MogileFS may hold other bytes of the same length."""
    site.store("a.txt", b"right", keep=True)
    site.mogilefs.put_behind_back("a.txt", b"wrong")
    assert site.get("media/a.txt").getvalue() == b"wrong"
    Replica.objects.update(status="pending", doubt=True)
    assert site.get("media/a.txt").getvalue() == b"right"


def test_an_adopted_class_in_doubt_leaves_the_bytes_known(site: Site) -> None:
    """Of what was adopted from MogileFS no hash is known, and nobody ever sent any bytes."""
    site.store("a.txt", b"bytes")
    MediaFile.objects.update(sha256="")
    Replica.objects.update(status="pending", doubt=True)
    assert site.get("media/a.txt").has_header("ETag")


def test_a_local_file_of_another_version_is_not_served(site: Site) -> None:
    """Another web host has written it since, or a transaction that was rolled back: same name, same length."""
    path = site.save("a.txt", b"right")
    assert site.get("media/a.txt").getvalue() == b"right"
    other = path.with_name("other")
    other.write_bytes(b"wrong")
    other.replace(path)
    answer = site.get("media/a.txt")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")


def test_a_local_file_of_another_length_is_not_served(site: Site) -> None:
    """Also where no hash is known to compare with."""
    path = site.save("a.txt", b"right")
    MediaFile.objects.update(sha256="")
    assert site.get("media/a.txt").getvalue() == b"right"
    path.write_bytes(b"not right")
    assert site.get("media/a.txt").status_code == 503


def test_a_file_that_another_host_took_is_on_its_way(site: Site) -> None:
    """It is neither here nor there yet: not a 404, which caches would keep."""
    site.save("a.txt", b"bytes").unlink()
    answer = site.get("media/a.txt")
    assert (answer.status_code, answer.headers["Retry-After"], answer.headers["Cache-Control"]) == (
        503,
        "10",
        "no-store",
    )


def test_what_mogilefs_may_hold_is_served_without_a_name_to_ask_for_again(site: Site) -> None:
    """Adopted, and not delivered yet: MogileFS may have it from before. One of another length it certainly is not."""
    site.save("same.txt", b"12345").unlink()
    site.save("other.txt", b"12345").unlink()
    site.mogilefs.put_behind_back("same.txt", b"abcde")
    site.mogilefs.put_behind_back("other.txt", b"abcdef")
    answer = site.get("media/same.txt")
    assert (answer.status_code, answer.getvalue()) == (200, b"abcde")
    assert {"ETag", "Last-Modified"}.isdisjoint(answer.headers)
    assert site.get("media/other.txt").status_code == 503


def test_an_older_version_of_the_same_length_is_not_served(site: Site) -> None:
    """Overwritten on another web host, and not delivered yet: a moment's patience, not the old bytes."""
    site.store("a.txt", b"old")
    site.storage.replace("a.txt", ContentFile(b"new"))
    Path(site.storage.path("a.txt")).unlink()
    answer = site.get("media/a.txt")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")


@pytest.mark.parametrize("key", ["/private/a.txt", "//a.txt", "/"])
def test_what_lies_outside_of_the_url_is_not_served(site: Site, settings: Any, key: str) -> None:
    """A storage elsewhere has keys that begin with a slash; it may have a view of its own, that asks who comes."""
    settings.STORAGES = {
        **settings.STORAGES,
        "private": {
            **settings.STORAGES["default"],
            "OPTIONS": {"alias": "private", "location": f"{settings.MEDIA_ROOT}-private", "base_url": "/private/"},
        },
    }
    storages["private"].save("a.txt", ContentFile(b"secret"))
    assert site.get(f"media/{key}").status_code == 404
    with pytest.raises(Http404):
        serve_mogilefs_file(RequestFactory().get("/"), key)


def _redirect(*_: object) -> Any:
    return HttpResponseRedirect("/login")


async def _no(*_: object) -> bool:
    return False


@pytest.mark.parametrize("permission", [_redirect, _no])
def test_a_permission_that_says_neither_yes_nor_no_lets_nobody_in(site: Site, permission: Any) -> None:
    """Both are true to an if: an answer, and a coroutine that nobody waits for."""
    site.store("a.txt", b"bytes")
    with pytest.raises(TypeError, match="write a plain function that returns True or False"):
        serve_mogilefs_file(RequestFactory().get("/"), "a.txt", permission=permission)


def test_no_transaction_is_open_while_mogilefs_is_asked(site: Site) -> None:
    """On SQLite it would keep every save waiting: ATOMIC_REQUESTS leaves the view alone."""
    assert serve_mogilefs_file._non_atomic_requests == {"default"}  # type: ignore[attr-defined]


def test_trackers_that_said_nothing_do_not_delay_what_is_here(site: Site) -> None:
    """Promise 7: the first browser waits, in bounds; those after it get the local copy at once."""
    site.save("a.txt", b"bytes")
    delivery.deliver("mogilefs")
    site.mogilefs.hang_tracker()
    try:
        site.get("media/a.txt")
        begun = time.monotonic()
        assert [site.get("media/a.txt").getvalue() for _ in range(5)] == [b"bytes"] * 5
        assert time.monotonic() - begun < 2.5
    finally:
        site.mogilefs.start_tracker()


def test_a_changed_class_leaves_the_bytes_known(site: Site) -> None:
    """It makes the replica pending: what browsers have stays valid, and no tracker is asked for more."""
    site.store("a.txt", b"bytes")
    etag = site.get("media/a.txt").headers["ETag"]
    Replica.objects.update(status="pending")
    assert site.get("media/a.txt").headers["ETag"] == etag


def test_a_deleted_file_is_gone_though_mogilefs_has_it(site: Site) -> None:
    """Promise 2: a deleted file never comes back, not even while its delete is on its way."""
    site.store("a.txt", b"bytes")
    assert site.get("media/a.txt").status_code == 200
    site.storage.delete("a.txt")
    assert site.mogilefs.keys() == ["a.txt"]
    assert site.get("media/a.txt").status_code == 404
    assert site.get("media/a.txt", "HEAD").status_code == 404


def test_a_file_from_before_the_ledger_is_served(site: Site) -> None:
    """Of people who come from the ancestors; its fid, never used again, tells versions apart."""
    site.mogilefs.put_behind_back("old/é.jpg", LARGE)
    answer = site.get("media/old/%C3%A9.jpg")
    assert (answer.status_code, answer.getvalue()) == (200, LARGE)
    assert answer.headers["Content-Type"] == "image/jpeg"
    etag = answer.headers["ETag"]
    assert site.get("media/old/%C3%A9.jpg", If_None_Match=etag).status_code == 304
    assert site.get("media/old/%C3%A9.jpg", Range="bytes=-4").getvalue() == LARGE[-4:]
    site.mogilefs.put_behind_back("old/é.jpg", LARGE)
    assert site.get("media/old/%C3%A9.jpg", If_None_Match=etag).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["a.txt", "b/../a.txt", "b//a.txt", "./a.txt", "a.txt/", "%00", "a%5Cb", "x" * 2000, ".replicator/x", "%FF"],
)
def test_what_nobody_knows_is_not_found(site: Site, path: str) -> None:
    """Names that would be something else here, there, or in the ledger, too."""
    site.storage.save("a.txt2", ContentFile(b""))
    assert site.get(f"media/{path}").status_code == 404


def test_a_local_file_that_the_ledger_does_not_know_is_not_served(site: Site) -> None:
    """It may be a save that is not committed yet, or will never be."""
    site.save("a.txt", b"bytes").with_name("b.txt").write_bytes(b"bytes")
    assert site.get("media/b.txt").status_code == 404


def test_a_file_lost_by_mogilefs_is_served_from_here(site: Site) -> None:
    """The ledger says it is there; the tracker, that it is not."""
    site.store("a.txt", b"bytes", keep=True)
    site.mogilefs.wipe()
    assert site.get("media/a.txt").getvalue() == b"bytes"
    Path(site.storage.path("a.txt")).unlink()
    assert site.get("media/a.txt").status_code == 404


# Whose it is.


def test_a_key_belongs_to_the_storage_with_the_longest_url(site: Site, settings: Any, tmp_path: Any) -> None:
    """One storage inside another's URL; one that has no MogileFS shows nothing, whatever is there."""
    avatars = {"alias": "avatars", "location": tmp_path / "avatars", "base_url": "/media/avatars/"}
    private = {"alias": "private", "location": tmp_path / "private", "base_url": "/media/private/"}
    settings.REPLICATOR = {
        **settings.REPLICATOR,
        "TARGETS": {**settings.REPLICATOR["TARGETS"], "media1": {"BACKEND": "replicator.testing.MemoryTarget"}},
    }
    settings.STORAGES = {
        **settings.STORAGES,
        "avatars": {"BACKEND": "replicator.storage.MogileFSStorage", "OPTIONS": avatars},
        "private": {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": {**private, "targets": ["media1"]}},
    }
    storages["avatars"].save("me.png", ContentFile(b"avatar"))
    storages["private"].save("me.png", ContentFile(b"private"))
    site.mogilefs.put_behind_back("private/me.png", b"not meant to be here")
    assert site.get("media/avatars/me.png").getvalue() == b"avatar"
    assert site.get("media/private/me.png").status_code == 404
    delivery.deliver("mogilefs")
    assert set(site.mogilefs.keys()) == {"avatars/me.png", "private/me.png"}
    assert site.get("media/avatars/me.png").getvalue() == b"avatar"


def test_a_storage_that_can_not_be_made_gives_nothing_away(site: Site, settings: Any, tmp_path: Path) -> None:
    """Its files are not those of the storage around it: one mistake in a secret must not show them to anybody."""
    settings.STORAGES = {
        **settings.STORAGES,
        "private": {
            "BACKEND": "replicator.storage.ProtectedStorage",
            "OPTIONS": {
                "alias": "private",
                "location": tmp_path / "private",
                "base_url": "/media/private/",
                "sign": "secure_link",
                "keys": ["2026:"],
            },
        },
    }
    site.mogilefs.put_behind_back("private/me.png", b"private")
    site.store("me.png", b"public")
    with pytest.raises(ValueError, match="keys: for nginx"):
        site.get("media/private/me.png")


def test_the_next_mogilefs_is_asked_if_one_lacks_the_file_or_is_gone(site: Site, settings: Any) -> None:
    """Those of the storage, in its order."""
    entry = settings.REPLICATOR["TARGETS"]["mogilefs"]
    gone = {**entry, "OPTIONS": {**entry["OPTIONS"], "trackers": ["127.0.0.1:1"]}}
    site.target.domain.trackers.ask("create_domain", {"domain": "empty"})
    empty = {**entry, "OPTIONS": {**entry["OPTIONS"], "domain": "empty"}}
    settings.REPLICATOR = {**settings.REPLICATOR, "TARGETS": {"gone": gone, "empty": empty, "mogilefs": entry}}
    site.mogilefs.put_behind_back("a.txt", b"bytes")
    assert site.get("media/a.txt").getvalue() == b"bytes"
    # One that did not answer may have it: no 404.
    assert site.get("media/b.txt").status_code == 503


def test_one_query_tells_all_that_the_ledger_knows(site: Site, django_assert_num_queries: Queries) -> None:
    """Also with a replica at a target that is down."""
    site.store("a.txt", b"bytes")
    TargetState.objects.get_or_create(target="mogilefs")
    with django_assert_num_queries(1):
        assert site.get("media/a.txt").status_code == 200


# What fails.


def test_without_a_tracker_try_again_later(site: Site) -> None:
    """503: nobody knows whether there is such a file."""
    site.store("a.txt", b"bytes")
    site.mogilefs.stop_tracker()
    for path in ("a.txt", "unknown"):
        answer = site.get(f"media/{path}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert site.get("media/a.txt", "HEAD").status_code == 503


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("trouble", ["stopped", "hung", "500", "404", "no paths"])
def test_without_a_copy_try_again_later(site: Site, trouble: str, method: str) -> None:
    """502, whatever the nodes do instead of answering; nothing of a 200 was said before."""
    site.store("a.txt", b"bytes")
    for number in (1, 2, 3):
        match trouble:
            case "stopped":
                site.mogilefs.stop_node(number, noticed=False)
            case "hung":
                site.mogilefs.control("monitor", looking=False)
                site.mogilefs.hang_node(number)
            case "no paths":
                site.mogilefs.no_paths(times=None)
            case _:
                site.mogilefs.node_answers(number, int(trouble), method, times=None)
    answer = site.get("media/a.txt", method)
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "10")


def test_a_dead_path_is_passed_over(site: Site) -> None:
    """Trackers are not asked to look first."""
    site.store("a.txt", b"bytes")
    site.mogilefs.dead_path(times=None)
    assert site.get("media/a.txt").getvalue() == b"bytes"
    assert site.get("media/a.txt", "HEAD").status_code == 200


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-1"}, {"Range": "bytes=-2"}], ids=["all", "first", "last"])
def test_a_copy_that_was_cut_short_is_passed_over(site: Site, asked: dict[str, str]) -> None:
    """An upload that broke off, stored by a client that said no size: the other copy is whole."""
    data = b"0123456789"
    site.mogilefs.resume_background()
    fid = site.mogilefs.put_behind_back("a.txt", data, "avatar")
    site.mogilefs.wait_until_quiet()
    cut, whole = site.mogilefs.copies("a.txt")
    assert str(fid) in cut.name
    cut.write_bytes(data[:5])
    expected = {"": data, "bytes=0-1": data[:2], "bytes=-2": data[-2:]}[asked.get("Range", "")]
    for _ in range(8):  # trackers name the copies in any order
        assert site.get("media/a.txt", **asked).getvalue() == expected
        assert site.get("media/a.txt", "HEAD").status_code == 200
    whole.unlink()
    assert site.get("media/a.txt", **asked).status_code == 502
    assert site.get("media/a.txt", "HEAD").status_code == 502


def test_a_local_file_that_is_cut_in_mid_stream_makes_no_complete_answer(site: Site) -> None:
    """By whom ever: storages replace files, and an open one stays as it was."""
    path = site.save("a.bin", LARGE)
    answer = site.get("media/a.bin")
    pieces = iter(answer)
    next(pieces)
    with path.open("r+b") as file:
        file.truncate(2_000_000)
    with pytest.raises(Unavailable):
        list(pieces)


def test_an_unknown_domain_is_not_taken_for_a_lost_file(site: Site, settings: Any) -> None:
    """A mistake in the settings: 503, whether the ledger knows the file or not."""
    site.store("a.txt", b"bytes")
    settings.REPLICATOR["TARGETS"]["mogilefs"]["OPTIONS"]["domain"] = "unknown"
    settings.REPLICATOR = dict(settings.REPLICATOR)
    assert [site.get(f"media/{path}").status_code for path in ("a.txt", "b.txt")] == [503, 503]


def test_a_node_that_dies_in_mid_stream_makes_no_complete_answer(site: Site) -> None:
    """The server is told by an error, and closes the connection before the promised length."""
    site.store("a.bin", LARGE)
    for number in (1, 2, 3):
        site.mogilefs.node_cuts(number, 1_000_000)
    answer = site.get("media/a.bin")
    received = bytearray()
    with pytest.raises(Unavailable):
        _receive(answer, received)
    answer.close()
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert LARGE.startswith(received)
    assert 0 < len(received) <= 1_000_000


# Methods, conditions, parts.


def test_head_says_what_get_would(site: Site) -> None:
    """And sends nothing. Ranges are for GET only."""
    site.store("a.txt", b"bytes")
    get, head = site.get("media/a.txt"), site.get("media/a.txt", "HEAD", Range="bytes=1-2")
    assert (head.status_code, head.headers) == (200, get.headers)
    assert head.content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_and_head(site: Site, method: str) -> None:
    """405, and which ones are allowed."""
    site.store("a.txt", b"bytes")
    answer = site.get("media/a.txt", method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_who_has_it_already_gets_it_from_nobody(site: Site) -> None:
    """Conditions are decided by the ledger: no tracker, no node, no local file is needed."""
    site.store("a.txt", b"bytes")
    answer = site.get("media/a.txt")
    etag, date = answer.headers["ETag"], answer.headers["Last-Modified"]
    answer.close()
    _stop_everything(site)
    for method in ("GET", "HEAD"):
        for condition in ({"If_None_Match": etag}, {"If_None_Match": "*"}, {"If_Modified_Since": date}):
            answer = site.get("media/a.txt", method, **condition)
            assert (answer.status_code, answer.headers["ETag"], answer.content) == (304, etag, b"")
        assert site.get("media/a.txt", method, If_Match='"other"').status_code == 412
    # If-None-Match is the better one of the two (RFC 9110, section 13.1.3).
    assert site.get("media/a.txt", If_None_Match='"other"', If_Modified_Since=date).status_code == 503
    assert site.get("media/a.txt", If_Modified_Since=http_date(0)).status_code == 503


def test_a_new_version_is_not_taken_for_the_old(site: Site) -> None:
    """The same bytes saved again are still what a browser has; others are not."""
    site.store("a.txt", b"bytes")
    etag = site.get("media/a.txt").headers["ETag"]
    for data, status in ((b"bytes", 304), (b"other", 200)):
        site.storage.replace("a.txt", ContentFile(data))
        assert site.get("media/a.txt", If_None_Match=etag).status_code == status


@pytest.mark.parametrize("here", [True, False], ids=["here", "mogilefs"])
@pytest.mark.parametrize(
    ("header", "status", "content_range"),
    [
        ("bytes=2-5", 206, "bytes 2-5/10"),
        ("bytes=8-", 206, "bytes 8-9/10"),
        ("bytes=0-999", 206, "bytes 0-9/10"),
        ("bytes=-4", 206, "bytes 6-9/10"),
        ("bytes=10-", 416, "bytes */10"),
        ("bytes=0-1,4-5", 200, None),
        ("bytes=x", 200, None),
    ],
)
def test_a_part(site: Site, here: bool, header: str, status: int, content_range: str | None) -> None:
    """Right from both places: nodes read ``-4`` as the first five bytes."""
    data = b"0123456789"
    (site.save if here else site.store)("a.txt", data)
    answer = site.get("media/a.txt", Range=header)
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, content_range)
    if status != 416:
        first, _, last = (content_range or "bytes 0-9/10").removeprefix("bytes ").partition("/")[0].partition("-")
        expected = data[int(first) : int(last) + 1]
        assert (answer.getvalue(), answer.headers["Content-Length"]) == (expected, str(len(expected)))


def test_a_part_of_another_version_is_not_sent(site: Site) -> None:
    """If-Range: who has the beginning of other bytes gets all of these."""
    site.store("a.txt", b"0123456789")
    answer = site.get("media/a.txt")
    etag, date = answer.headers["ETag"], answer.headers["Last-Modified"]
    assert site.get("media/a.txt", Range="bytes=1-2", If_Range=etag).status_code == 206
    # A date is none: two versions can be of one second.
    for validator in (date, f"W/{etag}", '"other"', http_date(0), "nonsense"):
        answer = site.get("media/a.txt", Range="bytes=1-2", If_Range=validator)
        assert (answer.status_code, answer.getvalue()) == (200, b"0123456789")


def test_a_part_is_not_compressed(site: Site, settings: Any) -> None:
    """GZipMiddleware leaves Content-Range as it is: the bytes must be those of the file."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware"]
    site.store("a.txt", b"0" * 2000)
    assert site.get("media/a.txt", Accept_Encoding="gzip").headers["Content-Encoding"] == "gzip"
    answer = site.get("media/a.txt", Accept_Encoding="gzip", Range="bytes=0-999")
    assert "Content-Encoding" not in answer.headers
    assert (answer.headers["Content-Length"], answer.getvalue()) == ("1000", b"0" * 1000)


# What is said of it.


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.html", "text/html"),
        ("a.tar.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.unknown", "application/octet-stream"),
    ],
)
def test_the_type_is_that_of_the_bytes(site: Site, name: str, content_type: str) -> None:
    """Browsers neither guess another one nor unpack what was packed."""
    site.save(name, b"bytes")
    site.mogilefs.put_behind_back(f"old/{name}", b"bytes")
    for path in (name, f"old/{name}"):
        answer = site.get(f"media/{path}")
        assert answer.headers["Content-Type"] == content_type
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not answer.has_header("Content-Encoding")


def test_the_recorded_type_comes_before_a_guess(site: Site) -> None:
    """The ledger's word on a file is the project's."""
    site.save("a.png", b"bytes")
    MediaFile.objects.update(content_type="image/x-own")
    assert site.get("media/a.png").headers["Content-Type"] == "image/x-own"


def test_a_file_to_be_saved_has_a_name(site: Site) -> None:
    """Its own unless another one is given; one that is not ASCII is encoded."""
    site.save("letters/é.txt", b"bytes")
    path = "letters/%C3%A9.txt"
    assert not site.get(f"media/{path}").has_header("Content-Disposition")
    assert site.get(f"saved/{path}").headers["Content-Disposition"] == "attachment; filename*=utf-8''%C3%A9.txt"
    given = site.get(f"shown/{path}").headers["Content-Disposition"]
    assert given == "inline; filename*=utf-8''%C3%84pfel%20%26%20Birnen.txt"


def test_who_may_not_read_it_is_refused_before_anything_is_looked_up(
    site: Site, django_assert_num_queries: Queries
) -> None:
    """403, whether there is such a file or not; who may, gets an answer that is kept by no shared cache."""
    site.store("a.txt", b"bytes")
    with django_assert_num_queries(0):
        for path in ("guarded/a.txt", "guarded/unknown", "guarded/a.txt?word=default/b.txt"):
            assert site.get(path).status_code == 403
            assert site.get(path, "HEAD").status_code == 403
    answer = site.get("guarded/a.txt?word=default/a.txt")
    assert (answer.status_code, answer.headers["Cache-Control"], answer.getvalue()) == (
        200,
        "private, no-cache",
        b"bytes",
    )
    again = site.get("guarded/a.txt?word=default/a.txt", If_None_Match=answer.headers["ETag"])
    assert (again.status_code, again.headers["Cache-Control"]) == (304, "private, no-cache")
    assert site.get("guarded/a.txt", If_None_Match=answer.headers["ETag"]).status_code == 403
    assert site.get("guarded/unknown?word=default/unknown").status_code == 404


# The URL pattern.


def test_the_pattern_is_that_of_the_media_url(settings: Any) -> None:
    """Taken literally, and below nothing else; any name fits."""
    settings.MOGILEFS_MEDIA_URL = "https://media.example.com/m.dia/f%C3%BCr/"
    (pattern,) = mogilefs_urls()
    found = pattern.resolve("m.dia/für/a\nb/c.txt")
    assert found is not None
    assert found.kwargs["key"] == "a\nb/c.txt"
    assert pattern.resolve("mxdia/für/a") is None
    assert pattern.resolve("x/m.dia/für/a") is None
    assert pattern.resolve("m.dia/für/") is None


@pytest.mark.parametrize("url", ["/", "https://media.example.com", "https://media.example.com/"])
def test_a_media_url_without_a_path_would_take_every_page(settings: Any, url: str) -> None:
    """So it is refused, with what to write."""
    settings.MOGILEFS_MEDIA_URL = url
    with pytest.raises(ImproperlyConfigured, match=r"MOGILEFS_MEDIA_URL with a path of its own"):
        mogilefs_urls()
