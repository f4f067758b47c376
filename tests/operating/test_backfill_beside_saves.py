"""A backfill beside a site that saves: neither waits long for the other, and nothing is left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from replicator import ledger, operating
from replicator.ledger import Write, backfilling
from replicator.models import MediaFile, Replica
from replicator.operating import backfill
from replicator.operating.steering import do
from tests.ledger.sessions import Session, postgresql_only, writers_queue_up
from tests.operating.audits import Site
from tests.operating.lives import add_empty, statuses, sweep, work

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = [f"{n:02}.txt" for n in range(20)]
OLD = ["media1", "media2"]


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(settings, tmp_path, monkeypatch)
    ledger.record_new([Write("default", name, 1, "0" * 64) for name in NAMES], OLD)
    add_empty(site, "media4")
    return site


@pytest.fixture
def session() -> Iterator[Callable[[], Session]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Session())


def save(name: str, targets: list[str]) -> None:
    assert ledger.record(Write("default", name, 2, "1" * 64), targets)


@postgresql_only
def test_a_backfill_passes_over_what_a_transaction_holds_and_comes_back(
    site: Site, session: Callable[[], Session]
) -> None:
    """It never waits for the site; the file is recorded once the transaction has ended, by whoever."""
    site_session = session()
    site_session.begin()
    site_session.do(save, NAMES[3], OLD)
    run = do("backfill", "media4").run
    assert run is not None
    operating.work(run.pk)
    run.refresh_from_db()
    assert (run.state, run.trouble) == ("running", "transactions of the site have what is left")
    assert set(NAMES) - set(statuses("media4")) == {NAMES[3]}
    site_session.commit()
    assert work(run).counts == {"recorded": 20}
    assert set(statuses("media4")) == set(NAMES)


@postgresql_only
def test_a_site_never_dies_in_a_deadlock_with_a_backfill(site: Site, session: Callable[[], Session]) -> None:
    """Each has what the other wants next: the backfill takes the rest, and leaves that to the site."""
    site_session = session()
    site_session.begin()
    # Recorded for the new target, not yet committed: an INSERT of the same replica would wait for it.
    site_session.do(save, NAMES[9], [*OLD, "media4"])
    with transaction.atomic():
        ids = list(MediaFile.objects.order_by("pk").values_list("pk", flat=True))
        assert backfilling.record_lacking("media4", ["default"], 0, ids[-1]) == 19
        # The site goes on with a file that the backfill has: it waits, and for no longer than this transaction.
        waiting = site_session.start(save, NAMES[2], [*OLD, "media4"])
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
    waiting.result(timeout=60)
    site_session.commit()
    assert set(statuses("media4")) == set(NAMES)


@postgresql_only
def test_a_resync_passes_over_what_a_transaction_holds_and_comes_back(
    site: Site, session: Callable[[], Session]
) -> None:
    """A file that is just being written is sent by that; one that is rolled back must be distrusted all the same."""
    Replica.objects.at("media1").update(status="synced", version="0" * 32, since="2020-01-01T00:00Z")
    site_session = session()
    site_session.begin()
    site_session.do(save, NAMES[3], OLD)
    run = do("resync", "media1").run
    assert run is not None
    operating.work(run.pk)
    run.refresh_from_db()
    assert run.trouble == "transactions of the site have what is left"
    site_session.roll_back()
    assert work(run).state == "done"
    assert set(statuses("media1").values()) == {"pending"}
    assert not Replica.objects.at("media1").filter(version__isnull=False).exists()


@writers_queue_up
def test_saves_go_on_while_a_target_is_backfilled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 4: on every database; each batch is a short transaction."""
    for name in ("_BATCH", "_BATCH_SQLITE"):
        monkeypatch.setattr(backfill, name, 5)
    errors: list[BaseException] = []
    stop = threading.Event()
    saved: list[str] = []

    def save_on() -> None:
        try:
            while not stop.is_set():
                name = f"new/{len(saved):04}.txt"
                save(name, OLD)
                saved.append(name)
                time.sleep(0.01)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=save_on)
    thread.start()
    try:
        run = do("backfill", "media4").run
        assert run is not None
        deadline = time.monotonic() + 120
        while run.state == "running" or len(saved) < 3:
            assert time.monotonic() < deadline, (run.trouble, len(saved), errors)
            operating.work(run.pk)
            run.refresh_from_db()
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert len(saved) >= 3
    assert run.counts["recorded"] >= len(NAMES)
    # Saved by a process with old settings, all of them; what comes after the backfill is found before it is active.
    Replica.objects.at("media4").update(status="synced")
    sweep()
    assert set(statuses("media4")) == {*NAMES, *saved}
