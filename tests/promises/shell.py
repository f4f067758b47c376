"""A process of a site under test that does what the test tells it, and dies where it is told to.

One JSON object a line: ``{"call": …, "with": {…}}`` on standard input, ``{"result": …}`` or ``{"error": …}`` on
standard output.
"""

# ruff: noqa: E402 - models can be imported only when Django is set up

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

django.setup()

from django.core.checks import run_checks
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from project.demo.livefiles import LiveFiles
from replicator import delivery, ledger, local, operating, tasks, wake
from replicator.conf import config
from replicator.ledger import backfilling, counters, retiring
from replicator.models import CopyFailure, CopyRun, MediaFile, Replica, TargetRun, TargetState
from replicator.operating import backfill, retire
from replicator.storage import ReplicatedStorage, spool
from replicator.targets import get_target

COMMANDS: dict[str, Callable[..., Any]] = {}


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    COMMANDS[function.__name__] = function
    return function


def _storage() -> ReplicatedStorage:
    storage = storages["default"]
    assert isinstance(storage, ReplicatedStorage)
    return storage


@command
def set_up() -> None:
    """The tables, and a beat that needs no patience."""
    from django_celery_beat.models import IntervalSchedule

    call_command("migrate", verbosity=0)
    IntervalSchedule.objects.update(every=1)


@command
def save(name: str, data: str = "", size: int = 0) -> str:
    return default_storage.save(name, ContentFile(data.encode() or b"x" * size))


@command
def save_many(count: int) -> None:
    """As ``0000.txt`` and so on, with their names in them."""
    for number in range(count):
        save(f"{number:04}.txt", f"{number}")


@command
def save_from(name: str, path: str) -> str:
    """Save the file at *path*, chunk by chunk."""
    with Path(path).open("rb") as file:
        return default_storage.save(name, File(file))


@command
def overwrite(name: str, data: str = "", size: int = 0) -> None:
    with default_storage.open(name, "wb") as file:
        file.write(data.encode() or b"x" * size)


@command
def read_in_pieces(name: str) -> str:
    """The SHA-256 of what is read."""
    digest = hashlib.sha256()
    with default_storage.open(name) as file:
        while data := file.read(64 * 1024):
            digest.update(data)
    return digest.hexdigest()


@command
def delete(name: str) -> None:
    default_storage.delete(name)


@command
def read(name: str) -> str:
    with default_storage.open(name) as file:
        return str(file.read().decode())


@command
def exists(name: str) -> bool:
    return default_storage.exists(name)


@command
def status() -> str:
    """What ``manage.py replicator status`` says."""
    return replicator(["status"])


@command
def replicator(words: list[str]) -> str:
    """What ``manage.py replicator`` says."""
    out = io.StringIO()
    try:
        call_command("replicator", *words, stdout=out, stderr=out)
    except CommandError as error:
        return f"{out.getvalue()}{error}"
    return out.getvalue()


@command
def tidy_node() -> dict[str, int]:
    """What the task does on each node."""
    return tasks.tidy()


@command
def flush() -> bool:
    """Until what the saves announced is published."""
    return wake.flush()


@command
def begin(steps: list[list[Any]]) -> None:
    """Do *steps* in a transaction that stays open until ``commit`` or ``rollback``."""
    _open.append(transaction.atomic())
    _open[-1].__enter__()
    for step, arguments in steps:
        COMMANDS[step](**arguments)


_open: list[Any] = []


@command
def commit() -> None:
    _open.pop().__exit__(None, None, None)


@command
def rollback() -> None:
    _open.pop().__exit__(RuntimeError, RuntimeError("as told"), None)


@command
def random_writes(seed: int, names: list[str], count: int) -> int:
    """So many overwrites, deletes and rolled back writes, without a pause; how many were committed."""
    import random

    chance = random.Random(seed)
    done = 0
    for number in range(count):
        name = chance.choice(names)
        kind = chance.choices(["overwrite", "delete", "rolled back"], [6, 2, 1])[0]
        data = f"{seed}/{number}/" * chance.choice([1, 10, 20_000])
        with transaction.atomic():
            if kind == "delete":
                delete(name)
            else:
                overwrite(name, data)
            transaction.set_rollback(kind == "rolled back")
        done += kind != "rolled back"
    return done


