"""A site, its two targets and its workers, where anything may go wrong; and what must be true when all is quiet.

What the site's files should be is kept here, apart from the ledger: the checks compare it with what the targets and
the disk really hold.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from replicator import delivery, ledger, tasks, wake
from replicator.delivery.send import send
from replicator.ledger import Batch, Outcome, health, life
from replicator.models import MediaFile, Replica, Slot, TargetState
from replicator.storage import ReplicatedStorage
from replicator.storage.seen import Seen
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from tests.property.faults import Faults

TARGETS = ("media1", "media2")

#: ("save" | "replace" | "copy" | "delete", name, size), or ("savepoint", changes, whether it is rolled back)
Change = tuple[Any, Any, Any]


@dataclass
class Worker:
    """One that does in pieces, and between pieces waits as long as the test likes, what ``deliver`` does."""

    batch: Batch | None = None
    to_send: list[ledger.Claim] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    #: It was stopped after asking its clock: what the protocol assumes of such a one is that it lives to settle.
    stopped: bool = False

    @property
    def is_idle(self) -> bool:
        return not self.to_send and not self.outcomes

    def claim(self, target: str, limit: int) -> None:
        self.batch = ledger.claim(target, limit)
        self.to_send = list(self.batch.claims)

    def send(self, number: int) -> None:
        if self.to_send:
            claim = self.to_send.pop(number % len(self.to_send))
            self.outcomes.append(send(get_target(claim.target), claim))

    def settle(self) -> None:
        if self.batch is not None:
            ledger.release(self.batch.lease, [o.claim.id for o in self.outcomes if not o.sent])
            assert ledger.settle(self.batch.lease, [o for o in self.outcomes if o.sent]) == []
        self.outcomes, self.stopped = [], False

    def die(self) -> None:
        if self.stopped:
            self.settle()
        self.batch, self.to_send, self.outcomes = None, [], []


class World:
    def __init__(self) -> None:
        self._stack = ExitStack()
        root = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.root = Path(root)
        self._stack.enter_context(override_settings(**_settings(root)))
        # No broker: which wake-ups arrive, and when, is what the test decides.
        self._stack.enter_context(patch.object(wake, "_publish", lambda *_, **__: None))
        self._stack.enter_context(patch.object(wake, "clear_flag", lambda _: None))
        # Nothing depends on how quick this machine is: what a process believes for a moment, when a probe is due.
        for name in ("_BELIEVED", "_IN_A_SAVE"):
            self._stack.enter_context(patch.object(life, name, 0.0))
        self._stack.enter_context(patch.object(health, "probe_interval", lambda _: 0.0))
        # A power cut is not what is tested here.
        self._stack.enter_context(patch("os.fsync", lambda _: None))
        for model in (Replica, MediaFile, Slot, TargetState):
            model.objects.all().delete()
        self.targets = {alias: cast(MemoryTarget, get_target(alias)) for alias in TARGETS}
        self.faults = {alias: Faults(target, self._stop_sender) for alias, target in self.targets.items()}
        self.workers = [Worker(), Worker()]
        #: The one that is sending just now, if it is one of ours.
        self.sender: Worker | None = None
        #: What should be true: name → content.
        self.wanted: dict[str, bytes] = {}
        self.committed: set[bytes] = set()
        self.contents = 0
        #: What a copy has seen under a name, and what should have been there: it writes when it has fetched its file.
        self.seen: dict[str, tuple[Seen, bytes | None]] = {}

    def close(self) -> None:
        self._stack.close()

    @property
    def storage(self) -> ReplicatedStorage:
        return cast(ReplicatedStorage, storages["default"])

    # The site

    def transaction(self, changes: list[Change], *, rolled_back: bool) -> None:
        """These changes, in one transaction."""
        after = dict(self.wanted)
        with transaction.atomic():
            self._change(after, changes)
            transaction.set_rollback(rolled_back)
        if not rolled_back:
            self._commit(after)

    def one(self, change: Change) -> None:
        """A change without a transaction around it."""
        after = dict(self.wanted)
        self._change(after, [change])
        self._commit(after)

    def _commit(self, after: dict[str, bytes]) -> None:
        self.wanted = after
        self.committed |= set(after.values())

    def _change(self, files: dict[str, bytes], changes: list[Change]) -> None:
        for verb, what, how in changes:
            if verb == "savepoint":
                inner = dict(files)
                with transaction.atomic():
                    self._change(inner, what)
                    transaction.set_rollback(how)
                if not how:
                    files.clear()
                    files.update(inner)
            elif verb == "delete":
                self.storage.delete(what)
                files.pop(what, None)
            else:
                content, name = self._content(how), what
                if verb == "replace":
                    self.storage.replace(what, ContentFile(content))
                elif verb == "copy":
                    seen = self._look(what, files.get(what))
                    assert self.storage.replace_seen(what, ContentFile(content), seen), "nobody came in between"
                else:
                    name = self.storage.save(what, ContentFile(content))
                    assert name not in files, "two files took one name"
                files[name] = content

    def _content(self, size: int) -> bytes:
        """Different from all others; a large one takes more than one read."""
        self.contents += 1
        return (b"%d " % self.contents) * size

    # A copy from elsewhere

    def _look(self, name: str, wanted: bytes | None) -> Seen:
        seen = self.storage.look([name])[name]
        assert (seen.file and seen.file.size) == (None if wanted is None else len(wanted)), "it was not seen as it is"
        return seen

    def look(self, name: str) -> None:
        self.seen[name] = self._look(name, self.wanted.get(name)), self.wanted.get(name)

    def put_over(self, name: str, size: int) -> None:
        """Write over what was seen, whatever has happened since."""
        seen, before = self.seen.pop(name)
        content = self._content(size)
        if self.storage.replace_seen(name, ContentFile(content), seen):
            assert self.wanted.get(name) == before, "something newer was lost"
            self._commit({**self.wanted, name: content})

    # What goes wrong at a target

    def _stop_sender(self, alias: str) -> None:
        """Between asking its clock and sending, a worker is stopped: its lease ends, and another does the work."""
        if self.sender is not None:
            self.sender.stopped = True
            self.sender, stopped = None, self.sender
            self.end_leases()
            delivery.deliver(alias)
            self.sender = stopped

    def late(self, alias: str, number: int, *, lands: bool) -> None:
        """A request that got no answer takes effect now, or never."""
        held = self.targets[alias].held
        if held:
            index = number % len(held)
            self.targets[alias].release(index) if lands else held.pop(index)

    # Workers and time

    def send(self, worker: Worker, number: int) -> None:
        self.sender = worker
        worker.send(number)
        self.sender = None

    def end_leases(self) -> None:
        """All leases end, by everyone's clock."""
        past = timezone.now() - timedelta(seconds=1)
        Replica.objects.exclude(lease=None).update(lease_until=past)
        Slot.objects.exclude(lease=None).update(lease_until=past)
        for worker in self.workers:
            if worker.batch is not None:
                worker.batch.lease.ends = 0.0

    def pass_time(self) -> None:
        """What waits is due. A doubt window outlasts what it waits for."""
        now = timezone.now()
        for alias, target in self.targets.items():
            waiting = Replica.objects.pending().at(alias).filter(due_at__gt=now)
            if target.held:
                waiting = waiting.filter(provisional=False)
            waiting.update(due_at=now)
        TargetState.objects.filter(retry_at__gt=now).update(retry_at=now)

    def sweep(self) -> None:
        """What beat does, and the workers whom that wakes."""
        tasks.probe()
        for alias in tasks.sweep():
            delivery.deliver(alias)

    def quiesce(self) -> None:
        """Nothing goes wrong any more, everything under way ends, and time passes."""
        for faults in self.faults.values():
            faults.clear()
        for worker in self.workers:
            worker.settle()
            worker.die()
        self.end_leases()
        self.storage.tidy()
        ledger.requeue(Replica.objects.all())
        self._converge()
        # The unluckiest order: what got no answer takes effect when all else is done.
        for target in self.targets.values():
            while target.held:
                target.release()
        self.check_always()
        self._converge()

    def _converge(self) -> None:
        for _ in range(4):
            self.pass_time()
            self.sweep()

    # What must be true

    def check_quiet(self) -> None:
        """After ``quiesce``: promises 1, 2 and 3, read from the targets and the disk."""
        for alias, target in self.targets.items():
            assert target.files == {f"media/{name}": data for name, data in self.wanted.items()}, alias
        on_disk = {str(p.relative_to(self.root)): p for p in self.root.rglob("*") if not p.is_dir() or p.is_symlink()}
        assert {name: path.read_bytes() for name, path in on_disk.items()} == self.wanted
        assert not Replica.objects.backlog().exists()
        assert not health.down_targets()

    def check_always(self) -> None:
        """At any moment: what was rolled back was never visible, and what is called synced is."""
        for alias, target in self.targets.items():
            assert self.faults[alias].seen <= self.committed, "rolled back content was visible"
            if target.held or any(not worker.is_idle for worker in self.workers):
                continue
            synced = Replica.objects.at(alias).filter(status=Replica.Status.SYNCED).select_related("file")
            for replica in synced:
                name = replica.file.name
                assert target.files.get(f"media/{name}") == self.wanted.get(name), f"{name} is stale at {alias}"


def _settings(root: str) -> dict[str, Any]:
    target = {"BACKEND": "replicator.testing.MemoryTarget", "OPTIONS": {"concurrency": 1}}
    return {
        "MEDIA_ROOT": root,
        "STORAGES": {
            "default": {"BACKEND": "replicator.storage.ReplicatedStorage"},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
        },
        "REPLICATOR": {
            "TARGETS": dict.fromkeys(TARGETS, target),
            "ORPHAN_GRACE": 0,
            "TOMBSTONE_AGE": 0,
            "DOWN_AFTER": 2,
            # Time passes when the test says so, and not while it runs.
            "LEASE_SECONDS": 3600,
            "DOUBT_WINDOW": 3600,
            "RETRY_BASE": 3600,
            "RETRY_CAP": 36_000,
        },
    }
