"""Another site, as it answers GET."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import quote, urljoin, urlsplit

from django.utils.encoding import filepath_to_uri

from replicator.errors import Refused, TargetError, Unavailable
from replicator.storage.httpfound import Download, Found, found, is_empty
from replicator.targets.base import safe_name
from replicator.targets.httpanswer import Answer, Body, HTTPError
from replicator.targets.httperrors import PASSING, public_url, seconds_to_wait, silence
from replicator.targets.httpoptions import HTTPOptions
from replicator.targets.httppool import TLS, Client, Origin

ABSENT = {404, 410}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 5
#: Bytes up to which the rest of a body is read rather than its connection given up: TLS costs more.
CHEAP = 16 * 1024
#: Seconds that may pass until a connection is there, and again until an answer is, where somebody waits for it.
QUICK = 3.0
#: What stays as it is in a Location: RFC 3986's characters. Some servers send others.
_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
#: The first byte: who takes ranges says the size of all, and sends no more. HEAD is not GET.
FIRST_BYTE = b"Range: bytes=0-0\r\n"


class SiteOptions(HTTPOptions):
    """Those of a site that is read."""

    url_option: ClassVar[str] = "base_url"
    url_examples: ClassVar[str] = '"https://www.example.com/media/"'


@dataclass(frozen=True, slots=True)
class _Place:
    """What a request asks for."""

    origin: Origin
    path: str
    """Percent-encoded; with the query."""
    is_redirected: bool = False

    @property
    def url(self) -> str:
        return f"{self.origin.scheme}://{self.origin.netloc}{self.path}"

    @property
    def bare_path(self) -> str:
        return self.path.partition("?")[0]

    @property
    def shown(self) -> str:
        """Its URL without the query, which may hold a signature."""
        return public_url(self.url)


class HTTPSite:
    """The files below one URL. Used by several threads at once; connections are the process's (``httppool``).

    Only GET is sent, but for ``delete_absent``. Credentials go to the URL's own origin, wherever redirects lead.
    Raises ``Unavailable``, ``Refused`` and ``Corrupt``; no message holds a credential or a query.
    """

    def __init__(self, options: SiteOptions) -> None:
        """Raises ``ValueError`` with what to write instead."""
        for problem, cure in options.problems():
            raise ValueError(f"{problem}. {cure}")
        self._options = options
        self._auth = options.authentication()
        tls = TLS(options.ca_bundle, options.client_cert, options.client_key)
        self._origin = Origin.of(options.url, tls)
        self._path = f"{options.path()}/"

    @property
    def url(self) -> str:
        """What comes before a name; ends with a slash."""
        return self._place("").url

    def url_of(self, name: str) -> str:
        return self._of(name).url

    def address_of(self, name: str) -> str:
        """As ``Target.addresses`` writes it."""
        return self._origin.place(self._of(name).path)

    def stat(self, name: str) -> Found | None:
        """What it says of the file, without its bytes; None if it is missing."""
        for field in (FIRST_BYTE, b""):
            with self._get(name, field) as (place, answer, body):
                _finish(answer, body)
                if answer.status in ABSENT:
                    return None
                if answer.status == 416 and field:
                    if is_empty(answer):
                        return Found(size=0)
                    continue  # it says no more than that it has no such range
                return self._found(name, place, answer, {200, 206} if field else {200})
        raise AssertionError  # pragma: no cover - the second round returns or raises

    @contextmanager
    def open(self, name: str) -> Iterator[Download]:
        """The file, to be read within the block. Raises ``FileNotFoundError`` if it is missing."""
        with self._get(name) as (place, answer, body):
            is_missing = answer.status in ABSENT
            if is_missing:
                _finish(answer, body)
            else:
                said = self._found(name, place, answer, {200})
                yield Download(said, body, place.shown)
        # Not within the block, which would drop the connection.
        if is_missing:
            raise FileNotFoundError(name)

    def ping(self) -> None:
        """Return if it answers, within a few seconds, whatever it says: folders need not be shown."""
        place = self._place("")
        answer = self._ask("GET", place)
        if answer.status == 401 or answer.status >= 500:
            raise self._failure("GET", place, answer, "")

    def delete_absent(self, name: str) -> Answer:
        """The answer to a DELETE of *name*, which is not there: how it answers those who write.

        Its status is no failure, but for those that only time cures.
        """
        place = self._of(name)
        answer = self._ask("DELETE", place)
        if answer.status in PASSING or (answer.status >= 500 and answer.status != 501):
            raise self._failure("DELETE", place, answer, name)
        return answer

    def close(self) -> None:
        self._client(self._origin).close()

    # Asking

    def _place(self, path: str) -> _Place:
        return _Place(self._origin, self._path + path)

    def _of(self, name: str) -> _Place:
        """Raises ``Refused`` for a name that must not be sent."""
        try:
            return self._place(filepath_to_uri(safe_name(name)))
        except UnicodeEncodeError:
            raise Refused(f"{name!r} is not a name that can be sent: it is not Unicode") from None

    def _client(self, origin: Origin, at_most: float = float("inf")) -> Client:
        options = self._options
        return Client(
            origin,
            connect_timeout=min(options.connect_timeout, at_most),
            read_timeout=min(options.read_timeout, at_most),
            min_rate=options.min_rate,
        )

    def _request(self, method: str, place: _Place, field: bytes = b"") -> bytes:
        auth = self._auth.line(method, place.path) if place.origin == self._origin else b""
        return b"%b %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: replicator\r\nAccept-Encoding: identity\r\n%b%b\r\n" % (
            method.encode(),
            place.path.encode(),
            place.origin.netloc.encode(),
            auth,
            field,
        )

    def _ask(self, method: str, place: _Place) -> Answer:
        """The answer to a quick request; redirects are not followed."""
        client = self._client(self._origin, at_most=QUICK)
        try:
            answer = client.request(self._request(method, place), method)
            if answer.status == 401 and self._auth.challenged(answer):
                answer = client.request(self._request(method, place), method)
        except HTTPError as error:
            raise silence(method, place.shown, error, changes=False) from None
        return answer

    @contextmanager
    def _get(self, name: str, field: bytes = b"") -> Iterator[tuple[_Place, Answer, Body]]:
        """The answer that is no redirect, with its body to be read within the block, and where it came from."""
        place = self._of(name)
        redirects, is_challenged = 0, False
        try:
            with ExitStack() as stack:
                while True:
                    client = self._client(place.origin)
                    answer, body = stack.enter_context(client.stream(self._request("GET", place, field)))
                    if answer.status in REDIRECTS:
                        redirects += 1
                        following = self._next(place, answer, name)
                        if following.bare_path == f"{place.bare_path}/":
                            # So servers answer for a folder: there is no such file.
                            answer.status = 404
                            break
                        if redirects > MAX_REDIRECTS:
                            raise self._elsewhere(following, name, f"redirects more than {MAX_REDIRECTS} times")
                    elif answer.status == 401 and not is_challenged and self._is_challenge(place, answer):
                        is_challenged, following = True, place
                    else:
                        break
                    _finish(answer, body)
                    stack.close()
                    place = following
                yield place, answer, body
        except HTTPError as error:
            raise silence("GET", place.shown, error, changes=False) from None

    def _is_challenge(self, place: _Place, answer: Answer) -> bool:
        return place.origin == self._origin and self._auth.challenged(answer)

    # Redirects

    def _next(self, place: _Place, answer: Answer, name: str) -> _Place:
        """Where a redirect leads."""
        location = answer.headers.get(b"location", b"")
        url = urljoin(place.url, quote(location, safe=_IN_URLS))
        try:
            # Who that is has no right to see this site's client certificate; what it shows must be trusted.
            origin = Origin.of(url, TLS(self._options.ca_bundle))
            parts = urlsplit(url)
        except ValueError:
            origin = None
        if origin is None or not location:
            raise Refused(f"GET {place.shown}: {answer.status}, to nothing that is a URL", status=answer.status)
        if replace(origin, tls=self._origin.tls) == self._origin:
            origin = self._origin
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        following = _Place(origin, path, is_redirected=True)
        if (place.origin.scheme, origin.scheme) == ("https", "http"):
            raise self._elsewhere(following, name, "redirects to where nothing is encrypted")
        return following

    def _elsewhere(self, place: _Place, name: str, what: str) -> Refused:
        first = self._of(name).shown
        return Refused(f"GET {first}: it {what}; write {self._base(place, name)} as base_url, if that is right")

    def _base(self, place: _Place, name: str) -> str:
        """What stands before *name* at the end of a redirect; all of it if the name does not."""
        return place.shown.removesuffix(filepath_to_uri(name))

    # What answers mean

    def _found(self, name: str, place: _Place, answer: Answer, ok: set[int]) -> Found:
        if answer.status not in ok:
            raise self._failure("GET", place, answer, name)
        said = found(answer, place.shown)
        if place.is_redirected and said.content_type.lower().startswith("text/html") and not _is_page(name, place):
            raise Refused(
                f"GET {self._of(name).shown}: it redirects to {place.shown}, a page, perhaps to log in: give the "
                "storage a username and password, or a token",
                status=answer.status,
            )
        return said

    def _failure(self, method: str, place: _Place, answer: Answer, name: str) -> TargetError:
        status = answer.status
        what = f"{status} to {method} {place.shown}"
        if status in PASSING or status >= 500:
            return Unavailable(what, status=status, retry_after=seconds_to_wait(answer.header("retry-after")))
        if status in (401, 403) and place.origin != self._origin:
            base = self._base(place, name)
            return Refused(
                f"{what}: redirected there, it got no credentials; write {base} as base_url", status=status
            )
        if status == 401:
            return Refused(f"{what}: set the storage's options username and password, or token", status=status)
        if status == 403:
            return Refused(
                f"{what}: it lets nobody read this, or not this user (a bucket: or has it not)", status=403
            )
        return Refused(f"{what}: not an answer that is expected here; see base_url", status=status)


def _finish(answer: Answer, body: Body) -> None:
    """Read what is left, if that is worth the connection."""
    if answer.length is not None and answer.length <= CHEAP and not answer.header("transfer-encoding"):
        body.read()


def _is_page(name: str, place: _Place) -> bool:
    """Whether *name* may well be a page, or *place* be its own."""
    last = filepath_to_uri(name.rpartition("/")[2])
    return mimetypes.guess_type(name)[0] == "text/html" or place.bare_path.endswith(last)