@command
def rows(name: str = "") -> list[dict[str, Any]]:
    """What the ledger knows of each replica."""
    found = Replica.objects.select_related("file").order_by("file__name", "target")
    if name:
        found = found.filter(file__name=name)
    return [
        {
            "name": row.file.name,
            "deleted": row.file.deleted,
            "target": row.target,
            "status": row.status,
            "current": row.version == row.file.version,
            "attempts": row.attempts,
            "doubt": row.doubt,
            "leased": row.lease is not None,
            "node": row.node,
            "error_kind": row.error_kind,
            "error_text": row.error_text,
            "http_status": row.http_status,
        }
        for row in found
    ]


@command
def recorded(name: str) -> str:
    """The SHA-256 that the ledger has of a file; "absent" if it is deleted."""
    row = MediaFile.objects.filter(name=name).first()
    return "absent" if row is None or row.deleted else row.sha256


@command
def wanted() -> dict[str, str]:
    """The SHA-256 of each file, as the ledger has it; "absent" for those that were deleted."""
    rows = MediaFile.objects.filter(storage="default").values_list("name", "sha256", "deleted")
    return {name: "absent" if deleted else sha256 for name, sha256, deleted in rows}


@command
def backlog(target: str = "", but: str = "") -> int:
    found = Replica.objects.backlog().exclude(file__name=but)
    return (found.at(target) if target else found).count()


@command
def attempts(target: str) -> int:
    return sum(Replica.objects.at(target).values_list("attempts", flat=True))


@command
def counted() -> dict[str, dict[str, float]]:
    """What workers have counted, by target."""
    return counters.read()


@command
def scrape(token: str) -> str:
    """What a Prometheus gets that asks this process."""
    from django.test import Client

    headers = {"authorization": f"Bearer {token}", "host": "127.0.0.1"}
    return str(Client(raise_request_exception=True).get("/metrics", headers=headers).content.decode())


@command
def synced(target: str) -> int:
    return Replica.objects.at(target).filter(status=Replica.Status.SYNCED).count()


@command
def states() -> dict[str, str]:
    return dict(TargetState.objects.values_list("target", "state"))


@command
def many(count: int, target: str) -> None:
    """So many pending replicas of files that nobody has: rows only."""
    writes = [ledger.Write("default", f"many/{n:06}.txt", 1, "0" * 64) for n in range(count)]
    for start in range(0, count, 500):
        ledger.record_new(writes[start : start + 500], [target])


@command
def make_due() -> None:
    """As if all the waiting were over; doubt windows are kept."""
    Replica.objects.pending().filter(provisional=False).update(due_at=timezone.now() - timedelta(seconds=1))


@command
def make_pending(target: str) -> int:
    """As if none of it had been sent."""
    with transaction.atomic():
        return backfilling.distrust(list(Replica.objects.at(target).values_list("pk", flat=True)))


@command
def requeue() -> int:
    return ledger.requeue(Replica.objects.failed())


@command
def deliver(target: str, seconds: float | None = None) -> dict[str, Any]:
    summary = delivery.deliver(target, seconds=seconds)
    return {"put": summary.put, "deleted": summary.deleted, "failed": summary.failed, "skipped": summary.skipped}


@command
def keep_delivering(target: str, seconds: float) -> int:
    """Deliver and tidy for so long, without a pause; how many files were sent."""
    done = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done += delivery.deliver(target, seconds=1.0).put
        _storage().tidy()
    return done


@command
def sweep() -> list[str]:
    return tasks.sweep()


@command
def keep_sweeping(every: float) -> None:
    """For as long as this process lives."""
    while True:
        time.sleep(every)
        tasks.sweep()


@command
def probe() -> dict[str, bool]:
    return tasks.probe()


@command
def prune() -> dict[str, int]:
    return tasks.prune()


@command
def tidy() -> int:
    return _storage().tidy()


@command
def memory() -> int:
    """Bytes of memory that this process has ever held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@command
def admin_pages() -> str:
    """The HTML of the admin's pages about replicas, as a superuser sees it."""
    from django.contrib import admin
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.urls import reverse

    user = get_user_model().objects.create_superuser("someone", "someone@example.com", "throw-away")
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)
    pages = []
    for model in (MediaFile, Replica, TargetState):
        if model in admin.site._registry:
            place = f"admin:replicator_{model._meta.model_name}"
            pages.append(client.get(reverse(f"{place}_changelist")))
            for row in model._default_manager.all():
                pages.append(client.get(reverse(f"{place}_change", args=[row.pk]), follow=True))
    assert all(page.status_code == 200 for page in pages), [page.status_code for page in pages]
    return "\n".join(page.content.decode() for page in pages)


