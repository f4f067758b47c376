"""The options of a server that is spoken to over HTTP: what they may be, and what they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

from replicator.targets.httpauth import Auth, Digest
from replicator.targets.httppool import TLS, Client, Origin


@dataclass(frozen=True)
class HTTPOptions:
    """As written in the settings. A wrong type raises ``TypeError``; what else is wrong, ``problems`` lists."""

    #: What the settings call ``url``.
    url_option: ClassVar[str] = "url"
    url_examples: ClassVar[str] = '"https://10.0.0.1" or "https://media.example.com/dav"'

    # Never in a repr, which could end in logs. A URL too: someone may have written a password into it.
    url: str = field(repr=False)
    username: str
    password: str = field(repr=False)
    auth: str
    token: str = field(repr=False)
    ca_bundle: str
    client_cert: str
    client_key: str
    connect_timeout: float
    read_timeout: float
    min_rate: float

    def __post_init__(self) -> None:
        kinds: dict[str, type | tuple[type, ...]] = {
            "str": str,
            "bool": bool,
            "float": (int, float),
            "Mapping[str, str]": Mapping,
        }
        examples = {
            "str": 'a string ("…")',
            "bool": "True or False",
            "float": "a number",
            "Mapping[str, str]": "a dict",
        }
        for each in fields(self):
            value = getattr(self, each.name)
            kind = str(each.type)
            if not isinstance(value, kinds[kind]) or (kind == "float" and isinstance(value, bool)):
                name = self.url_option if each.name == "url" else each.name
                raise TypeError(f"{name} is a {type(value).__name__}: write {examples[kind]}")

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, and its cure. Holds no credential."""
        found: list[tuple[str, str]] = []
        url = self.url_option
        try:
            Origin.of(self.url)
            parts = urlsplit(self.url)
        except ValueError as error:
            # Python's message quotes what it took for a port: of "http://me:pass/word@host", a part of the password.
            what = str(error) if "URL" in str(error) else "not a URL: its port is no number"
            return [(f"{url} is {what}", f"Write it as {self.url_examples}.")]
        if "@" in parts.netloc:
            found.append((f"{url} holds credentials", "Write them as the options username and password."))
        if parts.query or parts.fragment:
            found.append((f"{url} has a query or a fragment", "Write the part before it."))
        if any(segment in (".", "..") for segment in unquote(parts.path).split("/")):
            found.append((f"{url} has . or .. in its path", "Write the path without them."))
        if self.auth not in ("basic", "digest"):
            found.append((f"auth is {self.auth!r}", 'Write "basic" or "digest".'))
        if self.token and (self.username or self.password):
            found.append(("there are both a token and a username or password", "Keep one of them."))
        if self.password and not self.username:
            found.append(("there is a password without a username", "Add the option username."))
        if "\n" in self.token + self.username or "\r" in self.token + self.username:
            found.append(("token or username has a line end in it", "Remove it."))
        if self.client_key and not self.client_cert:
            found.append(("there is a client_key without a client_cert", "Add the option client_cert."))
        for name in ("ca_bundle", "client_cert", "client_key"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                found.append((f"{name} is not a file: {path}", "Write the path of a PEM file."))
            elif path and parts.scheme != "https":
                found.append((f"{name} is set, and {url} is not https", "Write an https:// URL."))
        for name in ("connect_timeout", "read_timeout", "min_rate"):
            if not getattr(self, name) > 0:
                found.append((f"{name} is {getattr(self, name)}", "Write a number above 0."))
        return found

    def client(self, *, at_most: float | None = None) -> Client | None:
        """A client for these options, with no time limit above *at_most* seconds; None if they have problems."""
        if self.problems():
            return None
        tls = TLS(self.ca_bundle, self.client_cert, self.client_key)
        return Client(
            Origin.of(self.url, tls),
            connect_timeout=min(self.connect_timeout, at_most or self.connect_timeout),
            read_timeout=min(self.read_timeout, at_most or self.read_timeout),
            min_rate=self.min_rate,
        )

    def authentication(self) -> Auth:
        if self.token:
            return Auth.bearer(self.token)
        if not self.username:
            return Auth()
        if self.auth == "digest":
            return Digest(self.username, self.password)
        return Auth.basic(self.username, self.password)

    def path(self) -> str:
        """The path of the URL, percent-encoded, without a slash at its end."""
        try:
            return quote(unquote(urlsplit(self.url).path)).rstrip("/")
        except ValueError:
            return ""
