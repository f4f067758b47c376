"""Another site over HTTP as the source of a copy: an ``HTTPStorage``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin

from replicator.staging.base import Facts, NotCopied, Source, Stream
from replicator.storage.http import HTTPStorage
from replicator.storage.httpfound import Download, Found
from replicator.targets.httperrors import public_url

#: Who answers a DELETE so takes none: RFC 9110, sections 15.5.2, 15.5.4, 15.5.6 and 15.6.2.
NO_WRITES = {401, 403, 405, 501}
#: Methods that change files, as a 405 lists them in Allow.
WRITES = {"PUT", "DELETE", "PATCH", "MKCOL", "COPY", "MOVE"}
_CLOSE = (
    "Have its server refuse what is not GET for this path ("
    "nginx: limit_except GET { deny all; }; "
    "Apache: Require method GET, in place of Require all granted; "
    'lighttpd: $HTTP["request-method"] !~ "GET|HEAD" { url.access-deny = ("") }'
    "), or give this site a user who may only read."
)


class HTTPSource(Source):
    """The files of another site. Sends GET only, but for the DELETE of ``prove_read_only``."""

    def __init__(self, alias: str, storage: HTTPStorage) -> None:
        self.alias = alias
        self._site = storage.site

    def stat(self, name: str) -> Facts | None:
        found = self._site.stat(name)
        return None if found is None else _facts(found)

    @contextmanager
    def open(self, name: str) -> Iterator[Stream]:
        with self._site.open(name) as download:
            yield _Stream(download)

    def address(self, name: str) -> str:
        return self._site.address_of(name)

    def check(self) -> None:
        self._site.ping()

    def prove_read_only(self) -> None:
        """A DELETE of a name that nobody has leaves nothing behind, whatever the answer.

        A server that takes PUT but not DELETE, and does not say so in Allow, is not found out.
        """
        name = f"replicator-{uuid.uuid4().hex}"
        answer = self._site.delete_absent(name)
        allowed = {method.strip().upper() for method in answer.header("allow").split(",")}
        if answer.status in NO_WRITES and not allowed & WRITES:
            return
        asked = f"STORAGES[{self.alias!r}] answered {answer.status} to a DELETE of {self._site.url}{name}"
        if 300 <= answer.status < 400:
            base = public_url(urljoin(self._site.url, answer.header("location"))).removesuffix(name)
            raise NotCopied(f"{asked}, which redirects: write {base} as base_url.")
        if answer.status in NO_WRITES:
            raise NotCopied(f"{asked}, and says that it takes {', '.join(sorted(allowed & WRITES))}. {_CLOSE}")
        if 200 <= answer.status < 300:
            raise NotCopied(f"{asked}: it takes writes, or says so to everything. {_CLOSE}")
        raise NotCopied(f"{asked}, so that nobody can tell whether it takes writes. {_CLOSE}")

    def close(self) -> None:
        self._site.close()


class _Stream(Stream):
    def __init__(self, download: Download) -> None:
        self.facts = _facts(download.found)
        self._download = download

    def read(self, size: int = -1, /) -> bytes:
        return self._download.read(size)


def _facts(found: Found) -> Facts:
    return Facts(found.size, found.modified, found.checksums, found.content_type)
