"""What every kind of target is: the contract that delivery relies on and ``replicator.testing`` checks."""

from __future__ import annotations

import posixpath
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import ClassVar, Protocol
from urllib.parse import unquote, urlsplit

from django.core.checks import CheckMessage
from django.utils.encoding import filepath_to_uri

from replicator.errors import Refused
from replicator.targets.findings import LARGE, Finding
from replicator.targets.throttle import Throttle, share
from replicator.targets.trial import Trial

#: What RFC 3986 has no place for: who needs such a character writes it percent-encoded.
_NOT_IN_URLS = re.compile(r"[^!#-;=?-\[\]_a-z~]")


def always() -> None:
    """The ``may_send`` of who may send at any time."""


@dataclass(frozen=True, slots=True)
class TargetFile:
    """One file, as targets are told of it."""

    storage: str
    """Alias of its storage."""
    name: str
    """Relative, ``/``-separated; validated again by ``safe_name`` before anything is sent."""
    prefix: str = "/"
    """Path of the storage's ``base_url``: starts and ends with ``/``; not percent-encoded."""
    size: int = 0
    """Bytes."""
    sha256: str = ""
    """Lower-case hex; empty if unknown."""
    content_type: str = "application/octet-stream"
    mogile_class: str = ""
    may_send: Callable[[], None] = field(default=always, compare=False, repr=False)
    """Called before each request that changes something; raises if the worker may no longer send."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a target says of a file it holds."""

    size: int
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Those that the target knows: name as in ``hashlib`` → lower-case hex."""
    mogile_class: str = ""
    """Where it has classes; empty for the default one."""
    modified: datetime | None = field(default=None, compare=False)
    """When it was written there, aware; None: it does not say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a target's listing says of a file."""

    name: str
    """Relative to the prefix that was asked for; bytes that are not UTF-8 are surrogates in it."""
    size: int | None = None
    """Bytes; None: the listing does not say."""
    modified: datetime | None = None
    """When it was written there, aware; None: the listing does not say."""


@dataclass(frozen=True, slots=True)
class Space:
    """The room that a target says it has, in bytes."""

    free: int
    total: int


class Content(Protocol):
    """The bytes to send: read from start to end, perhaps again after ``seek(0)``.

    ``read`` may raise (the bytes are not the version's, the lease ended). Then nothing of this transfer may
    become visible at the target, its connection is dropped, and the exception goes on to the caller. Targets read
    on until ``read`` returns nothing before they send the last bytes: so it may raise at the very end, too. It may
    return fewer bytes than asked for before that, and take its time: targets do not count it as the network's.
    """

    size: int

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


class Reader(Protocol):
    """A binary stream from a target."""

    def read(self, size: int = -1, /) -> bytes: ...


