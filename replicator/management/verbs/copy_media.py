"""``manage.py replicator copy-media``."""

from __future__ import annotations

import getpass
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.db import InterfaceError, OperationalError

from replicator import staging
from replicator.ledger import database
from replicator.management.verbs.base import Verb, number_of
from replicator.management.verbs.copy_actions import act, run_named, tell_if_nobody_was_woken
from replicator.management.verbs.copy_follow import follow
from replicator.management.verbs.copy_options import (
    action_of,
    add_arguments,
    choices_of,
    refuse_what_contradicts,
    source_to_write,
)
from replicator.management.verbs.copy_report import (
    COMMAND,
    command_for,
    failure_as_json,
    failures_of,
    write_failures,
    write_run,
    write_runs,
)
from replicator.models import CopyRun
from replicator.staging.marked import check_marked
from replicator.staging.progress import Progress

State = CopyRun.State

#: How many runs the list has.
_LAST = 20


class CopyMedia(Verb):
    name = "copy-media"
    help = "copy the live site's media to this one, which is for staging"
    epilog = """\
Workers copy every file that a row of this site's database names, under its name, into the storage of its field. What
is here already with the same size is passed over, what is newer here is left alone, nothing is ever deleted. Only a
site whose settings have REPLICATOR["STAGING"] takes copies.

  manage.py replicator copy-media                        the copies that there were, and those under way
  manage.py replicator copy-media --from live --dry-run  count files and bytes, copy nothing
  manage.py replicator copy-media --from live --follow   copy all that is missing, and watch
  manage.py replicator copy-media --from live --only blog --only shop.Product.image
  manage.py replicator copy-media --from live --filter blog.Post:created__gte=2026-01-01
  manage.py replicator copy-media --from live --since 30d --sample 5% --max-size 20M

Once it is begun, workers do it, whatever becomes of this command:

  manage.py replicator copy-media --run 3                how it stands, and what could not be copied
  manage.py replicator copy-media --run 3 --follow       watch it; Ctrl-C leaves it going
  manage.py replicator copy-media --run 3 --pause        and --resume, --cancel
  manage.py replicator copy-media --run 3 --requeue      try again what failed or was missing

With --follow (and --dry-run, which follows too) the exit code is 0 when all is copied but what is missing at the
source, 1 if files failed for good, a model could not be read or the copy was cancelled, 130 after Ctrl-C.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_arguments(parser)

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        refuse_what_contradicts(options)
        try:
            if options["source"]:
                run = _start(options, out, err)
            elif options["run"] is not None:
                run = run_named(options["run"])
                act(run, options, out, err)
            else:
                _list(options, out)
                return
        except KeyboardInterrupt:
            err.write(f"Interrupted. A copy that was begun goes on; see which: {COMMAND}", str)
            sys.exit(130)
        follows = options["follow"] or options["dry_run"]
        progress = _follow(run, err) if follows else staging.progress_of(run)
        if options["json"]:
            failures = map(failure_as_json, failures_of(run, max(0, options["failures"])))
            out.write(json.dumps({**progress.as_json(), "failures": [*failures]}, cls=DjangoJSONEncoder, indent=2))
        elif follows or not (options["source"] or action_of(options)):
            write_run(progress, out)
            write_failures(progress, failures_of(run, max(0, options["failures"])), out)
            _write_what_next(progress, out)
        if follows:
            _end(progress)


def _start(options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> CopyRun:
    try:
        run = staging.start(options["source"], choices_of(options), _who())
    except (staging.NotCopied, ImproperlyConfigured) as error:
        raise CommandError(f"Nothing was started: {error}") from error
    follows = options["follow"] or options["dry_run"]
    if not options["json"] and not follows:
        out.write(f"Started copy {run.pk} from {run.source}. Workers do it; watch: {command_for(run.pk, '--follow')}")
        out.write(" ".join(staging.progress_of(run).words))
    elif follows:
        err.write(f"Started copy {run.pk} from {run.source}. Ctrl-C leaves it going.", str)
    tell_if_nobody_was_woken(err)
    return run


def _who() -> str:
    """The user of the operating system."""
    # In a container there may be a number without a name.
    with suppress(ImportError, KeyError, OSError):
        return getpass.getuser()
    return ""


def _list(options: dict[str, Any], out: OutputWrapper) -> None:
    """The last runs, and how to start one."""
    rows = CopyRun.objects.using(database.alias()).order_by("-pk").prefetch_related("parts")
    runs = [staging.progress_of(run) for run in rows[:_LAST]]
    if options["json"]:
        out.write(json.dumps({"runs": [run.as_json() for run in runs]}, cls=DjangoJSONEncoder, indent=2))
        return
    if runs:
        write_runs(runs, out)
        out.write("")
        out.write(f"One of them: {COMMAND} --run {runs[0].id}")
    else:
        out.write("Nothing was ever copied to this site.")
    try:
        check_marked(source_to_write())
    except staging.NotCopied as error:
        out.write(f"Nothing can be copied: {error}")
    else:
        out.write(f"Start one: {COMMAND} --from {source_to_write()} --follow")


def _follow(run: CopyRun, err: OutputWrapper) -> Progress:
    with _leaving_it_going(run, err):
        return follow(run, err)


@contextmanager
def _leaving_it_going(run: CopyRun, err: OutputWrapper) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        err.write(f"Interrupted. Copy {run.pk} goes on. Watch it again: {command_for(run.pk, '--follow')}", str)
        err.write(f"Stop it: {command_for(run.pk, '--pause')}, or for good: {command_for(run.pk, '--cancel')}", str)
        sys.exit(130)
    except (OperationalError, InterfaceError) as error:
        raise CommandError(
            f"The database does not answer: {str(error).strip()}. Copy {run.pk} goes on as soon as it does. Watch it "
            f"again: {command_for(run.pk, '--follow')}"
        ) from error


def _write_what_next(run: Progress, out: OutputWrapper) -> None:
    if run.state == State.RUNNING:
        out.write(f"Watch it: {command_for(run.id, '--follow')}; stop it with --pause, for good with --cancel.")
    elif run.state == State.PAUSED:
        out.write(f"It goes on with: {command_for(run.id, '--resume')}")


def _end(run: Progress) -> None:
    """Raise ``CommandError`` if a copy that has ended did not end well."""
    if run.state == State.CANCELLED:
        raise CommandError(f"Copy {run.id} was cancelled. What was copied stays.")
    if count := run.counts["failed"]:
        raise CommandError(
            f"{number_of(count, 'file')} failed, as said above. When the cause is cured: "
            f"{command_for(run.id, '--requeue', '--follow')}"
        )
    models = [model.model for model in run.models if model.trouble]
    if models:
        raise CommandError(f"{', '.join(models)} could not be read, as said above: cure that and start another copy.")
