"""``manage.py replicator runs``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder

from replicator import operating
from replicator.ledger import database
from replicator.management.verbs.base import Verb, targets_named
from replicator.management.verbs.run_follow import follow_to_end
from replicator.management.verbs.run_report import COMMAND, write_runs
from replicator.models import TargetRun
from replicator.operating.progress import progress_of

#: Runs that ended, and are listed: all that are kept.
_MOST = 1_000_000


class Runs(Verb):
    name = "runs"
    help = "backfills, resyncs, retirements and audits: how far they are, and to pause or end them"
    epilog = """\
  manage.py replicator runs                 those under way, and the last that ended
  manage.py replicator runs --follow 7      watch one
  manage.py replicator runs --pause 7       workers stop within seconds
  manage.py replicator runs --resume 7      it goes on where it was; at once, if it waits for a target in trouble
  manage.py replicator runs --cancel 7      for good; what it did stays
  manage.py replicator runs --json          for monitors
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        action = parser.add_mutually_exclusive_group()
        for name, what in (("pause", "stop it for now"), ("resume", "go on with it, now"), ("cancel", "end it")):
            action.add_argument(f"--{name}", metavar="ID", type=int, help=what)
        action.add_argument("--follow", metavar="ID", type=int, help="show how it goes, until it has ended")
        parser.add_argument("--target", metavar="ALIAS", help="only those at this target")
        parser.add_argument("--ended", metavar="N", type=int, default=5, help="how many that ended to list (5)")
        parser.add_argument("--json", action="store_true", help="a JSON list; times in seconds or ISO 8601")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        for name, act in (("pause", _pause), ("resume", _resume), ("cancel", _cancel)):
            if options[name] is not None:
                out.write(act(_named(options[name])))
                return
        if options["follow"] is not None:
            follow_to_end(_named(options["follow"]), out, err)
            return
        rows = TargetRun.objects.using(database.alias()).defer("seen").order_by("-pk")
        if options["target"]:
            (target,) = targets_named([options["target"]], also=set(rows.order_by().values_list("target", flat=True)))
            rows = rows.filter(target=target)
        under_way = list(rows.filter(state__in=TargetRun.OPEN))
        ended = list(rows.exclude(state__in=TargetRun.OPEN)[: max(0, min(options["ended"], _MOST))])
        found = [progress_of(run) for run in under_way + ended]
        if options["json"]:
            out.write(json.dumps([run.as_json() for run in found], cls=DjangoJSONEncoder, indent=2))
        elif found:
            write_runs(found, out)
        else:
            out.write("There is none. See: manage.py replicator backfill --help, resync, retire, audit")


def _named(number: int) -> TargetRun:
    runs = TargetRun.objects.using(database.alias()).defer("seen")
    run = runs.filter(pk=number).first()
    if run is None:
        known = ", ".join(map(str, runs.order_by("-pk").values_list("pk", flat=True)[:5]))
        raise CommandError(
            f"There is no run {number}. {f'The last ones: {known}.' if known else 'There was none yet.'}"
        )
    return run


def _pause(run: TargetRun) -> str:
    if operating.pause(run):
        return f"Paused {run}. It goes on with: {COMMAND} --resume {run.pk}"
    return _not_so(run)


def _resume(run: TargetRun) -> str:
    paused = run.state == TargetRun.State.PAUSED
    if operating.resume(run):
        return f"The {run} goes on{'' if paused else ' now'}; watch: {COMMAND} --follow {run.pk}"
    return _not_so(run)


def _cancel(run: TargetRun) -> str:
    if operating.cancel(run):
        return f"Cancelled {run}. What it did stays."
    return _not_so(run)


def _not_so(run: TargetRun) -> str:
    reason = f": {run.reason}" if run.reason else "."
    return f"Nothing to do: the {run} is {run.state}{reason}"
