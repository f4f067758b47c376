"""The tables are those of the models, and beat's entries are seeded into them once."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from replicator import schedule, tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def migrated() -> None:
    """As after the first ``migrate``, whatever an earlier test's clean-up left."""
    PeriodicTask.objects.all().delete()
    IntervalSchedule.objects.all().delete()
    call_command("migrate", verbosity=0)


def test_the_migrations_are_complete() -> None:
    """``makemigrations`` finds nothing to do."""
    call_command("makemigrations", "replicator", check=True, dry_run=True, verbosity=0)


@pytest.mark.usefixtures("migrated")
def test_migrate_seeds_the_periodic_tasks() -> None:
    """Each names a task that exists, and those that waited too long are worth nothing."""
    entries = {entry.name: entry for entry in PeriodicTask.objects.filter(name__startswith="replicator.")}
    assert set(entries) == {*schedule.PERIODS, *schedule.NIGHTLY}
    for name, entry in entries.items():
        assert entry.enabled
        assert entry.task == name == getattr(tasks, name.removeprefix("replicator.")).name
        if name in schedule.NIGHTLY:
            assert (int(entry.crontab.hour), int(entry.crontab.minute)) == schedule.NIGHTLY[name]
            assert (entry.crontab.day_of_week, entry.crontab.day_of_month) == ("*", "*")
            assert 600 < entry.expire_seconds < 24 * 3600
            continue
        assert (entry.interval.every, entry.interval.period) == (schedule.PERIODS[name], "seconds")
        assert entry.expire_seconds == schedule.PERIODS[name]


@pytest.mark.usefixtures("migrated")
def test_what_people_change_stays() -> None:
    """Seeding is not overwriting: neither at the next ``migrate`` nor when it is called by hand."""
    minute = IntervalSchedule.objects.create(every=1, period="minutes")
    PeriodicTask.objects.filter(name="replicator.sweep").update(interval=minute)
    PeriodicTask.objects.filter(name="replicator.probe").update(enabled=False)
    call_command("migrate", verbosity=0)
    assert schedule.seed() == []
    assert PeriodicTask.objects.get(name="replicator.sweep").interval == minute
    assert not PeriodicTask.objects.get(name="replicator.probe").enabled
    assert PeriodicTask.objects.filter(name__startswith="replicator.").count() == len(
        [*schedule.PERIODS, *schedule.NIGHTLY]
    )


@pytest.mark.usefixtures("migrated")
def test_intervals_are_shared() -> None:
    """An entry that was deleted comes back, with the interval that is there."""
    before = IntervalSchedule.objects.count()
    PeriodicTask.objects.filter(name="replicator.sweep").delete()
    assert schedule.seed() == ["replicator.sweep"]
    assert IntervalSchedule.objects.count() == before
