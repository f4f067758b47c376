"""The promises that every kind of target keeps, as tests."""

# ruff: noqa: S101 - tests assert

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from replicator.errors import LocalChanged, Refused, TargetError
from replicator.targets.base import TargetFile
from replicator.testing.content import BytesContent, FailingContent, ZeroContent
from replicator.testing.listing import ListingContract
from replicator.testing.names import ODD_NAMES, UNSAFE_NAMES
from replicator.testing.outcomes import raises, settled


class ForeignError(Exception):
    """Raised by a content: no target knows it."""


class TargetContract(ListingContract):
    """Inherit, name the class ``Test…``, and make a target. Names below are used; the target may hold others."""

    # Put.

    def test_a_put_file_can_be_read_back(self) -> None:
        """Exactly these bytes, and the size is known without reading them."""
        data = bytes(range(256)) * 64
        file = self.put("new.bin", data)
        assert self.holds("new.bin") == data
        held = self.target.stat(file)
        assert held is not None
        assert held.size == len(data)
        for name, checksum in held.checksums.items():
            assert checksum == hashlib.new(name, data, usedforsecurity=False).hexdigest()

    def test_put_replaces_whatever_was_there(self) -> None:
        """Longer or shorter: nothing of the old content stays."""
        for data in (b"first, and longer", b"second", b"third, and the longest of all", b""):
            self.put("again.txt", data)
            assert self.holds("again.txt") == data

    def test_put_is_idempotent(self) -> None:
        """Twice is as once."""
        for _ in range(2):
            self.put("twice.txt", b"the same")
        assert self.holds("twice.txt") == b"the same"

    def test_an_empty_file_is_a_file(self) -> None:
        """No bytes is not absent."""
        file = self.put("empty.txt", b"")
        held = self.target.stat(file)
        assert held is not None
        assert held.size == 0
        assert self.holds("empty.txt") == b""

    def test_files_of_any_size_arrive_whole(self) -> None:
        """Also around the sizes of buffers."""
        for size in (1, 4095, 65535, 65536, 65537, 262144, 300_001):
            data = hashlib.sha256(str(size).encode()).digest() * (size // 32 + 1)
            self.put("size.bin", data[:size])
            assert self.holds("size.bin") == data[:size]

    def test_missing_folders_are_made(self) -> None:
        """At any depth, for small files and large, and again after they were taken away."""
        self.put("deep/er/and/deeper/file.txt", b"small")
        self.put("deep/est/of/all/file.bin", bytes(300_000))
        self.put("deep/er/and/sibling.txt", b"known by now")
        assert self.holds("deep/er/and/deeper/file.txt") == b"small"
        assert self.holds("deep/est/of/all/file.bin") == bytes(300_000)
        assert self.holds("deep/er/and/sibling.txt") == b"known by now"

    def test_a_large_file_is_streamed(self) -> None:
        """Promise 8: memory stays flat whatever the size of the file."""
        content = ZeroContent(self.large)
        file = TargetFile("default", "large.bin", prefix="/media/", size=self.large)
        try:
            self.target.put(file, content)
            held = self.target.stat(file)
            assert held is not None
            assert held.size == self.large
            assert content.growth < self.large_growth
        finally:
            self.target.delete(file)

    def test_threads_share_a_target(self) -> None:
        """One instance per process is used by several threads at once."""

        def each(number: int) -> bool:
            data = b"%d " % number * 2000
            name = f"threads/{number}.txt"
            self.put(name, data)
            return self.holds(name) == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(each, range(64)))

    def test_a_closed_target_can_be_used_again(self) -> None:
        """``close`` drops connections, not more."""
        self.put("closed.txt", b"before")
        self.target.close()
        assert self.holds("closed.txt") == b"before"

    # Names.

    def test_odd_names_are_files_of_their_own(self) -> None:
        """A name is stored as it is, or refused aloud: never as another."""
        for number, name in enumerate(ODD_NAMES):
            data = f"{number}: {name!r}".encode()
            if name in self.refused_names:
                with raises(TargetError):
                    self.put(f"odd/{name}", data)
                continue
            self.put(f"odd/{name}", data)
        for number, name in enumerate(ODD_NAMES):
            if name not in self.refused_names:
                assert self.holds(f"odd/{name}") == f"{number}: {name!r}".encode(), name
        for name in ("a", "a b.txt", "A.txt", "50", "é.txt", "trailing"):
            assert self.holds(f"odd/{name}") is None, name
        for name in ODD_NAMES:
            if name not in self.refused_names:
                self.target.delete(self.file(f"odd/{name}"))
                assert self.target.stat(self.file(f"odd/{name}")) is None, name

    def test_long_names_are_stored_or_refused(self) -> None:
        """Never cut: 255 bytes is what file systems take; a longer one is an error that says so."""
        name = "l" * self.longest_segment
        self.put(name, b"long")
        assert self.holds(name) == b"long"
        longer = "l" * 256
        with raises(TargetError):
            self.put(longer, b"too long")
        assert self.holds(name) == b"long"

    def test_unsafe_names_are_never_sent(self) -> None:
        """Promise 6: a folder, an empty name or a name outside the root is never sent."""
        self.put("a/b", b"kept")
        calls: list[Callable[[TargetFile], object]] = [
            lambda file: self.target.put(file, BytesContent(b"")),
            self.target.delete,
            self.target.stat,
            lambda file: self.target.open(file).__enter__(),
        ]
        for name in UNSAFE_NAMES:
            for call in calls:
                with raises(Refused):
                    call(self.file(name))
        assert self.holds("a/b") == b"kept"

    # Delete.

    def test_a_deleted_file_is_absent(self) -> None:
        """And only that file."""
        file = self.put("gone/file.txt", b"data")
        self.put("gone/neighbour.txt", b"stays")
        self.target.delete(file)
        assert self.target.stat(file) is None
        assert self.holds("gone/file.txt") is None
        assert self.holds("gone/neighbour.txt") == b"stays"

    def test_absent_is_deleted_already(self) -> None:
        """Delete is idempotent: also in a folder that never was."""
        file = self.put("twice.txt", b"data")
        for _ in range(2):
            self.target.delete(file)
        self.target.delete(self.file("never/was/here.txt"))
        assert self.target.stat(file) is None

    def test_a_deleted_file_can_be_put_again(self) -> None:
        """Nothing of the deletion stays."""
        file = self.put("back/file.txt", b"old")
        self.target.delete(file)
        self.put("back/file.txt", b"new")
        assert self.holds("back/file.txt") == b"new"

    def test_a_folder_is_never_deleted(self) -> None:
        """Promise 6: nothing is deleted that the ledger did not name."""
        self.put("folder/inside.txt", b"kept")
        self.put("folder/below/deep.txt", b"kept too")
        if self.has_folders:
            with raises(Refused):
                self.target.delete(self.file("folder"))
            with raises(Refused):
                self.target.delete(self.file("folder/below"))
        else:
            self.target.delete(self.file("folder"))
        assert self.holds("folder/inside.txt") == b"kept"
        assert self.holds("folder/below/deep.txt") == b"kept too"

    def test_a_file_in_a_folders_place_is_an_error(self) -> None:
        """What is in the way stays: the ledger did not name it."""
        if not self.has_folders:
            return
        self.put("place/inside.txt", b"kept")
        for data in (b"small", bytes(300_000)):
            with raises(TargetError):
                self.put("place", data)
            with raises(TargetError):
                self.put("place/inside.txt/below.txt", data)
        with settled():
            self.target.delete(self.file("place/inside.txt/below.txt"))
        assert self.holds("place/inside.txt") == b"kept"

    # Stat and open.

    def test_absent_is_none(self) -> None:
        """``stat`` says None, ``open`` raises ``FileNotFoundError``."""
        assert self.target.stat(self.file("absent.txt")) is None
        assert self.target.stat(self.file("no/such/folder.txt")) is None
        with raises(FileNotFoundError), self.target.open(self.file("absent.txt")) as reader:
            reader.read()

    def test_a_reader_gives_what_is_asked_for(self) -> None:
        """In pieces of any size; it may be left early."""
        data = bytes(range(256)) * 4096
        file = self.put("read.bin", data)
        with self.target.open(file) as reader:
            assert reader.read(10) == data[:10]
            assert reader.read(0) == b""
            assert reader.read(100_000) == data[10:100_010]
            assert reader.read() == data[100_010:]
            assert reader.read() == b""
            assert reader.read(1) == b""
        with self.target.open(file) as reader:
            assert reader.read(1) == data[:1]
        assert self.holds("read.bin") == data

    # Contents that fail.

    def test_a_content_that_raises_leaves_what_was(self) -> None:
        """Promise 5: no partial file is ever visible; and the exception arrives as it was raised."""
        for size in (1000, 3_000_000):
            for after in (0, size // 2, size):
                for name, old in (("kept.bin", b"old"), ("never.bin", None)):
                    if old is not None:
                        self.put(name, old)
                    error = ForeignError(f"{size} {after}")
                    with raises(ForeignError) as caught:
                        self.target.put(self.file(name), FailingContent(bytes(size), after, error))
                    assert caught == [error]
                    self._stays(name, old)

    def test_a_content_of_another_length_leaves_what_was(self) -> None:
        """Shorter or longer than it said: the file changed while it was sent."""
        for size in (1000, 3_000_000):
            for claimed in (size - 1, size + 1):
                self.put("kept.bin", b"old")
                with raises(LocalChanged):
                    self.target.put(self.file("kept.bin"), BytesContent(bytes(size), size=claimed))
                self._stays("kept.bin", b"old")

    def test_nothing_changes_once_the_worker_may_not_send(self) -> None:
        """Promise 2: ``may_send`` is asked before each change; what it raises arrives as it was raised."""
        error = ForeignError("the lease ended")

        def may_not() -> None:
            raise error

        for size in (1000, 300_000):
            for name, old in (("kept.bin", b"old"), ("never.bin", None)):
                if old is not None:
                    self.put(name, old)
                file = replace(self.file(name, bytes(size)), may_send=may_not)
                with raises(ForeignError) as caught:
                    self.target.put(file, BytesContent(bytes(size)))
                assert caught == [error]
                self._stays(name, old)
        with raises(ForeignError):
            self.target.delete(replace(self.put("kept.bin", b"old"), may_send=may_not))
        self._stays("kept.bin", b"old")

    def _stays(self, name: str, old: bytes | None) -> None:
        # A server notices a lost connection in its own time.
        for _ in range(3):
            assert self.holds(name) == old
            time.sleep(0.02)

    # Health.

    def test_a_healthy_target_says_so(self) -> None:
        """``probe`` returns quickly, and leaves nothing behind; ``check`` finds nothing wrong."""
        took = []
        for _ in range(3):  # the first may have a library to load, and the machine something else to do
            begun = time.monotonic()
            self.target.probe()
            took.append(time.monotonic() - begun)
        assert min(took) < 3
        assert self.target.check() == []
