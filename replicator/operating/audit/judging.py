"""When what an audit sees is no reason to repair, but to ask a person."""

from __future__ import annotations

from replicator.models import TargetRun
from replicator.operating.audit.options import Options
from replicator.operating.work import Stopped

#: A sound place may lack so many files, or this share of those that were looked at.
_FEW, _SHARE = 20, 0.10
#: A listing that shows less than this share of more than a few files is no listing of theirs.
_LEAST_SHOWN = 0.5
#: One that shows so much of them has looked at all of them.
_SOUND = 0.9


def check_listing(target: str, options: Options, storage: str, shown: int, synced: int) -> None:
    """Raises ``Stopped`` if a listing that came to its end can't be that of all files."""
    missing = synced - shown
    if synced > _FEW and shown < synced * _LEAST_SHOWN and (options.most is None or missing > options.most):
        raise Stopped(
            f"The listing of {target} shows {shown:,} of the {synced:,} files of the storage {storage!r} that it is "
            "known to hold: nothing was repaired. Is its file system mounted, and is it the right one? If so and the "
            f"files are really gone: manage.py replicator resync {target}; or, to have only what is missing sent: "
            f"manage.py replicator audit {target} --most {missing}"
        )


def is_sound(shown: int, total: int) -> bool:
    """Whether a listing shows so many of the files that what is lacking is but a part, wherever it is."""
    return shown >= total * _SOUND


def local_options(run: TargetRun) -> str:
    """The command's options for the disk of this *run*: it may be given on another node."""
    return f"--local --node {run.node}" if run.node else "--local"


def check_share(run: TargetRun, options: Options, bad: int, looked_at: int) -> None:
    """Raises ``Stopped`` if more is missing or wrong than is repaired without a person's word.

    *bad*: files, with those that were found before; *looked_at*: with those that were looked at before.
    """
    most = max(_FEW, int(looked_at * _SHARE)) if options.most is None else options.most
    if bad <= most:
        return
    place = run.target or "the local disk"
    command = f"manage.py replicator audit {run.target or local_options(run)} --most {max(bad * 2, 100)}"
    cure = "is its file system mounted, and is it the right one?"
    if run.target:
        cure += f" If it lost its files: manage.py replicator resync {run.target}."
    raise Stopped(
        f"{bad:,} of the {looked_at:,} files that were looked at are missing or wrong at {place}, and not more than "
        f"{most:,} are repaired without your word: {cure} To repair nevertheless: {command}"
    )
