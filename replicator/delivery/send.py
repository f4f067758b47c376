"""One claim, carried out: PUT or DELETE. No database here: this runs in the sending threads."""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import InvalidStorageError, Storage, storages

from replicator.delivery.content import CheckedContent, Elsewhere
from replicator.errors import DeliveryError, LeaseEnded, LocalChanged, LocalMissing, Refused, Unexpected
from replicator.ledger import Claim, Outcome
from replicator.local import kept
from replicator.targets import get_target
from replicator.targets.base import Target, TargetFile, safe_name, url_path
from replicator.targets.http import PIECE
from replicator.targets.throttle import seconds_waited

log = logging.getLogger(__name__)

_prefix = lru_cache(maxsize=64)(url_path)


def send(target: Target, claim: Claim) -> Outcome:
    """Make *target* hold what *claim* says; what became of it. Never raises."""
    if not claim.live():
        return Outcome(claim, LeaseEnded("the lease ended before its turn came"), sent=False)
    start = _clock()
    try:
        storage = _storage(claim)
        file = _target_file(storage, claim)
        if claim.deleted:
            target.delete(file)
        elif not (target.has_classes and claim.confirmed and target.reclass(file)):
            _put(target, file, storage, claim)
    except DeliveryError as error:
        log.info("delivery failed", extra={**claim.facts, "error": error.kind, "reason": str(error)})
        return Outcome(claim, error, seconds=_clock() - start)
    except Exception as error:  # one target's defect must not end the run for the other files
        # The message stays out: it may hold a URL with a password. Where it happened is enough to find it.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
        log.error("target raised what it should not", extra={**claim.facts, "where": where})  # noqa: TRY400
        seconds = _clock() - start
        return Outcome(claim, Unexpected(f"a defect in the target's code: {where}"), seconds=seconds)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("deleted" if claim.deleted else "delivered", extra=claim.facts)
    return Outcome(claim, bytes=0 if claim.deleted else claim.size, seconds=_clock() - start)


def _clock() -> float:
    """The time that goes by while a target is not what holds up: who keeps to a bandwidth is not slow."""
    return time.monotonic() - seconds_waited()


def _put(target: Target, file: TargetFile, storage: Storage, claim: Claim) -> None:
    try:
        path = storage.path(claim.name)
    except (SuspiciousFileOperation, ValueError) as error:
        raise Refused(f"{claim.name!r} leaves its storage") from error
    try:
        _put_local(target, file, path, claim)
    except LocalChanged as error:
        if not _put_otherwise(target, file, path, claim, missing=isinstance(error, LocalMissing)):
            raise


def _put_local(target: Target, file: TargetFile, path: str, claim: Claim) -> None:
    try:
        local = open(path, "rb")  # noqa: PTH123, SIM115  # Path.open costs more, for each file
    except OSError as error:
        raise LocalMissing(f"the local file can't be read: {error.strerror}") from error
    with local:
        target.put(file, CheckedContent(local, claim, target.throttle))


def _put_otherwise(target: Target, file: TargetFile, path: str, claim: Claim, *, missing: bool) -> bool:
    """Put what is not at its local place, or is something else there. Whether it could be done."""
    try:
        # What this version's write put there may be kept beside it: see ``replicator.local``.
        _put_local(target, file, kept(path, claim.version), claim)
    except LocalChanged:
        pass
    else:
        return True
    if not claim.sources:
        return missing and _is_there(target, file, claim)
    reasons: list[str] = []
    for alias in claim.sources:
        try:
            with closing(Elsewhere(get_target(alias), file)) as content:
                target.put(file, CheckedContent(content, claim, target.throttle))
        except LocalChanged as error:
            reasons.append(str(error) if isinstance(error, LocalMissing) else f"{alias}: {error}")
        else:
            return True
    raise LocalMissing("; ".join(reasons))


def _is_there(target: Target, file: TargetFile, claim: Claim) -> bool:
    """Whether the target has exactly these bytes, read back: a doubt can be settled without the local file."""
    digest = hashlib.sha256()
    try:
        with target.open(file) as reader:
            while data := reader.read(target.throttle.at_most(PIECE)):
                target.throttle.take(len(data))
                digest.update(data)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == claim.sha256 and (not target.has_classes or target.reclass(file))


def _storage(claim: Claim) -> Storage:
    try:
        return storages[claim.storage]
    except InvalidStorageError as error:
        raise Refused(f"STORAGES has no {claim.storage!r} any more, where this file was saved") from error


def _target_file(storage: Storage, claim: Claim) -> TargetFile:
    return TargetFile(
        storage=claim.storage,
        name=safe_name(claim.name),
        prefix=_prefix(getattr(storage, "base_url", None) or "/"),
        size=claim.size,
        sha256=claim.sha256,
        content_type=claim.content_type,
        mogile_class=claim.mogile_class,
        may_send=_while_live(claim),
    )


def _while_live(claim: Claim) -> Callable[[], None]:
    """An operation is several requests: the lease may end between them."""

    def may_send() -> None:
        if not claim.live():
            raise LeaseEnded("the lease ended between two requests")

    return may_send
