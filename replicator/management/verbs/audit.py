"""``manage.py replicator audit``."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from replicator import operating
from replicator.ledger import database
from replicator.management.verbs.audit_report import COMMAND, write_report
from replicator.management.verbs.base import Verb, number_of, targets_named
from replicator.management.verbs.run_follow import follow
from replicator.management.verbs.run_report import trouble_of
from replicator.management.verbs.steer import who
from replicator.models import TargetRun
from replicator.operating import NotStarted, audit
from replicator.operating.audit import reporting
from replicator.operating.progress import progress_of

#: Seconds between two looks at a run that waits for its target.
_EVERY = 1.0
#: What goes to the audit as it is.
_OPTIONS = ("level", "sample", "most", "older_than", "confirm", "files_per_second", "bytes_per_second")


class Audit(Verb):
    name = "audit"
    help = "compare targets and the local disk with the ledger, and repair them"
    epilog = """\
Beat has all of them audited each night. What is missing or wrong at a target is sent again; on the local disk it is
read back from a target whose copy is known to be right. Files that the ledger does not know are reported.

  manage.py replicator audit --follow                        everything, now; workers do it
  manage.py replicator audit media1 --level content --follow read every byte back, and compare its hash
  manage.py replicator audit media1 --sample 1 --level content    of one file in a hundred
  manage.py replicator audit --local --here                  the local disk, in this process: no worker is needed
  manage.py replicator audit media1 --dry-run --follow       report only
  manage.py replicator audit --report                        what the last ones found
  manage.py replicator audit --report 12 --json              what run 12 found, with all that is known of it

The exit code is 1 if a file was found that is not as it should be, repaired or not, or if an audit was stopped; with
--follow, --here or --report, since else nothing is known yet. To pause or cancel one: "runs".
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "targets", metavar="ALIAS", nargs="*", help="targets; all, and the local disk, unless given"
        )
        parser.add_argument("--local", action="store_true", help="the local disk")
        parser.add_argument("--node", metavar="NAME", default="", help="with --local: the disk of another node")
        parser.add_argument(
            "--level", choices=("size", "content"), help="presence and size (the default), or every byte"
        )
        parser.add_argument("--sample", metavar="PERCENT", type=float, help="only so many of the files, by chance")
        parser.add_argument("--storage", metavar="ALIAS", action="append", default=[], help="only this; repeatable")
        parser.add_argument("--files-per-second", metavar="N", type=float, help="go no faster")
        parser.add_argument("--bytes-per-second", metavar="N", type=float, help="read back no faster")
        parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would be")
        parser.add_argument("--no-repair", action="store_true", help="report only; unlike a dry run it counts as one")
        parser.add_argument("--most", metavar="N", type=int, help="repair up to so many, if more than a tenth is bad")
        parser.add_argument("--delete-unknown", action="store_true", help="remove what the ledger does not know")
        parser.add_argument("--older-than", metavar="DAYS", type=float, help="of that, only what is older (1)")
        parser.add_argument("--confirm", metavar="N", type=int, help="of that, up to so many, if it is much")
        parser.add_argument("--follow", "--wait", action="store_true", help="show how it goes, and what it found")
        parser.add_argument("--here", action="store_true", help="do it in this process")
        parser.add_argument("--json", action="store_true", help="one JSON object")
        parser.add_argument(
            "--report",
            metavar="RUN",
            nargs="?",
            type=int,
            const=0,
            help="what it found; the last ones, without a number",
        )

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        if options["report"] is not None:
            _report(_reported(options), out, as_json=options["json"])
            return
        started, refused = _begin(options)
        for reason in refused:
            err.write(reason)
        if options["here"] or options["follow"]:
            for run in started:
                _work(run, err) if options["here"] else follow(run, err)
            _report([_again(run) for run in started], out, as_json=options["json"])
        elif options["json"]:
            out.write(json.dumps({"runs": [progress_of(run).as_json() for run in started]}, cls=DjangoJSONEncoder))
        else:
            for run in started:
                out.write(f"Started {run}. What it finds: {COMMAND} --report {run.pk}")
        if refused:
            raise CommandError(f"{number_of(len(refused), 'audit')} could not be started: see above.")


def _begin(options: dict[str, Any]) -> tuple[list[TargetRun], list[str]]:
    """The audits that were started, and why others were not."""
    if options["node"] and options["targets"] and not options["local"]:
        raise CommandError("--node is about a local disk, and only targets are named: add --local, or leave it out.")
    chosen = {name: options[name] for name in _OPTIONS if options[name] is not None}
    chosen["repair"] = not options["no_repair"]
    chosen["delete_unknown"] = options["delete_unknown"]
    if options["storage"]:
        chosen["storages"] = options["storage"]
    everything = not options["targets"] and not options["local"]
    places = targets_named(options["targets"]) if options["targets"] or everything else []
    if options["local"] or (everything and not options["delete_unknown"]):
        places.append("")
    started, refused = [], []
    for place in places:
        try:
            node = "" if place else options["node"]
            started.append(audit.begin(place, chosen, dry_run=options["dry_run"], who=who(), node=node))
        except (NotStarted, ImproperlyConfigured) as error:
            refused.append(f"{place or 'local disk'}: {error}")
    if refused and not started:
        raise CommandError("\n".join(refused))
    return started, refused


def _work(run: TargetRun, err: OutputWrapper) -> None:
    """Do *run* here. A worker that took it first goes on with it."""
    said = ""
    while True:
        operating.work(run.pk)
        run = _again(run)
        if run.state != TargetRun.State.RUNNING:
            return
        if run.lease_until and run.lease_until > timezone.now():
            follow(run, err)
            return
        if run.trouble and run.trouble != said:
            said = run.trouble
            err.write(f"{run}: {trouble_of(progress_of(run))}", str)
        if run.due_at > timezone.now():
            time.sleep(_EVERY)


def _again(run: TargetRun) -> TargetRun:
    return TargetRun.objects.using(database.alias()).defer("seen").get(pk=run.pk)


def _reported(options: dict[str, Any]) -> list[TargetRun]:
    number = options["report"]
    audits = TargetRun.objects.using(database.alias()).filter(kind=TargetRun.Kind.AUDIT).defer("seen")
    if number:
        found = list(audits.filter(pk=number))
    else:
        places = [*options["targets"], *([""] if options["local"] else [])]
        found = reporting.last_of(places or None)
    if not found:
        last = ", ".join(str(pk) for pk in audits.order_by("-pk").values_list("pk", flat=True)[:5])
        what = f"There is no audit {number}." if number else "There was no such audit yet."
        raise CommandError(f"{what} {f'The last ones: {last}.' if last else f'Start one: {COMMAND}'}")
    return found


def _report(runs: Sequence[TargetRun], out: OutputWrapper, *, as_json: bool) -> None:
    """Raises ``CommandError`` if something was found."""
    if as_json:
        facts = {"runs": [reporting.as_json(run) for run in runs], "found": sum(map(reporting.found_by, runs))}
        out.write(json.dumps(facts, cls=DjangoJSONEncoder, indent=2))
    else:
        write_report(runs, out)
    found = sum(map(reporting.found_by, runs))
    stopped = [run for run in runs if run.state == TargetRun.State.STOPPED]
    if found or stopped:
        parts = [f"{number_of(found, 'file')} found that should not be so"] if found else []
        parts += [f"{run} was stopped" for run in stopped]
        raise CommandError(f"{'; '.join(parts)}.")
