"""Many files at three hosts, three of them corrupted on one host by hand, two deleted locally."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from replicator.models import MediaFile, Replica
from tests.operating.audits import Site, found
from tests.servers import Embedded, Lighttpd, Nginx

pytestmark = pytest.mark.django_db(transaction=True)

#: It was 20,000, with ``TEST_AUDIT_FILES=20000``, when this was written; so many take minutes.
COUNT = int(os.environ.get("TEST_AUDIT_FILES", "2000"))
WEBDAV = "replicator.targets.webdav.WebDAVTarget"


def test_audits_find_and_repair_all_five_and_only_these(
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nginx: Nginx,
    lighttpd: Lighttpd,
    embedded: Embedded,
) -> None:
    """Of four copies of each; within a time that a night has many times over."""
    hosts = {"media1": nginx, "media2": lighttpd, "media3": embedded}
    targets = {alias: {"BACKEND": WEBDAV, "OPTIONS": {"url": host.url}} for alias, host in hosts.items()}
    site = Site(settings, tmp_path, monkeypatch, targets, DOUBT_WINDOW=0.0)
    site.tries = 5
    roots = [site.media, *(host.root / "media" for host in hosts.values())]
    names = fill(roots)
    for host in hosts.values():
        host.own(host.root / "media")
    begun = time.monotonic()
    for target in hosts:
        run = site.audit(target)
        assert (run.state, run.done, found(run)) == ("done", COUNT, [])
    listed = time.monotonic() - begun
    corrupted, lost = [names[7], names[COUNT // 2], names[-1]], [names[COUNT // 3], names[3]]
    for name in corrupted:
        place = nginx.root / "media" / name
        data = place.read_bytes()
        place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for name in lost:
        (site.media / name).unlink()

    begun = time.monotonic()
    for target in hosts:
        run = site.audit(target, level="content")
        wanted = [(name, "wrong", "sent") for name in sorted(corrupted)] if target == "media1" else []
        assert (run.state, run.done, found(run)) == ("done", COUNT, wanted)
    run = site.audit("", level="content")
    assert (run.state, run.done) == ("done", COUNT)
    assert found(run) == [(name, "missing", "restored") for name in sorted(lost)]
    read = time.monotonic() - begun

    pending = Replica.objects.exclude(status="synced").values_list("target", "file__name")
    assert set(pending) == {("media1", name) for name in corrupted}
    site.deliver()
    for root in roots:
        for name in [*corrupted, *lost]:
            assert (root / name).read_bytes() == content(name)
    for target in ("media1", ""):
        assert found(site.audit(target, level="content")) == []
    print(f"{3 * COUNT} files listed in {listed:.1f} s; {4 * COUNT} read in {read:.1f} s")
    assert listed < max(60, COUNT / 40)
    assert read < max(120, COUNT / 10)


def content(name: str) -> bytes:
    return f"what is in {name}".encode() * 5


def fill(roots: list[Path]) -> list[str]:
    """Files in all of *roots*, and in the ledger as confirmed everywhere; their names."""
    names = [f"{number % 100:02}/{number}.txt" for number in range(COUNT)]
    for folder in {name.rpartition("/")[0] for name in names}:
        for root in roots:
            (root / folder).mkdir(parents=True, exist_ok=True)
    now = timezone.now()
    rows = []
    for name in names:
        data = content(name)
        for root in roots:
            with open(f"{root}/{name}", "wb") as file:  # noqa: PTH123
                file.write(data)
        rows.append(
            MediaFile(
                storage="default",
                name=name,
                version=uuid4(),
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                node=os.uname().nodename,
                created_at=now,
                updated_at=now,
            )
        )
    MediaFile.objects.bulk_create(rows, batch_size=1000)
    replicas = [
        Replica(file=file, target=target, status="synced", version=file.version, since=now, due_at=now, synced_at=now)
        for file in rows
        for target in ("media1", "media2", "media3")
    ]
    Replica.objects.bulk_create(replicas, batch_size=1000)
    return names