@command
def reasons() -> dict[str, str]:
    return dict(TargetState.objects.values_list("target", "reason"))


@command
def checks() -> str:
    """What ``manage.py check`` says."""
    return "\n".join(str(message) for message in run_checks())


@command
def reprs() -> str:
    """How the targets and the settings show themselves in a traceback with its variables."""
    targets = [get_target(alias) for alias in config().targets]
    return repr([targets, [vars(target) for target in targets], config()])


@command
def make_rows(live: int) -> int:
    """Those that name the files of a live site which has so many."""
    return LiveFiles(live).make_rows()


@command
def dump() -> str:
    """The project's own rows, and the users they belong to."""
    out = io.StringIO()
    call_command("dumpdata", "gallery", "auth.user", stdout=out)
    return out.getvalue()


@command
def copy_run() -> dict[str, Any]:
    """The last one."""
    run = CopyRun.objects.latest("pk")
    names = ("copied", "there", "newer", "excluded", "missing", "failed", "rows", "bytes")
    sums = run.parts.aggregate(**{name: Sum(name) for name in names})
    listed = CopyFailure.objects.filter(run=run).values_list("name", flat=True)
    return {"state": run.state, "trouble": run.trouble, "failures": sorted(listed), **sums}


@command
def phases() -> dict[str, str]:
    """Of the targets' lives."""
    return dict(TargetState.objects.values_list("target", "phase"))


@command
def runs() -> list[dict[str, Any]]:
    """Backfills and the like, in the order in which they were started."""
    return list(TargetRun.objects.order_by("pk").values("id", "kind", "state", "reason", "trouble", "done", "counts"))


@command
def work(run: int, batch: int = 5) -> str:
    """Work at it, a few files at a time, until its time is over; its state."""
    backfill._BATCH = backfill._BATCH_SQLITE = retire._BATCH_DELETING = batch
    operating.work(run)
    return TargetRun.objects.get(pk=run).state


@command
def age_phases() -> None:
    """As if targets had been in their phases for longer than any process believes what it read."""
    TargetState.objects.update(phase_since=timezone.now() - timedelta(minutes=5))


# Dying


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_after(owner: Any, *names: str) -> None:
    for name in names:
        setattr(owner, name, _dying(getattr(owner, name)))


def _dying(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        # A claim that took nothing is none.
        if getattr(result, "claims", True):
            _die()
        return result

    return wrapper


def _die_before(owner: Any, name: str) -> None:
    setattr(owner, name, lambda *_, **__: _die())


def _die_after_removing() -> None:
    original = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        original(path, missing_ok=missing_ok)
        # Not what a media host was asked for.
        if not local.is_ours(path.name):
            _die()

    Path.unlink = unlink  # type: ignore[method-assign]


#: Where a process can be killed.
FAULTS: dict[str, Callable[[], object]] = {
    "after staging": lambda: _die_after(local.Entry, "stage"),
    "after the local write": lambda: _die_after(local.Entry, "put_in_free_place", "put_in_place", "keep_old"),
    "after record": lambda: _die_after(ledger, "record"),
    "after commit": lambda: _die_before(wake, "announce"),
    "after the announcement": lambda: _die_after(wake, "announce"),
    "after claim": lambda: _die_after(ledger, "claim"),
    "after PUT, before settle": lambda: _die_before(ledger, "settle"),
    "after settle, before a release": lambda: _die_before(spool, "release"),
    "after a stat, before a release": lambda: _die_before(spool, "_remove"),
    "in a release": lambda: _die_after_removing(),
    "in a step": lambda: (
        _die_after(backfilling, "record_lacking", "distrust"),
        _die_after(retiring, "remove"),
    ),
    "before a step is noted": lambda: _die_before(retiring, "remove"),
    "after a step": lambda: (_die_before(backfill, "breathe"), _die_before(retire, "breathe")),
}


@command
def die(where: str) -> None:
    """Be killed there, from now on."""
    FAULTS[where]()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    # Whatever else prints: not into the answers.
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": COMMANDS[request["call"]](**request["with"])}
        except Exception as error:  # it goes back to the test
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
