"""A file of another site, as an answer has it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from replicator.errors import Corrupt, Refused
from replicator.targets.httpanswer import Answer, Body, HTTPError
from replicator.targets.httperrors import silence

#: Algorithms of a digest field (RFC 9530, section 5; RFC 3230), as ``hashlib`` calls them.
_ALGORITHMS = {"sha-512": "sha512", "sha-256": "sha256", "md5": "md5"}
#: ``sha-256=:…:`` in Repr-Digest, ``SHA-256=…`` in Digest.
_DIGEST = re.compile(r"([A-Za-z0-9-]+)=:?([A-Za-z0-9+/]+=*)")
#: RFC 9110, section 14.4; the group is the size of all.
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d{1,18}|\*)\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """What a site says of a file. None, or empty: it does not say."""

    size: int | None = None
    """Bytes."""
    modified: datetime | None = None
    """Aware."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Of all of it: name as in ``hashlib`` → lower-case hex."""
    content_type: str = ""


def found(answer: Answer, where: str) -> Found:
    """What a 200, or a 206, says of the whole file. *where*: what was asked, for messages."""
    for coding in f"{answer.header('content-encoding')},{answer.header('transfer-encoding')}".split(","):
        if coding.strip().lower() not in ("", "identity", "chunked"):
            raise Refused(
                f"{where}: it sends the file as {coding.strip()}, not as it is: switch compression off for these "
                "files (nginx: gzip off; gzip_static off)",
                status=answer.status,
            )
    return Found(_size(answer, where), _modified(answer), _checksums(answer), answer.header("content-type"))


def is_empty(answer: Answer) -> bool:
    """Whether a 416 to ``bytes=0-0`` says that the file has no first byte (RFC 9110, section 15.5.17)."""
    return answer.header("content-range") == "bytes */0"


class Download:
    """The bytes of a file, compared with what was said of it."""

    def __init__(self, said: Found, body: Body, where: str) -> None:
        self.found = said
        self._body, self._where = body, where
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in said.checksums}

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes, all of the rest if it is negative; empty at the end.

        Raises ``Unavailable`` if they stop coming, ``Corrupt`` instead of the end if they are not what was said.
        """
        try:
            data = self._body.read(size)
        except HTTPError as error:
            raise silence("GET", self._where, error, changes=False) from None
        for digest in self._digests.values():
            digest.update(data)
        if self._body.ended:
            self._check()
        return data

    def _check(self) -> None:
        if self._body.connection.said_more:
            raise Corrupt(f"GET {self._where}: more bytes came than were said to")
        for name, digest in self._digests.items():
            if digest.hexdigest() != self.found.checksums[name]:
                raise Corrupt(f"GET {self._where}: other bytes came than were said to, by their {name}")


def _size(answer: Answer, where: str) -> int | None:
    if answer.status == 206:
        said = _CONTENT_RANGE.match(answer.header("content-range"))
        if said is None:
            raise Refused(f"GET {where}: 206 without a Content-Range", status=206)
        return None if said[1] == "*" else int(said[1])
    # Chunks have the last word on where a body ends (RFC 9112, section 6.3).
    return None if answer.header("transfer-encoding") else answer.length


def _modified(answer: Answer) -> datetime | None:
    try:
        modified = parsedate_to_datetime(answer.header("last-modified"))
    except (ValueError, OverflowError):
        return None
    return modified if modified.tzinfo else modified.replace(tzinfo=UTC)


def _checksums(answer: Answer) -> dict[str, str]:
    """Those of the whole file: of a part, only these fields are (RFC 9530, section 3; RFC 3230, section 4.1)."""
    texts = _DIGEST.findall(f"{answer.header('repr-digest')},{answer.header('digest')}")
    if answer.status == 200:
        texts.append(("md5", answer.header("content-md5")))
    checksums: dict[str, str] = {}
    for algorithm, text in texts:
        name = _ALGORITHMS.get(algorithm.lower())
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:  # a character that has no place there
            continue
        if name is not None and len(raw) == hashlib.new(name, usedforsecurity=False).digest_size:
            checksums[name] = raw.hex()
    return checksums
