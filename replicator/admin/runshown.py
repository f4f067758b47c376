"""Long pieces of work in words and shares: what the pages of targets and of their runs show, and keep up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from replicator.admin import copyshown
from replicator.admin.chart import rate, whole
from replicator.admin.copyshown import lasting, percent
from replicator.models import AuditFinding, CopyRun, TargetRun
from replicator.operating.progress import RunProgress
from replicator.staging import Progress

#: page of the admin and arguments → its address
Url = Callable[..., str]

_KINDS = {str(value): label for value, label in TargetRun.Kind.choices}
_STATES = {str(value): label for value, label in TargetRun.State.choices}
_FOUND = [str(value) for value in AuditFinding.What.values]
#: What the numbers of a run are called, in the order in which they are shown; the rest follows, as it is.
_COUNTS = {
    "recorded": gettext_lazy("recorded"),
    "checked": gettext_lazy("looked at"),
    "listed": gettext_lazy("listed"),
    **{str(value): label for value, label in AuditFinding.What.choices},
    "sent": gettext_lazy("sent again"),
    "restored": gettext_lazy("restored"),
    "removed": gettext_lazy("removed"),
    "deleted": gettext_lazy("deleted"),
    "failed": gettext_lazy("could not be cured"),
    "unhashed": gettext_lazy("without a hash to compare"),
}


@dataclass(frozen=True, slots=True)
class ShownRun:
    """One run, of a target or of a copy."""

    id: str
    title: str
    url: str
    state: str
    badge: str
    share: float | None
    percent: str
    words: list[str]
    trouble: str
    pause_url: str
    """Where a POST does it; empty if that makes no sense now."""
    resume_url: str
    cancel_url: str
    """Of the page that asks first."""
    over: bool
    counts: list[tuple[str, str, str]]
    """Word, what it is called, number."""


def of_run(run: RunProgress, url: Url) -> ShownRun:
    running = run.state == TargetRun.State.RUNNING
    done = _("%(done)s files") % {"done": whole(run.done)}
    if run.total is not None:
        done = _("%(done)s of %(total)s files") % {"done": whole(run.done), "total": whole(max(run.done, run.total))}
    words = [done]
    if running and run.rate is not None and not run.trouble:
        words.append(_("%(files)s files/s") % {"files": rate(run.rate)})
    if running and run.eta and not run.trouble:
        words.append(_("about %(time)s left") % {"time": lasting(run.eta)})
    if run.ended_at is not None:
        words.append(_("after %(time)s") % {"time": lasting((run.ended_at - run.started_at).total_seconds())})
    return ShownRun(
        id=f"run-{run.id}",
        title=run_title(run.kind, run.target, run.node, run.dry_run),
        url=url("targetrun_change", run.id),
        state=run.state,
        badge=state_words(run.state),
        share=run.share,
        percent=percent(run.share),
        words=words,
        trouble=_trouble(run),
        pause_url=url("targetrun_pause", run.id) if running else "",
        resume_url=url("targetrun_resume", run.id) if run.state == TargetRun.State.PAUSED or run.trouble else "",
        cancel_url="" if run.is_over else url("targetrun_cancel", run.id),
        over=run.is_over,
        counts=counts_of(run.counts),
    )


def of_copy(copy: Progress, url: Url) -> ShownRun:
    words = [copyshown.rows_words(copy.rows, copy.total), *copyshown.pace_words(copy)]
    if copy.eta is not None and not copy.trouble:
        words.append(_("about %(time)s left") % {"time": lasting(copy.eta)})
    title = _("Copy from %(source)s") % {"source": copy.source}
    return ShownRun(
        id=f"copy-{copy.id}",
        title=_("%(title)s (dry run)") % {"title": title} if copy.dry_run else title,
        url=url("copyrun_change", copy.id),
        state=copy.state,
        badge=copyshown.state_words(copy.state),
        share=copy.share,
        percent=percent(copy.share),
        words=words,
        trouble=copy.trouble if copy.state == CopyRun.State.RUNNING else "",
        # On its own page, which says more.
        pause_url="",
        resume_url="",
        cancel_url="",
        over=copy.is_over,
        counts=[],
    )


def run_title(kind: str, target: str, node: str = "", dry_run: bool = False) -> str:
    where = target or (_("local disk of %(node)s") % {"node": node} if node else _("local disk"))
    title = _("%(kind)s of %(where)s") % {"kind": capfirst(str(_KINDS.get(kind, kind))), "where": where}
    return _("%(title)s (dry run)") % {"title": title} if dry_run else title


def state_words(state: str) -> str:
    return str(_STATES.get(state, state))


def counts_of(counts: Mapping[str, int]) -> list[tuple[str, str, str]]:
    order = [*(word for word in _COUNTS if word in counts), *sorted(set(counts) - set(_COUNTS))]
    return [(word, str(_COUNTS.get(word, word.replace("_", " "))), _number(word, counts[word])) for word in order]


def _number(word: str, number: int) -> str:
    return filesizeformat(number) if word == "bytes" else whole(number)


def audit_words(state: str, done: int, counts: Mapping[str, int], dry_run: bool, when: str) -> str:
    """What an audit came to, in a line."""
    found = [f"{whole(counts[word])} {_COUNTS[word]}" for word in _FOUND if counts.get(word)]
    said = ", ".join(found) if found else _("nothing wrong")
    words = {"when": when, "said": said, "count": whole(done), "state": state_words(state)}
    if state == TargetRun.State.DONE:
        text = _("%(when)s: %(said)s, of %(count)s files") % words
    elif state == TargetRun.State.STOPPED and not found:
        # That nothing was found wrong would be no news: it did not get so far.
        text = _("%(state)s, %(when)s, after %(count)s files") % words
    else:
        text = _("%(state)s, %(when)s: %(said)s so far, of %(count)s files") % words
    return _("%(text)s (dry run)") % {"text": text} if dry_run else text


def _trouble(run: RunProgress) -> str:
    if run.state == TargetRun.State.STOPPED:
        return run.reason
    if not run.trouble:
        return ""
    seconds = (run.due_at - timezone.now()).total_seconds()
    if seconds <= 0:
        return _("%(why)s It is being tried again.") % {"why": sentence(run.trouble)}
    return _("%(why)s It goes on by itself in %(time)s.") % {"why": sentence(run.trouble), "time": lasting(seconds)}


def sentence(text: str) -> str:
    """*text* with a full stop, if it has none."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
