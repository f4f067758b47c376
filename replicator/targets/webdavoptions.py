"""The options of a WebDAV target, beyond those of any HTTP server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.core.checks import CheckMessage, Error

from replicator.targets.httpoptions import HTTPOptions


@dataclass(frozen=True)
class WebDAVOptions(HTTPOptions):
    """As written in the settings. A wrong type raises ``TypeError``; what else is wrong, ``problems`` lists."""

    alias: str
    verify: str
    atomic_put: bool
    headers: Mapping[str, str] = field(repr=False)

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, and its cure. Holds no credential."""
        found = super().problems()
        if self.verify not in ("size", "content"):
            found.append((f"verify is {self.verify!r}", 'Write "size" or "content".'))
        for name, text in self.headers.items():
            if not (isinstance(name, str) and isinstance(text, str) and _is_field(name, text)):
                found.append((f"headers has {name!r}, which can't be sent", "Write strings without line ends."))
        return found

    def check(self) -> list[CheckMessage]:
        """The problems, as ``manage.py check`` shows them."""
        where = f'REPLICATOR["TARGETS"][{self.alias!r}]: '
        return [
            Error(where + problem, hint=cure, id="replicator.targets.webdav.E001")
            for problem, cure in self.problems()
        ]

    def fields(self) -> bytes:
        """The protocol and the header fields of every request; credentials are not among them."""
        client = self.client()
        lines = [" HTTP/1.1", f"Host: {client.origin.netloc if client else ''}", "User-Agent: replicator"]
        lines += [f"{name}: {text}" for name, text in self.headers.items()]
        return "".join(f"{line}\r\n" for line in lines).encode()


def _is_field(name: str, text: str) -> bool:
    """Whether this is a header field that does no harm (RFC 9110, section 5.5)."""
    framing = {"host", "content-length", "transfer-encoding", "connection"}
    return name.replace("-", "").isalnum() and name.isascii() and name.lower() not in framing and text.isprintable()
