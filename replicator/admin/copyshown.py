"""A copy's progress in words and shares: what the run's page shows, and goes on to show while it is open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from replicator.models import CopyRun
from replicator.staging.progress import ModelProgress, Progress

_STATES = {str(value): label for value, label in CopyRun.State.choices}
_COUNTS = {
    "copied": gettext_lazy("copied"),
    "there": gettext_lazy("there already"),
    "newer": gettext_lazy("newer here"),
    "excluded": gettext_lazy("not chosen"),
    "missing": gettext_lazy("missing"),
    "failed": gettext_lazy("failed"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A part of the page that is kept up to date."""

    texts: dict[str, str]
    share: float | None
    """Of its progress bar, from 0 to 1; None: not known yet."""
    flags: dict[str, bool] = field(default_factory=dict)
    """Which of its elements are there at all."""


@dataclass(frozen=True, slots=True)
class Page:
    """The whole of it."""

    state: str
    over: bool
    run: Shown
    models: list[Shown]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def page_of(progress: Progress, now: datetime | None = None) -> Page:
    """*progress* as people read it, in the language of the request."""
    now = now or timezone.now()
    running = progress.state == CopyRun.State.RUNNING
    held_up = running and bool(progress.trouble)
    run = Shown(
        texts={
            "state": state_words(progress.state),
            "percent": percent(progress.share),
            "rows": rows_words(progress.rows, progress.total),
            "pace": " · ".join(_pace(progress, now)),
            "trouble": progress.trouble,
            "next": _goes_on(progress.due_at, now) if held_up else "",
            "again": again_words(progress, now),
            "spoken": _spoken(progress),
            **_counts(progress.counts, progress.bytes),
        },
        share=_share(progress.share),
        flags={
            "trouble": held_up,
            "pause": running,
            "resume": progress.state == CopyRun.State.PAUSED,
            "now": held_up,
            "cancel": not progress.is_over,
            "like": progress.is_over,
        },
    )
    return Page(progress.state, progress.is_over, run, [_model(model) for model in progress.models])


def count_labels(dry_run: bool) -> dict[str, str]:
    """State of a file → what its number is called. A dry run copies nothing."""
    labels = {state: str(label) for state, label in _COUNTS.items()}
    return labels | ({"copied": _("would be copied")} if dry_run else {})


def state_words(state: str) -> str:
    return str(_STATES.get(state, state))


def percent(share: float | None) -> str:
    """Whole ones: 100% is said of what is done, and of nothing before."""
    return _("counting…") if share is None else f"{math.floor(share * 100)}%"


def rows_words(rows: int, total: int | None) -> str:
    if total is None:
        return _("%(rows)s rows walked") % {"rows": f"{rows:,}"}
    return _("%(rows)s of %(total)s rows walked") % {"rows": f"{rows:,}", "total": f"{max(rows, total):,}"}


def pace_words(progress: Progress) -> list[str]:
    """Files and bytes in a second, if that can be said."""
    if progress.files_per_second is None or progress.bytes_per_second is None:
        return []
    files = progress.files_per_second
    words = [_("%(files)s files/s") % {"files": f"{files:,.1f}" if files < 10 else f"{files:,.0f}"}]
    if progress.bytes_per_second and not progress.dry_run:
        words.append(_("%(size)s/s") % {"size": filesizeformat(progress.bytes_per_second)})
    return words


def again_words(progress: Progress, now: datetime) -> str:
    if not progress.again or not progress.next_at:
        return ""
    many = {"count": f"{progress.again:,}", "time": lasting((progress.next_at - now).total_seconds())}
    if progress.next_at <= now:
        return (
            ngettext(
                "%(count)s failed file is tried again.",
                "%(count)s failed files are tried again, the next one now.",
                progress.again,
            )
            % many
        )
    return (
        ngettext(
            "%(count)s failed file is tried again in %(time)s.",
            "%(count)s failed files are tried again, the next one in %(time)s.",
            progress.again,
        )
        % many
    )


def lasting(seconds: float) -> str:
    """A length of time, in at most two units."""
    whole = max(1, math.ceil(seconds))
    if whole < 100:
        return _("%(seconds)s s") % {"seconds": whole}
    minutes = round(whole / 60)
    if minutes < 100:
        return _("%(minutes)s min") % {"minutes": minutes}
    if minutes < 48 * 60:
        return _("%(hours)s h %(minutes)s min") % {"hours": minutes // 60, "minutes": minutes % 60}
    return _("%(days)s days") % {"days": round(minutes / 60 / 24)}


def _model(model: ModelProgress) -> Shown:
    return Shown(
        texts={
            "percent": _("given up") if model.trouble else percent(model.share),
            "rows": rows_words(model.rows, model.rows if model.walked else model.total),
            "trouble": model.trouble,
            **_counts(model.counts, model.bytes),
        },
        share=0.0 if model.trouble else _share(model.share),
        flags={"trouble": bool(model.trouble)},
    )


def _share(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _counts(counts: Mapping[str, int], size: int) -> dict[str, str]:
    return {**{state: f"{count:,}" for state, count in counts.items()}, "bytes": filesizeformat(size)}


def _pace(progress: Progress, now: datetime) -> list[str]:
    """What there is to say of time."""
    if progress.ended_at is not None:
        took = lasting((progress.ended_at - progress.started_at).total_seconds())
        ended = date_format(localtime(progress.ended_at), "DATETIME_FORMAT")
        return [_("ended %(when)s, after %(took)s") % {"when": ended, "took": took}, *pace_words(progress)]
    if progress.state == CopyRun.State.PAUSED:
        return [_("paused: nothing is copied until it is resumed")]
    if progress.trouble:
        return []
    words = pace_words(progress)
    if progress.share is not None and progress.share >= 1 and progress.again:
        words.append(_("all but the failed files are dealt with"))
    elif progress.eta is not None:
        words.append(_("about %(time)s left") % {"time": lasting(progress.eta)})
    return words or [_("beginning…")]


def _goes_on(due: datetime, now: datetime) -> str:
    if due <= now:
        return _("It is being tried again.")
    return _("It goes on by itself in %(time)s.") % {"time": lasting((due - now).total_seconds())}


def _spoken(progress: Progress) -> str:
    """For screen readers, which say each change of it: so it changes rarely."""
    state = capfirst(state_words(progress.state))
    if progress.trouble and progress.state == CopyRun.State.RUNNING:
        return f"{state}. {progress.trouble}"
    if progress.share is None or progress.is_over:
        return f"{state}."
    return f"{state}, {math.floor(progress.share * 10) * 10}%."
