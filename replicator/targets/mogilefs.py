"""A MogileFS domain as a target: trackers say where files go, storage nodes take them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from replicator.conf import media_url
from replicator.errors import Corrupt, LocalChanged, Refused, TargetError, Unavailable
from replicator.targets.base import (
    Content,
    Entry,
    Reader,
    Space,
    Stat,
    Target,
    TargetFile,
    above_zero,
    path_below,
    url_path,
)
from replicator.targets.http import CHUNK
from replicator.targets.mogiledomain import Domain
from replicator.targets.storagenode import StorageNodes
from replicator.targets.tracker import TrackerError, Trackers, numbered

#: Up to this size a file is held in memory; above, it is read twice: a node wants the MD5 before the bytes.
SMALL = 1024 * 1024
#: Bytes of the longest key: MySQL keeps no longer ones, and may cut them without a word.
LONGEST_KEY = 255
#: What it calls the class of files that have none; create_open does not know it by this name.
DEFAULT_CLASS = "default"
#: How a create_close ends that will never have an effect: its fid is spent.
SPENT = {
    *("bogus_args", "invalid_checksum_format", "invalid_destdev", "no_devid", "no_fid", "no_path"),
    "size_verify_error",
}
MISMATCH = {"size_mismatch", "checksum_mismatch"}
#: Names of MogileFS's checksums in ``hashlib``.
HASHES = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}


@dataclass(frozen=True, slots=True)
class _Body:
    """What is stored: small files as bytes."""

    source: Content | bytes
    size: int
    md5: bytes

    @classmethod
    def of(cls, content: Content) -> _Body:
        """Reads the content once, to its end: bytes that are not the version's never leave."""
        md5 = hashlib.md5(usedforsecurity=False)
        chunks: list[bytes] = []
        size = 0
        while data := content.read(CHUNK):
            md5.update(data)
            size += len(data)
            if content.size <= SMALL:
                chunks.append(data)
            if size > content.size:
                break
        if size != content.size:
            raise LocalChanged(f"the content is not the {content.size} bytes that it was said to be")
        return cls(b"".join(chunks) if size <= SMALL else content, size, md5.digest())


