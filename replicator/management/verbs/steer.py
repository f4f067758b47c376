"""``manage.py replicator pause``, ``resume``, ``read-only``, ``activate`` and ``drain``: what is done at once."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper

from replicator.management.verbs.base import Verb
from replicator.operating import steering
from replicator.operating.steering import Done, NotStarted


class Steer(Verb):
    """One of ``steering.VERBS``."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_target(parser)

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        done = steer(self.name, options, {}, out, err)
        if done is not None:
            out.write(done.text)


def add_target(parser: ArgumentParser) -> None:
    parser.add_argument("target", metavar="ALIAS", help='a target of REPLICATOR["TARGETS"]')
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")
    parser.add_argument("--why", metavar="TEXT", default="", help="kept with the target, for the others")


def steer(
    verb: str, options: Mapping[str, Any], chosen: Mapping[str, Any], out: OutputWrapper, err: OutputWrapper
) -> Done | None:
    """What was done; None for a dry run, whose effect is written. Raises ``CommandError`` with what to do instead."""
    try:
        if options["dry_run"]:
            plan = steering.plan(verb, options["target"], chosen)
            if options.get("json"):
                out.write(json.dumps(asdict(plan), indent=2))
                return None
            for sentence in plan.effect:
                out.write(sentence)
            if plan.confirm:
                out.write(f"It needs --confirm {plan.confirm}")
            out.write("A dry run: nothing was changed.")
            return None
        return steering.do(
            verb,
            options["target"],
            options=chosen,
            confirm=options.get("confirm") or "",
            who=who(),
            why=options["why"],
        )
    except (NotStarted, ImproperlyConfigured) as error:
        raise CommandError(str(error)) from error


def who() -> str:
    """The user of the operating system."""
    # In a container there may be a number without a name.
    with suppress(ImportError, KeyError, OSError):
        return getpass.getuser()
    return ""


class Pause(Steer):
    name = "pause"
    help = "send nothing to a target, and ask nothing of it, until it is resumed"
    epilog = """\
For a host that is being worked on. New files are recorded for it and wait; none is lost. Workers notice within a few
seconds; what they are just sending arrives.

  manage.py replicator pause media1 --why "new disk"
  manage.py replicator resume media1                  it gets all that waits
"""


class Resume(Steer):
    name = "resume"
    help = "go on with a target that was paused"
    epilog = """\
All that waits is due at once, and workers are woken.

  manage.py replicator resume media1
"""


class ReadOnly(Steer):
    name = "read-only"
    help = "send nothing to a target, but go on reading from it"
    epilog = """\
For a host whose disk is full, or is being copied. New files, overwrites and deletes are recorded and wait.

  manage.py replicator read-only media1 --why "disk full"
  manage.py replicator activate media1                it gets all that waits
"""


class Activate(Steer):
    name = "activate"
    help = "have a target hold everything again that was read-only, drained or retired"
    epilog = """\
  it was     what happens
  read-only  what waits is sent, and it is active
  draining   the files that are new since are recorded for it and sent; then it is active
  retired    everything is sent to it; then it is active. Files that were deleted while it was retired may still be
             there: "audit" finds them

  manage.py replicator activate media1
  manage.py replicator activate media1 --dry-run      how many files that is
"""


class Drain(Steer):
    name = "drain"
    help = "record no new files for a target any more"
    epilog = """\
The first step to take a host out: it gets no new files, but overwrites and deletes of those that it has, so that what
it shows is right for as long as it is asked. Local files are not removed for its sake any more. Then "retire" it; or
"activate" it, which makes up for what it missed.

  manage.py replicator drain media1 --why "contract ends"
"""
