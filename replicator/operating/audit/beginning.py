"""Starting an audit: what must be so, and what it will do, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from replicator.conf import config, nearest
from replicator.errors import DeliveryError
from replicator.ledger import backfilling, life, nodes
from replicator.models import TargetRun, TargetState
from replicator.operating import runs
from replicator.operating.audit.local import files_here, kept_here
from replicator.operating.audit.options import CONTENT, Options
from replicator.operating.places import storages_at
from replicator.operating.runs import NotStarted
from replicator.storage.elder import ElderFiles
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target

Phase = TargetState.Phase


def begin(
    target: str, options: Mapping[str, Any], *, dry_run: bool = False, who: str = "", node: str = ""
) -> TargetRun:
    """Start an audit of *target*; of the local disk if it is empty: that of *node*, or of all where they share one.

    *options*: as ``Options``. Raises ``NotStarted`` with what to do instead.
    """
    wanted = Options.of(options)
    if target:
        _check_target(target, wanted)
    else:
        node = _disk(node)
        _local_storages(wanted)
    return runs.start(
        TargetRun.Kind.AUDIT,
        target,
        options=wanted.as_json(),
        dry_run=dry_run,
        who=who,
        node="" if target else node,
    )


def effect(target: str, options: Mapping[str, Any], *, dry_run: bool = False) -> list[str]:
    """What an audit will do, in sentences. Raises ``NotStarted`` as ``begin`` does."""
    wanted = Options.of(options)
    if target:
        storages = _check_target(target, wanted)
        count = backfilling.living([storage.alias for storage in storages]).count()
        place = target
    else:
        storages = _local_storages(wanted)
        count = files_here(storages).count()
        place = "the local disk"
    share = f"{wanted.sample:g} % of {count:,} files, chosen by chance, are" if wanted.is_sample else _files(count)
    how = "read, every byte, and compared with" if wanted.level == CONTENT else "compared, by presence and size, with"
    said = [f"{share} {how} what the ledger says of {place}."]
    if dry_run or not wanted.repair:
        said.append("What is missing or wrong is reported. Nothing is changed.")
    elif target:
        said.append("What is missing or wrong there is sent again.")
    else:
        said.append("What is missing or wrong there is read back from a target that has it.")
    if target and not wanted.is_sample:
        removes = wanted.delete_unknown and wanted.repair and not dry_run
        said.append(
            f"Files there that are unknown to the ledger, and older than {wanted.older_than:g} days, are removed."
            if removes
            else "Files there that are unknown to the ledger are reported, and stay."
        )
    return said


def nightly(options: Mapping[str, Any]) -> dict[str, str]:
    """Start audits of every target that can be asked, and of the local disk; what became of each."""
    states = {state.target: state for state in life.states()}
    unreadable = life.unreadable()
    done: dict[str, str] = {}
    for target in config().targets:
        state = states.get(target)
        if target in unreadable:
            done[target] = "not started: it is " + ("paused" if state and state.paused else "down or retired")
        else:
            done[target] = _begun(target, options)
    for node in _disks():
        place = f"the disk of {node}" if node else "the local disk"
        is_gone = node and node != config().deliverer and nodes.is_gone(node)
        done[place] = "not started: its workers are gone" if is_gone else _begun("", options, node)
    return done


def _begun(target: str, options: Mapping[str, Any], node: str = "") -> str:
    try:
        return f"run {begin(target, options, who='beat', node=node).pk}"
    except (NotStarted, ImproperlyConfigured) as error:
        return f"not started: {error}"


def _check_target(target: str, wanted: Options) -> list[ReplicatedStorage]:
    """Its storages, those that are wanted."""
    if target not in config().targets:
        raise NotStarted(f'REPLICATOR["TARGETS"] has no {target!r}. {nearest(target, list(config().targets))}')
    state = life.states().filter(pk=target).first()
    phase = state.phase if state else Phase.ACTIVE
    if phase == Phase.RETIRED:
        raise NotStarted(f"{target} is retired: there is nothing that it should hold.")
    if state and state.paused:
        raise NotStarted(f"{target} is paused: nothing is asked of it. First: manage.py replicator resume {target}")
    if state and state.state == TargetState.State.DOWN:
        raise NotStarted(f"{target} is down ({state.reason}): audit it when it is up again.")
    storages = _chosen(storages_at(target), wanted, f"the target {target!r}")
    if wanted.delete_unknown:
        _check_removing(target, phase, storages)
    return storages


def _check_removing(target: str, phase: str, storages: list[ReplicatedStorage]) -> None:
    if phase not in (Phase.ACTIVE, Phase.JOINING):
        raise NotStarted(f"{target} is {phase}: nothing is removed there. Audit it without removing what is unknown.")
    if not config().shared_media:
        raise NotStarted(
            "Each node has a disk of its own, which may have files that were never recorded: what is unknown is not "
            "removed. Have them recorded (manage.py replicator adopt, on each node), and remove the rest by hand."
        )
    for storage in storages:
        if isinstance(storage, ElderFiles) and storage._may_have_elder:
            raise NotStarted(
                f"The storage {storage.alias!r} also reads files that the ledger has never heard of: they are not "
                f"removed. Have them recorded: manage.py replicator adopt --storage {storage.alias} --from {target}"
            )
    try:
        can_list = get_target(target).can_list()
    except DeliveryError as error:
        raise NotStarted(f"{target} does not say whether it can list what it holds: {error}") from error
    if not can_list:
        raise NotStarted(f"{target} can't list what it holds, so what is unknown there does not show.")


def _local_storages(wanted: Options) -> list[ReplicatedStorage]:
    if wanted.delete_unknown:
        raise NotStarted("Nothing is ever removed from the local disk by an audit: leave out delete_unknown.")
    return _chosen(kept_here(), wanted, "a local copy")


def _chosen(storages: list[ReplicatedStorage], wanted: Options, what: str) -> list[ReplicatedStorage]:
    known = [storage.alias for storage in storages]
    if not known:
        raise NotStarted(f"No storage has {what}: there is nothing to compare.")
    for alias in wanted.storages:
        if alias not in known:
            raise NotStarted(f"No storage {alias!r} has {what}. {nearest(alias, known)}")
    return [storage for storage in storages if not wanted.storages or storage.alias in wanted.storages]


def _disk(node: str) -> str:
    """The node whose disk is meant."""
    own = config().deliverer
    if not own:
        if node:
            raise NotStarted(f"All nodes share one disk: audit it without naming {node!r}.")
        return ""
    if node and node not in _disks():
        raise NotStarted(f"No workers of a node {node!r} were ever seen. {nearest(node, _disks())}")
    return node or own


def _disks() -> list[str]:
    """The nodes that have a disk of their own; one without a name, if they share it."""
    own = config().deliverer
    return sorted({own, *nodes.known()}) if own else [""]


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"
