"""A lease that ends between two requests of one operation."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from replicator.delivery.send import send
from replicator.errors import LeaseEnded
from replicator.ledger import Claim, Outcome
from replicator.ledger.leases import Lease
from replicator.targets.webdav import WebDAVTarget
from tests.targets.rawserver import RawServer, read_request

DATA = b"data"
STATUSES = {"PUT": 201, "MKCOL": 201, "MOVE": 201, "DELETE": 204, "HEAD": 200, "PROPFIND": 405}


@pytest.fixture
def storage(settings: Settings, tmp_path: Path) -> str:
    """Alias of a storage that holds ``folder/file.txt``."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file.txt").write_bytes(DATA)
    backend = "django.core.files.storage.FileSystemStorage"
    options = {"location": str(tmp_path), "base_url": "/media/"}
    settings.STORAGES = {**settings.STORAGES, "leased": {"BACKEND": backend, "OPTIONS": options}}
    return "leased"


def _requests(
    storage: str, *, deleted: bool, ends_at: str, atomic_put: bool = True, puts: tuple[int, ...] = ()
) -> tuple[list[str], Outcome]:
    """Deliver one file by a lease that ends while *ends_at* is answered; the methods that arrived, what became of it.

    *puts*: the statuses of the first PUTs.
    """
    lease = Lease.start(60)
    sha256 = hashlib.sha256(DATA).hexdigest()
    claim = Claim(
        1,
        "media1",
        1,
        storage,
        "folder/file.txt",
        uuid4(),
        deleted,
        len(DATA),
        sha256,
        "",
        "",
        "",
        0,
        timezone.now(),
        False,
        lease,
    )
    left = list(puts)
    got: list[str] = []

    def script(sock: socket.socket) -> None:
        while True:
            method, _, _ = read_request(sock)
            got.append(method)
            if method == ends_at:
                lease.ends = 0
            status = left.pop(0) if method == "PUT" and left else STATUSES[method]
            length = len(DATA) if method == "HEAD" else 0
            sock.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n".encode())

    with RawServer(script) as server:
        target = WebDAVTarget("media1", url=server.url, read_timeout=5.0, atomic_put=atomic_put)
        outcome = send(target, claim)
        target.close()
    return got, outcome


def test_no_delete_goes_out_after_the_look(storage: str) -> None:
    """Promise 2: while the server said what it has, the lease ended; another may have put a newer version."""
    got, outcome = _requests(storage, deleted=True, ends_at="HEAD")
    assert got == ["HEAD", "PROPFIND"]
    assert isinstance(outcome.error, LeaseEnded)
    assert outcome.sent
    got, outcome = _requests(storage, deleted=True, ends_at="DELETE")
    assert got == ["HEAD", "PROPFIND", "DELETE"]
    assert outcome.error is None


def test_no_second_put_goes_out_after_the_folder_was_made(storage: str) -> None:
    """Promise 2: 409, MKCOL, and by then another holds the lease."""
    got, outcome = _requests(storage, deleted=False, ends_at="MKCOL", puts=(409,))
    assert got == ["PUT", "HEAD", "MKCOL"]
    assert isinstance(outcome.error, LeaseEnded)


def test_no_folder_is_made_after_the_first_put(storage: str) -> None:
    """It is a change, too."""
    got, outcome = _requests(storage, deleted=False, ends_at="PUT", puts=(409,))
    assert got == ["PUT", "HEAD"]
    assert isinstance(outcome.error, LeaseEnded)


def test_no_move_goes_out_after_the_temporary_put(storage: str) -> None:
    """Promise 2: only the temporary file is taken away again."""
    got, outcome = _requests(storage, deleted=False, ends_at="PROPFIND", atomic_put=False)
    assert got == ["PUT", "HEAD", "HEAD", "PROPFIND", "DELETE"]
    assert isinstance(outcome.error, LeaseEnded)