class MogileFSTarget(Target):
    """A domain of MogileFS. A file's key is the path of its URL below *base_url*.

    *trackers*: ``"host:port"`` each, asked in this order. *default_class*: for files that name no class; the
    domain's own default class unless given. *base_url*: ``MOGILEFS_MEDIA_URL`` or ``MEDIA_URL`` unless given.
    *connect_timeout*, *read_timeout* (how long a tracker or node may be silent): seconds; *min_rate*: bytes per
    second below which a transfer is given up.
    """

    has_classes = True

    def __init__(
        self,
        alias: str,
        *,
        domain: str,
        trackers: Sequence[str],
        default_class: str | None = None,
        base_url: str | None = None,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        min_rate: float = 64 * 1024,
        concurrency: int | None = None,
        workers: int = 2,
        bandwidth: float | None = None,
    ) -> None:
        super().__init__(alias, concurrency=concurrency, workers=workers, bandwidth=bandwidth)
        if not isinstance(domain, str) or not domain:
            raise ValueError('domain is empty: write the domain that the trackers know, as in "production"')
        if isinstance(trackers, str) or not trackers or not all(isinstance(each, str) for each in trackers):
            raise ValueError('trackers is no list of addresses: write ["10.0.0.5:7001"]')
        if not isinstance(default_class, str | None) or not isinstance(base_url, str | None):
            raise TypeError('default_class and base_url are texts: write "avatar", "/media/"')
        above_zero(connect_timeout=connect_timeout, read_timeout=read_timeout, min_rate=min_rate)
        self.default_class = default_class or ""
        self._root = url_path(media_url() if base_url is None else base_url)
        self.domain = Domain(domain, Trackers(trackers, connect_timeout=connect_timeout, read_timeout=read_timeout))
        self._nodes = StorageNodes(connect_timeout=connect_timeout, read_timeout=read_timeout, min_rate=min_rate)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias}>"

    def key_of(self, file: TargetFile) -> str:
        """Raises ``Refused`` for a name that must not be sent."""
        key = path_below(self._root, file)
        length = len(key.encode())
        if length > LONGEST_KEY:
            raise Refused(f"a key of {length} bytes, and MogileFS keeps {LONGEST_KEY}: rename the file ({key[:60]}…)")
        return key

    def addresses(self, file: TargetFile) -> set[str]:
        key = self.key_of(file)
        return {f"mogilefs {tracker} {self.domain.name}: {key}" for tracker in self.domain.trackers.netlocs}

    def put(self, file: TargetFile, content: Content) -> None:
        key = self.key_of(file)
        with self.throttle.off() if content.size > SMALL else nullcontext():
            body = _Body.of(content)
        failed: set[str] = set()
        try:
            self._store(file, key, body, failed, Unavailable("the tracker offers no place"))
        except (Unavailable, Corrupt) as error:
            # What failed is spent, and never seen. Other places may be offered now.
            if error.doubt or not failed:
                raise
            self._store(file, key, body, failed, error)

    def reclass(self, file: TargetFile) -> bool:
        key, wanted = self.key_of(file), self._class_of(file) or DEFAULT_CLASS
        info = self.domain.info(key)
        if info is None or info.get("length") != str(file.size):
            return False
        if info.get("class") == wanted:
            return True
        file.may_send()
        try:
            self.domain.change("updateclass", {"key": key, "class": wanted})
        except TrackerError as error:
            # No such key; or one without a copy.
            if error.code in ("invalid_key", "no_devices"):
                return False
            raise self.domain.failure("updateclass", error, wanted) from None
        return True

    def classes(self) -> list[str]:
        return self.domain.classes()

    def space(self) -> Space | None:
        """Of all disks in use. Each copy of a file takes its part of it."""
        sizes = [(device.get("mb_free", ""), device.get("mb_total", "")) for device in self.domain.devices()]
        known = [(int(free), int(total)) for free, total in sizes if free.isdecimal() and total.isdecimal()]
        if not known:
            return None
        return Space(sum(free for free, _ in known) << 20, sum(total for _, total in known) << 20)

    def delete(self, file: TargetFile) -> None:
        key = self.key_of(file)
        file.may_send()
        try:
            self.domain.change("delete", {"key": key})
        except TrackerError as error:
            if error.code != "unknown_key":
                raise self.domain.failure("delete", error) from None

    def stat(self, file: TargetFile) -> Stat | None:
        info = self.domain.info(self.key_of(file))
        if info is None:
            return None
        kind, _, digest = info.get("checksum", "").partition(":")
        checksums = {HASHES[kind]: digest.lower()} if digest and kind in HASHES else {}
        mogile_class = info.get("class", "")
        return Stat(int(info["length"]), checksums, "" if mogile_class == DEFAULT_CLASS else mogile_class)

    def open(self, file: TargetFile) -> AbstractContextManager[Reader]:
        return self.read(self.paths(file))

    def paths(self, file: TargetFile, *, within: float | None = None) -> list[str]:
        """URLs of its copies at the storage nodes, the best first; not looked at: some may be dead.

        *within*: seconds that the trackers have. Raises ``FileNotFoundError`` if there is no such key.
        """
        paths = self.domain.paths(self.key_of(file), within=within)
        if paths is None:
            raise FileNotFoundError(file.name)
        return self._nodes.best_first(paths)

    def read(
        self, paths: Sequence[str], start: int = 0, stop: int | None = None, *, size: int | None = None
    ) -> AbstractContextManager[Reader]:
        """The bytes from *start* to before *stop*, of the first of *paths* that answers; ``Unavailable`` if none.

        *size*: of the whole file; a copy of another length is passed over.
        """
        return self._nodes.get(paths, start, stop, size=size)

    def choose(self, paths: Sequence[str], size: int) -> str:
        """The first of *paths* where a copy of *size* bytes is; ``Unavailable`` if none is one."""
        return self._nodes.choose(paths, size)

    def can_list(self) -> bool:
        return True

    def entries(self, prefix: str = "/") -> Iterator[Entry]:
        inner = prefix.removeprefix(self._root)
        for key in self.domain.keys(inner):
            yield Entry(key.removeprefix(inner))

    @property
    def is_silent(self) -> bool:
        """Whether no tracker answered of late: asking again may take a time-out."""
        return self.domain.trackers.are_silent

    def probe(self) -> None:
        """Return if a tracker answers within 3 seconds, knows the domain, and has a node that can be written to."""
        self.domain.probe()

    def close(self) -> None:
        self.domain.trackers.close()
        self._nodes.close()

    def _store(self, file: TargetFile, key: str, body: _Body, failed: set[str], reason: TargetError) -> None:
        """One create_open, with all that follows. *failed*: hosts that could not take it; they are added to.

        *reason*: what is raised if no other is offered.
        """
        wanted = self._class_of(file)
        fields: dict[str, str | int] = {"key": key, "multi_dest": 1, "size": body.size}
        file.may_send()
        try:
            opened = self.domain.ask("create_open", fields | ({"class": wanted} if wanted else {}))
        except TrackerError as error:
            raise self.domain.failure("create_open", error, wanted) from None
        paths = numbered(opened, "path_", "dev_count")
        devices = dict(zip(paths, numbered(opened, "devid_", "dev_count"), strict=True))
        for path in self._nodes.best_first(paths):
            host = path.split("/")[2]
            # Often all offers are of one host.
            if host in failed:
                continue
            file.may_send()
            try:
                if not isinstance(body.source, bytes):
                    body.source.seek(0)
                self._nodes.put(path, body.source, body.size, base64.b64encode(body.md5).decode())
            except (Unavailable, Corrupt) as error:
                failed.add(host)
                reason = error
                continue
            file.may_send()
            try:
                self._close(key, body, fid=opened["fid"], devid=devices[path], path=path)
            except (Unavailable, Corrupt):
                failed.add(host)
                raise
            return
        raise reason

    def _close(self, key: str, body: _Body, *, fid: str, devid: str, path: str) -> None:
        """Make what was stored the key's content, or find out that it is."""
        # The checksum is kept where the class hashes: each further copy is compared with it.
        fields = {"key": key, "fid": fid, "devid": devid, "path": path, "checksum": f"MD5:{body.md5.hex()}"}
        try:
            self.domain.change("create_close", {**fields, "size": body.size})
        except Unavailable as error:
            if not error.doubt:
                raise
            reason = str(error)
        except TrackerError as error:
            if error.code in MISMATCH:
                raise Corrupt(f"create_close: {error.code}: the node has other bytes than were sent") from None
            if error.code in SPENT:
                raise Unavailable(f"create_close: {error.code}") from None
            # no_temp_file: a tracker lets another of its processes run what one did not finish, and that one finds
            # the fid spent. The first may have stored the file, or be about to.
            reason = f"create_close: {error.code}"
        else:
            return
        try:
            info = self.domain.info(key)
        except TargetError as error:
            raise Unavailable(f"{reason}, and then {error}", doubt=True) from None
        if info is None or info.get("fid") != fid:
            raise Unavailable(f"{reason}, and the key does not hold what was sent", doubt=True)

    def _class_of(self, file: TargetFile) -> str:
        """Empty for the domain's default class, which create_open does not know by its name."""
        wanted = file.mogile_class or self.default_class
        return "" if wanted == DEFAULT_CLASS else wanted
