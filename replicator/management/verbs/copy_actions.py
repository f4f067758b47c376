"""What people do with a copy that there is."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from replicator import staging, wake
from replicator.ledger import database
from replicator.management.verbs.base import number_of
from replicator.management.verbs.copy_options import action_of
from replicator.management.verbs.copy_report import COMMAND, command_for
from replicator.models import CopyFailure, CopyRun
from replicator.staging.planning import COPY_MEDIA

State = CopyRun.State


def run_named(number: int) -> CopyRun:
    runs = CopyRun.objects.using(database.alias())
    run = runs.filter(pk=number).first()
    if run is None:
        known = ", ".join(map(str, runs.order_by("-pk").values_list("pk", flat=True)[:5]))
        raise CommandError(
            f"There is no copy {number}. {f'The last ones: {known}.' if known else 'There was none yet.'}"
        )
    return run


def act(run: CopyRun, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
    """Pause it, and so on; raises ``CommandError`` for one with which that can't be done."""
    action = action_of(options)
    if not action:
        return
    if run.state == State.CANCELLED and action != "cancel":
        raise CommandError(
            f"Copy {run.pk} was cancelled for good. Start a new one, which passes over what is here: "
            f"{COMMAND} --from {run.source}"
        )
    if run.state == State.DONE and action in ("pause", "resume", "cancel"):
        raise CommandError(
            f"Copy {run.pk} is done: there is nothing to {action}. What failed is tried again with "
            f"{command_for(run.pk, '--requeue')}"
        )
    said = {"pause": _pause, "resume": _resume, "cancel": _cancel, "requeue": _requeue}[action](run)
    if not options["json"]:
        out.write(said)
    if action in ("resume", "requeue"):
        tell_if_nobody_was_woken(err)


def _pause(run: CopyRun) -> str:
    if staging.pause(run):
        return f"Paused copy {run.pk}. It goes on with: {command_for(run.pk, '--resume')}"
    return f"Copy {run.pk} is {run.state} already."


def _resume(run: CopyRun) -> str:
    paused = run.state == State.PAUSED
    if staging.resume(run):
        return f"Copy {run.pk} goes on{' now' if not paused else ''}; watch: {command_for(run.pk, '--follow')}"
    return f"Copy {run.pk} is {run.state} already."


def _cancel(run: CopyRun) -> str:
    if staging.cancel(run):
        return f"Cancelled copy {run.pk}. What is copied stays."
    return f"Copy {run.pk} is {run.state} already."


def _requeue(run: CopyRun) -> str:
    count = staging.requeue(CopyFailure.objects.using(database.alias()).filter(run=run))
    run.refresh_from_db()
    if not count:
        return f"Nothing to do: no file of copy {run.pk} has failed, and none was missing."
    waits = f" It is paused: {command_for(run.pk, '--resume')}" if run.state == State.PAUSED else ""
    return f"Requeued {number_of(count, 'file')} of copy {run.pk}.{waits}"


def tell_if_nobody_was_woken(err: OutputWrapper) -> None:
    # No message: one that has just failed is left alone, and this says so.
    if not wake.send(COPY_MEDIA):
        err.write("The broker can't be reached. The copy is recorded: the next sweep that runs will start it.")
