"""``manage.py replicator status``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from replicator import status
from replicator.conf import queue_of
from replicator.management.verbs.base import Verb, age_of, number_of, targets_named, write_table
from replicator.management.verbs.copy_report import write_copies
from replicator.management.verbs.run_report import write_open_runs
from replicator.operating.progress import Joining
from replicator.operating.retiring import what_is_left


class Status(Verb):
    name = "status"
    help = "how each target stands, and what failed last"
    epilog = """\
  pending   writes on their way; retried by themselves
  failed    only a person can cure it: see the message, then "requeue"
  lag       age of the oldest write that is pending or failed there
  phase     of its life: joining, active, read-only, draining, retired; paused, if people have paused it

  manage.py replicator status                  the table
  manage.py replicator status --target media2  one target, with its failures
  manage.py replicator status --json           for monitors

The exit code is 1 if a replica has failed.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--target", metavar="ALIAS", action="append", default=[], help="only this; repeatable")
        parser.add_argument("--failures", metavar="N", type=int, default=5, help="how many of the newest to list (5)")
        parser.add_argument("--json", action="store_true", help="one JSON object; times in seconds or ISO 8601")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        every = status.targets()
        wanted = options["target"] and targets_named(options["target"], also=[t.target for t in every])
        targets = [t for t in every if not wanted or t.target in wanted]
        failures = status.failures([t.target for t in targets if t.failed], max(0, options["failures"]))
        try:
            storages = status.storages()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        nodes = status.nodes()
        copies, runs = status.copies(), status.runs()
        joining = status.joining(targets)
        failed = sum(t.failed for t in targets)
        if options["json"]:
            facts = {
                "targets": [{**asdict(t), "backlog": t.backlog} for t in targets],
                "storages": [asdict(storage) for storage in storages],
                "nodes": [asdict(node) for node in nodes],
                "copies": [copy.as_json() for copy in copies],
                "runs": [run.as_json() for run in runs],
                "joining": {target: asdict(progress) for target, progress in joining.items()},
                "failures": [asdict(failure) for failure in failures],
                "pending": sum(t.pending for t in targets),
                "failed": failed,
            }
            out.write(json.dumps(facts, cls=DjangoJSONEncoder, indent=2))
        else:
            _write_targets(targets, joining, out)
            write_open_runs(runs, out)
            _write_storages(storages, out)
            _write_nodes(nodes, out)
            write_copies(copies, out)
            _write_failures(failures, failed, out)
        if failed:
            raise CommandError(
                f'{number_of(failed, "replica")} failed. When the cause is cured: "manage.py replicator requeue".'
            )


def _write_targets(
    targets: Sequence[status.TargetStatus], joining: Mapping[str, Joining], out: OutputWrapper
) -> None:
    if not targets:
        out.write('REPLICATOR["TARGETS"] is empty: nothing replicates.')
        return
    now = timezone.now()
    rows = []
    for target in targets:
        success = target.last_success_at
        rows.append(
            [
                target.target,
                target.state if target.configured else "gone",
                f"{target.phase}, paused" if target.paused else target.phase or "-",
                f"{target.pending:,}",
                f"{target.failed:,}",
                age_of(target.lag) if target.oldest else "-",
                f"{age_of((now - success).total_seconds())} ago" if success else "never",
            ]
        )
    write_table(["target", "state", "phase", "pending", "failed", "lag", "last success"], rows, out, right={3, 4, 5})
    for target in targets:
        _write_phase(target, joining.get(target.target), out)
        if not target.configured:
            out.write(f'{target.target}: not in REPLICATOR["TARGETS"] any more: nothing is delivered there.')
        elif target.state == "down" and target.state_since:
            since = age_of((now - target.state_since).total_seconds())
            out.write(f"{target.target}: down for {since}: {target.reason}")
        elif target.reason:
            out.write(f"{target.target}: failed last time: {target.reason}")


def _write_phase(target: status.TargetStatus, progress: Joining | None, out: OutputWrapper) -> None:
    """What there is to say of a target that is not simply active."""
    if target.note and (target.paused or target.phase not in ("active", "joining")):
        out.write(f"{target.target}: {target.note}")
    if target.phase == "retired" and (left := what_is_left(target.target)):
        out.write(f"{target.target}: {left}")
    if progress is None or not (progress.left or progress.command):
        return
    left = f"{number_of(progress.left, 'file')} of {progress.total:,} left"
    eta = f", about {age_of(progress.eta)}" if progress.eta is not None else ""
    cure = f". Have them recorded: {progress.command}" if progress.command else ""
    out.write(f"{target.target}: joins, {100 * progress.share:.0f} %: {left}{eta}{cure}")


def _write_storages(storages: Sequence[status.StorageStatus], out: OutputWrapper) -> None:
    out.write("")
    rows = [[s.storage, s.location, ", ".join(s.targets) or "none"] for s in storages]
    if rows:
        write_table(["storage", "location", "targets"], rows, out)
    else:
        out.write("STORAGES has no ReplicatedStorage: nothing replicates.")


def _write_nodes(nodes: Sequence[status.NodeStatus], out: OutputWrapper) -> None:
    if not nodes:
        return
    now = timezone.now()
    out.write("")
    rows = []
    for node in nodes:
        seen = f"{age_of((now - node.seen_at).total_seconds())} ago" if node.seen_at else "never"
        rows.append([node.node, "gone" if node.gone else "up", f"{node.pending:,}", seen])
    write_table(["node", "state", "pending", "last seen"], rows, out, right={2})
    for node in nodes:
        if not node.seen_at:
            out.write(f"{node.node}: start workers there that take from the queue {queue_of(node.node)} (-Q).")
        if node.nowhere:
            out.write(
                f"{node.node}: {number_of(node.nowhere, 'file')} that only its disk has, and no target yet, such as "
                f"{node.example}"
            )


def _write_failures(failures: Sequence[status.Failure], failed: int, out: OutputWrapper) -> None:
    if not failures:
        return
    out.write("")
    out.write(f"The newest of {failed:,} that failed:" if failed > len(failures) else "Failed:")
    for failure in failures:
        http = f" (HTTP {failure.http_status})" if failure.http_status else ""
        out.write(f"  {failure.id}  {failure.storage}: {failure.name} at {failure.target}")
        out.write(f"      {failure.error}{http}: {failure.message}")