class Target(ABC):
    """A place that must hold a copy.

    One instance per alias and process, used by several threads at once. Every method either succeeds, as its
    docstring says, or raises ``Unavailable``, ``Refused`` or ``Corrupt``; every network call has a time limit.

    ``put`` and ``delete`` call ``file.may_send()`` before each request that changes something, also the second and
    third of an operation, and let go on what it raises: by then another worker may be sending a newer version.
    Only cleaning up what nobody else can know of (a temporary file of one's own) goes without.
    """

    #: Files in flight at once in one worker process, unless the option ``concurrency`` says otherwise.
    default_concurrency: ClassVar[int] = 8
    #: Whether files have a class there (``TargetFile.mogile_class``), which ``reclass`` changes.
    has_classes: ClassVar[bool] = False

    def __init__(
        self,
        alias: str,
        *,
        concurrency: int | None = None,
        workers: int = 2,
        bandwidth: float | None = None,
        public_url: str = "",
        node: str = "",
    ) -> None:
        above_zero(workers=workers, **({} if concurrency is None else {"concurrency": concurrency}))
        if bandwidth is not None:
            above_zero(bandwidth=bandwidth)
        self.alias = alias
        #: The node whose media root it is, where each has a disk of its own (``SHARED_MEDIA``); empty: none's.
        self.node = node
        #: Threads that send to this target in one worker process.
        self.concurrency = concurrency or self.default_concurrency
        #: Worker processes that may be busy with this target at once.
        self.workers = workers
        #: What content is taken from before it is sent there, and what is read there: this process's part of
        #: *bandwidth*, bytes per second of all workers together; None: as fast as it goes.
        self.throttle = Throttle(share(bandwidth, self.concurrency, workers))
        #: What browsers put before a file's path to read it there, without a slash at its end; empty: they can't.
        self.public_url = _public(public_url)

    @abstractmethod
    def put(self, file: TargetFile, content: Content) -> None:
        """Make this target hold these bytes under this name, whatever it held before.

        Atomic: a reader sees the old content or the new, never a part. Idempotent. ``content.size`` bytes are
        read from it; what arrived is checked at least by size (``Corrupt``).
        """

    def reclass(self, file: TargetFile) -> bool:
        """Give what it holds the file's class, without sending it again: it is known to hold these bytes.

        False if it does not look so any more: then they are sent. Idempotent.
        """
        return False

    def classes(self) -> list[str]:
        """The names of the classes that it knows, if it has classes."""
        return []

    @abstractmethod
    def delete(self, file: TargetFile) -> None:
        """Make it not exist. Already absent is success."""

    @abstractmethod
    def stat(self, file: TargetFile) -> Stat | None:
        """What it holds under this name; None if it is absent."""

    @abstractmethod
    def open(self, file: TargetFile) -> AbstractContextManager[Reader]:
        """Read it back. Raises ``FileNotFoundError`` if it is absent."""

    def can_list(self) -> bool:
        """Whether ``entries`` can tell what it holds. May ask the target; then the answer is kept for a while."""
        return False

    def entries(self, prefix: str = "/") -> Iterator[Entry]:
        """All files that it holds of a storage with this *prefix*, if it can list, in no certain order.

        They were not looked at: some may have names that ``safe_name`` refuses, or be another storage's whose prefix
        is longer. Raises if any part of the listing fails or is cut short: what was yielded before is then not the
        whole. Files that come or go meanwhile may be in it or not. Memory does not grow with the number of files;
        who takes them makes no long pauses, for which a server would end the connection.

        Servers list less exactly than they answer: nginx leaves out names that begin with a dot. So what looks
        missing or wrong is not, before ``stat`` says so too.
        """
        raise Refused(f"{self.alias} can't list what it holds")

    def public_url_of(self, file: TargetFile) -> str:
        """Where browsers find the file, if it is there; empty if they can't read here. No network.

        Raises ``Refused`` for a file that can't be here.
        """
        return self.public_url and self.public_url + filepath_to_uri(file.prefix + safe_name(file.name))

    def addresses(self, file: TargetFile) -> set[str]:
        """Where it keeps the file: two targets with one of these in common would undo what the other does. The
        name is at the end of each. Empty if that is not known. No network. Raises ``Refused`` as ``put`` does."""
        return set()

    def signed_url(self, file: TargetFile, seconds: int, *, disposition: str = "") -> str:
        """A URL with which anybody can GET the file, for so many seconds; empty if this kind has none. No network.

        *disposition*: what the answer's ``Content-Disposition`` is to say, if anything.
        """
        return ""

    def space(self) -> Space | None:
        """The room that it has, where it can tell; None: it can't. Quick: a few seconds at most."""
        return None

    @abstractmethod
    def probe(self) -> None:
        """Return if the target is up. Quick: a few seconds at most; leaves nothing behind."""

    def examine(self, prefix: str = "/", *, size: int = LARGE) -> Generator[Finding, None, None]:
        """Try what delivery relies on below *prefix*; each finding as soon as it is known. Takes seconds.

        Works in a scratch folder of its own, touches nothing else, and removes it in any case: close the iterator if
        it is not read to its end. Raises ``Unavailable``, which names what is left, only if that fails then.
        *size*: bytes of the large file.
        """
        return Trial(self, partial(TargetFile, "", prefix=prefix), size).findings()

    def remove_folder(self, file: TargetFile) -> None:  # noqa: B027 - not all kinds have folders
        """Remove the folder of this name, if there are folders, and this one is empty. For scratch folders only."""

    def check(self) -> list[CheckMessage]:
        """What ``manage.py check`` can say about the options, without any network."""
        return []

    def close(self) -> None:  # noqa: B027 - most kinds keep none
        """Drop kept connections. The target can be used again afterwards."""


def above_zero(**options: float) -> None:
    """Raises ``ValueError`` for an option that is no number above 0."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value!r}: write a number above 0")


def _public(url: str) -> str:
    """*url*, as ``public_url`` is kept. An error names what is wrong, and quotes nothing: it could be a password."""
    write = 'write what browsers put before a path, as in "https://cdn1.example.com"'
    if not isinstance(url, str):
        raise TypeError(f"public_url is a {type(url).__name__}: {write}")
    if not url:
        return ""
    if "?" in url or "#" in url:
        raise ValueError(f"public_url has a query or a fragment: {write}")
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https", "") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or _NOT_IN_URLS.search(url):
        raise ValueError(f"public_url is no URL that starts with http://, https:// or // and a host: {write}")
    if "@" in parts.netloc:
        raise ValueError(f"public_url holds credentials, which every page would show: {write}")
    return url.rstrip("/")


def url_path(base_url: str) -> str:
    """The path that browsers use below *base_url*, not percent-encoded; starts and ends with ``/``."""
    path = unquote(urlsplit(base_url).path).strip("/")
    return f"/{path}/" if path else "/"


def path_below(root: str, file: TargetFile) -> str:
    """The path of a file's URL below *root* (as ``url_path`` gives it), not percent-encoded.

    Outside of *root* it keeps its first slash, and so never meets a path inside. Raises ``Refused`` for a name that
    must not be sent.
    """
    path = (file.prefix + safe_name(file.name)).removeprefix(root)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Refused(f"{file.name!r} is not a name that can be sent: it is not Unicode") from None
    return path


def safe_name(name: str) -> str:
    """*name*, if it can be sent: else ``Refused``.

    Empty, absolute, with ``.`` or ``..`` or an empty segment, a NUL, a backslash, or a trailing slash: servers
    fold such names into other places (lighttpd: ``/../`` becomes the root), and a DELETE of a folder is recursive.
    """
    segments = name.split("/")
    if (
        not name
        or any(segment in ("", ".", "..") for segment in segments)
        or "\0" in name
        or "\\" in name
        or posixpath.normpath(name) != name
    ):
        raise Refused(f"{name!r} is not a name that can be sent: it is empty, absolute or leaves its storage")
    return name
