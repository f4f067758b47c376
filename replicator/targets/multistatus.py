"""The answer to PROPFIND (RFC 4918, section 13), parsed as it comes in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.parsers import expat

from django.utils.http import parse_http_date_safe

from replicator.errors import Corrupt, Unavailable
from replicator.targets.base import Reader
from replicator.targets.http import LENGTH

#: What is asked for. lighttpd takes a body only with this type.
ASKED = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:">'
    b"<prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"
)
ASKED_FIELDS = b"Content-Type: application/xml\r\nContent-Length: %d\r\n" % len(ASKED)
#: Bytes parsed at once, and those that one resource may take: servers send less than a kilobyte, and a longest name.
_PIECE, _LONGEST = 64 * 1024, 256 * 1024


@dataclass(slots=True)
class Resource:
    """A file or folder of an answer."""

    href: str
    """As the server wrote it."""
    status: int = 200
    """Of the resource, or of the properties that could not be told (other than that there are none)."""
    is_folder: bool | None = None
    """None: the server does not say."""
    size: int | None = None
    modified: datetime | None = None


def resources(body: Reader, what: str) -> Iterator[Resource]:
    """Those of a whole answer. *what*: for messages. Memory does not grow with their number.

    Raises ``Corrupt`` for what no server sends that means well, ``Unavailable`` if the end is missing, and what the
    body raises.
    """
    reader = _Parser(what)
    since = 0
    while data := body.read(_PIECE):
        reader.feed(data)
        if reader.found:
            yield from reader.found
            reader.found.clear()
            since = 0
        else:
            since += len(data)
            if since > _LONGEST:
                raise Corrupt(f"{what}: one file takes more than {_LONGEST} bytes of its answer")
    reader.end()


class _Parser:
    """Turns bytes into ``found``."""

    def __init__(self, what: str) -> None:
        #: Whole ones; whoever takes them empties it.
        self.found: list[Resource] = []
        self._what = what
        self._resource = Resource("")
        #: Of the propstat at hand: the text of its elements by name, and its status; None outside of one.
        self._properties: dict[str, str] | None = None
        self._text = ""
        self._depth = 0
        # Names come as namespace and name, whatever prefix the server has for DAV:.
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        # Entities that stand for others can make gigabytes of a kilobyte. They need one of these.
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, data: bytes) -> None:
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            raise Corrupt(f"{self._what}: not XML: {expat.ErrorString(error.code)}") from None

    def end(self) -> None:
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError:
            raise Unavailable(f"{self._what}: the answer was cut short") from None

    def _doctype(self, *_: object) -> None:
        raise Corrupt(f"{self._what}: its XML has a document type, which WebDAV knows none of")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._text = ""
        self._depth += 1
        if self._depth == 1 and name != "DAV: multistatus":
            raise Corrupt(f"{self._what}: its XML is no answer to PROPFIND")
        if name == "DAV: response":
            self._resource = Resource("")
        elif name == "DAV: propstat":
            self._properties = {}

    def _characters(self, text: str) -> None:
        self._text += text

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == "DAV: response":
            self.found.append(self._resource)
        elif name == "DAV: propstat":
            self._apply(self._properties or {})
            self._properties = None
        elif self._properties is not None:
            self._properties[name] = self._text
        elif name == "DAV: href":
            self._resource.href = self._text.strip()
        elif name == "DAV: status":
            self._resource.status = self._status(self._text)
        self._text = ""

    def _apply(self, properties: dict[str, str]) -> None:
        resource, status = self._resource, self._status(properties.get("DAV: status", ""))
        if status == 200:
            if "DAV: resourcetype" in properties:
                resource.is_folder = "DAV: collection" in properties
            size = properties.get("DAV: getcontentlength", "").strip()
            if LENGTH.fullmatch(size.encode()):
                resource.size = int(size)
            modified = parse_http_date_safe(properties.get("DAV: getlastmodified", "").strip())
            if modified is not None:
                resource.modified = datetime.fromtimestamp(modified, tz=UTC)
        elif status != 404:  # there is no such property: of an empty file some servers tell no length
            resource.status = status

    def _status(self, text: str) -> int:
        parts = text.split()
        if len(parts) < 2 or not parts[0].startswith("HTTP/") or not (parts[1].isdecimal() and len(parts[1]) == 3):
            raise Corrupt(f"{self._what}: a status in its XML is none")
        return int(parts[1])
