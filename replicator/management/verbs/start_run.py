"""``manage.py replicator backfill``, ``resync`` and ``retire``: what workers do step by step."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder

from replicator import wake
from replicator.management.verbs.base import Verb, number_of
from replicator.management.verbs.run_follow import follow_to_end
from replicator.management.verbs.run_report import COMMAND
from replicator.management.verbs.steer import add_target, steer
from replicator.operating import forgetting
from replicator.operating.progress import progress_of
from replicator.operating.runs import NotStarted


class StartRun(Verb):
    """One that starts a run."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_target(parser)
        add_following(parser)

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        self.start(options, {}, out, err)

    def start(self, options: dict[str, Any], chosen: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        done = steer(self.name, options, chosen, out, err)
        if done is None:
            return
        if options["json"]:
            out.write(
                json.dumps(progress_of(done.run).as_json() if done.run else {}, cls=DjangoJSONEncoder, indent=2)
            )
            return
        if done.run is None:
            out.write(done.text)
            return
        if options["follow"]:
            err.write(f"{done.text} Ctrl-C leaves it going.", str)
        else:
            out.write(f"{done.text} Workers do it; watch: {COMMAND} --follow {done.run.pk}")
        # No message: one that has just failed is left alone, and this says so.
        if not wake.send(f"replicator.{done.run.kind}"):
            err.write("The broker can't be reached. It is recorded: the next sweep that runs will start it.")
        if options["follow"]:
            follow_to_end(done.run, out, err)


def add_following(parser: ArgumentParser) -> None:
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--follow", action="store_true", help="show how it goes, until it has ended")
    shown.add_argument("--json", action="store_true", help="the run that was started, or the plan, as a JSON object")


class Backfill(StartRun):
    name = "backfill"
    help = "record every file for a target that it should hold, and does not"
    epilog = """\
For a host that was added to the settings of a site with files, or to the "targets" of a storage. Workers record the
files in batches, and send them meanwhile; the site goes on. It may be killed, paused and started again at will.
A target that joins is active by itself when it has all: see "status".

  manage.py replicator backfill media4 --dry-run    how many files that is
  manage.py replicator backfill media4 --follow     start it, and watch
"""


class Resync(StartRun):
    name = "resync"
    help = "have every file sent again to a target that has lost what it held"
    epilog = """\
For a host whose disk was replaced or wiped. Nothing that it confirmed is believed any more: nothing is read from it
that it has not got again. To find out what is missing or wrong, and send only that, use "audit".

  manage.py replicator resync media2 --dry-run
  manage.py replicator resync media2 --why "new disk" --follow
"""


class Retire(StartRun):
    name = "retire"
    help = "take a target out for good; or a node"
    epilog = """\
Nothing is sent to the target any more, nor read from it, at once. What the ledger knows of it is removed in batches;
with --delete each file is deleted there before. Then remove it from REPLICATOR["TARGETS"]. To take it out step by
step, "drain" it first.

It is refused while the target has the only copy that is known of a file. More than a tenth of all files in one go
needs --confirm with their number, which --dry-run says.

  manage.py replicator retire media1 --dry-run
  manage.py replicator retire media1 --confirm 20000               the files stay there
  manage.py replicator retire media1 --confirm 20000 --delete      they are deleted there

A machine with a disk of its own (SHARED_MEDIA = False) that is gone for good: what waits for it is anybody's then,
and no tombstone waits for it. Wipe its disk before it ever comes back under this name.

  manage.py replicator retire --node web3
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", metavar="ALIAS", nargs="?", help='a target of REPLICATOR["TARGETS"]')
        parser.add_argument("--node", metavar="NAME", help="instead: forget a machine with a disk of its own")
        parser.add_argument("--delete", action="store_true", help="delete the files that the target holds")
        parser.add_argument("--confirm", metavar="N", default="", help="the number of files that is given up")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")
        parser.add_argument("--why", metavar="TEXT", default="", help="kept with the target, for the others")
        add_following(parser)

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        if bool(options["target"]) == bool(options["node"]):
            raise CommandError("Name a target (retire media1) or a node (retire --node web3).")
        if options["node"]:
            if options["delete"] or options["follow"] or options["json"]:
                raise CommandError("--delete, --follow and --json are for targets: a node is forgotten at once.")
            _forget(options, out)
        else:
            self.start(options, {"delete": True} if options["delete"] else {}, out, err)


def _forget(options: dict[str, Any], out: OutputWrapper) -> None:
    node = options["node"]
    try:
        plan = forgetting.plan(node)
        for sentence in plan.effect:
            out.write(sentence)
        if options["dry_run"]:
            if plan.confirm:
                out.write(f"It needs --confirm {plan.confirm}")
            out.write("A dry run: nothing was changed.")
            return
        done = forgetting.forget(node, confirm=options["confirm"])
    except NotStarted as error:
        raise CommandError(str(error)) from error
    out.write(f"{node} is forgotten: {number_of(done, 'row')} changed.")
