"""What may be written behind ``copy-media``, and what not together."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from replicator.conf import config
from replicator.ledger import database
from replicator.models import CopyRun
from replicator.staging import Choices
from replicator.staging.choices import parse_filter, parse_only, parse_sample, parse_since, parse_size

#: Of these one may be written, with --run.
_ACTIONS = ("pause", "resume", "cancel", "requeue")
#: These say what a new copy takes, and how.
_CHOICES = (
    *("only", "filter", "since", "sample", "max_size", "checksum", "all"),
    *("newest_first", "overwrite_newer", "require_read_only", "dry_run"),
)


def add_arguments(parser: ArgumentParser) -> None:
    new = parser.add_argument_group("a new copy")
    new.add_argument("--from", metavar="ALIAS", dest="source", help="the live site's files, in STORAGES")
    new.add_argument(
        "--only",
        metavar="LABEL",
        action="append",
        default=[],
        help="app, app.Model or app.Model.field; repeatable",
    )
    new.add_argument(
        "--filter",
        metavar="MODEL:LOOKUP=VALUE",
        action="append",
        default=[],
        help="rows that fit, in Django's look-up syntax; repeatable: all of a model's have to",
    )
    new.add_argument("--since", metavar="WHEN", help="files modified since: 2026-01-01, or 12h, 30d, 2w ago")
    new.add_argument("--sample", metavar="PERCENT", help="some rows of each model, the same each time: 5%%")
    new.add_argument("--max-size", metavar="SIZE", help="no larger files: 500 KiB, 20M, 1.5 GiB")
    new.add_argument(
        "--checksum", action="store_true", help="copy what has another checksum, where the source knows one"
    )
    new.add_argument("--all", action="store_true", help="copy also what is here with the same size")
    new.add_argument("--newest-first", action="store_true", help="rows in falling order of their primary keys")
    new.add_argument("--overwrite-newer", action="store_true", help="also what is newer here")
    new.add_argument("--require-read-only", action="store_true", help="refuse a source that takes writes from here")
    new.add_argument("--dry-run", action="store_true", help="count, copy nothing; follows")
    old = parser.add_argument_group("a copy that there is")
    old.add_argument("--run", metavar="N", type=int, help="which; the list has the numbers")
    old.add_argument("--pause", action="store_true", help="stop until it is resumed")
    old.add_argument("--resume", action="store_true", help="go on, at once")
    old.add_argument("--cancel", action="store_true", help="end it for good; what is copied stays")
    old.add_argument("--requeue", action="store_true", help="try again what failed or was missing")
    old.add_argument("--failures", metavar="N", type=int, default=5, help="how many of the last to list (5)")
    parser.add_argument("--follow", action="store_true", help="watch it until it has ended")
    parser.add_argument("--json", action="store_true", help="one JSON object; times in seconds or ISO 8601")


def action_of(options: dict[str, Any]) -> str:
    """That of --pause and so on that was written; empty: none."""
    return next((name for name in _ACTIONS if options[name]), "")


def refuse_what_contradicts(options: dict[str, Any]) -> None:
    choices = [_flag(name) for name in _CHOICES if options[name]]
    actions = [_flag(name) for name in _ACTIONS if options[name]]
    if len(actions) > 1:
        raise CommandError(f"{' and '.join(actions)} at once: write one of them.")
    if options["source"] is not None and options["run"] is not None:
        raise CommandError("--from starts a copy, and --run names one that there is: write one of them.")
    if options["run"] is not None and choices:
        raise CommandError(
            f"{choices[0]} is for a new copy: what copy {options['run']} takes was said when it began."
        )
    if actions and options["run"] is None:
        raise CommandError(f"{actions[0]}: which copy? Write --run {_under_way() or 'N'} {actions[0]}")
    if options["source"] is None and choices:
        raise CommandError(
            f"{choices[0]} is for a new copy: from where? Write --from {source_to_write()} {choices[0]} …"
        )
    if options["source"] is None and options["run"] is None and options["follow"]:
        raise CommandError(
            f"--follow: which copy? Write --run {_under_way() or 'N'} --follow, or --from {source_to_write()}."
        )
    if options["source"] is not None and not options["source"]:
        raise CommandError(f"--from names nothing. Write --from {source_to_write()}.")
    if options["checksum"] and options["all"]:
        raise CommandError("--checksum passes over what is here already, and --all does not: write one of them.")
    if options["follow"] and (options["pause"] or options["cancel"]):
        raise CommandError(f"{actions[0]} stops the copy: there is nothing to follow. Leave --follow out.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def source_to_write() -> str:
    """What to write behind --from."""
    staging_conf = config().staging
    return staging_conf.source if staging_conf else "live"


def _under_way() -> int | None:
    runs = CopyRun.objects.using(database.alias()).filter(state__in=[CopyRun.State.RUNNING, CopyRun.State.PAUSED])
    return runs.order_by("-pk").values_list("pk", flat=True).first()


def choices_of(options: dict[str, Any]) -> Choices:
    only = tuple(parse_only(text) for text in options["only"])
    since, sample, max_size = options["since"], options["sample"], options["max_size"]
    return Choices(
        only=only,
        filters=tuple(parse_filter(text, only) for text in options["filter"]),
        since=None if since is None else parse_since(since),
        sample=None if sample is None else parse_sample(sample),
        max_size=None if max_size is None else parse_size(max_size),
        compare="checksum" if options["checksum"] else "nothing" if options["all"] else "size",
        newest_first=options["newest_first"],
        dry_run=options["dry_run"],
        overwrite_newer=options["overwrite_newer"],
        require_read_only=options["require_read_only"],
    )
