"""The tables of operating: long pieces of work at a target, what audits found, and how targets fared over time.

``replicator.operating`` writes the runs and their findings, ``replicator.ledger`` the rest.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class TargetRun(models.Model):
    """One long piece of work at a target, or at the local disk: how far it is, and what it came to."""

    class Kind(models.TextChoices):
        BACKFILL = "backfill", _("backfill")
        RESYNC = "resync", _("resync")
        RETIRE = "retire", _("retire")
        AUDIT = "audit", _("audit")

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        DONE = "done", _("done")
        STOPPED = "stopped", _("stopped")
        CANCELLED = "cancelled", _("cancelled")

    #: The states of a run that may go on.
    OPEN: ClassVar[tuple[str, ...]] = (State.RUNNING, State.PAUSED)

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    target = models.CharField(
        _("target"), max_length=64, blank=True, help_text=_('alias in REPLICATOR["TARGETS"]; empty: the local disk')
    )
    node = models.CharField(
        _("node"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("whose local disk; empty: the one that all share"),
    )
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.RUNNING)
    reason = models.TextField(_("reason"), blank=True, help_text=_("why it was stopped"))
    options = models.JSONField(_("options"), default=dict, help_text=_("what was asked for"))
    dry_run = models.BooleanField(_("dry run"), default=False)
    started_by = models.CharField(_("started by"), max_length=150, blank=True)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True)
    # Since when, and from which number, the rate is reckoned: pauses are none of it.
    resumed_at = models.DateTimeField(_("resumed"), default=timezone.now)
    done_at_resume = models.BigIntegerField(default=0)
    step = models.CharField(_("step"), max_length=16, blank=True, help_text=_("the part of the work it is at"))
    position = models.BigIntegerField(
        _("position"), default=0, help_text=_("id of the last file that was dealt with")
    )
    last = models.BigIntegerField(_("last"), default=0, help_text=_("id of the last file when it began"))
    done = models.BigIntegerField(_("done"), default=0, help_text=_("files dealt with"))
    total = models.BigIntegerField(_("total"), null=True, help_text=_("files to deal with; empty: not counted yet"))
    counts = models.JSONField(_("counts"), default=dict, help_text=_("word → number of files"))
    seen = models.BinaryField(_("seen"), null=True, help_text=_("files that a listing showed as they should be"))
    lease = models.UUIDField(_("lease"), null=True)
    lease_until = models.DateTimeField(_("lease ends"), null=True)
    # A target in trouble is left alone until then.
    due_at = models.DateTimeField(_("goes on"), default=timezone.now)
    attempts = models.PositiveIntegerField(_("failures in a row"), default=0)
    trouble = models.TextField(_("trouble"), blank=True)
    task = models.UUIDField(_("task"), null=True, help_text=_("Celery's id of the last task that worked at it"))
    worked_at = models.DateTimeField(_("worked"), null=True)

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        constraints = [
            models.UniqueConstraint(
                fields=["target", "node"], condition=Q(state__in=("running", "paused")), name="replicator_one_run"
            )
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="running"), name="replicator_run_due"),
            models.Index(fields=["target", "kind", "-id"], name="replicator_run_target"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} of {self.target or self.node or 'the local disk'}"


class AuditFinding(models.Model):
    """One file that an audit found not to be as the ledger says."""

    class What(models.TextChoices):
        MISSING = "missing", _("missing")
        WRONG = "wrong", _("wrong")
        UNKNOWN = "unknown", _("unknown to the ledger")
        UNREADABLE = "unreadable", _("can't be read")

    class Cure(models.TextChoices):
        NONE = "", _("reported")
        SENT = "sent", _("sent again")
        RESTORED = "restored", _("restored")
        DELETED = "deleted", _("deleted")
        FAILED = "failed", _("could not be cured")

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(TargetRun, on_delete=models.CASCADE, related_name="findings", verbose_name=_("run"))
    storage = models.CharField(_("storage"), max_length=64)
    name = models.CharField(_("name"), max_length=1024)
    what = models.CharField(_("what"), max_length=10, choices=What.choices)
    cure = models.CharField(_("cure"), max_length=8, choices=Cure.choices, blank=True, default="")
    text = models.TextField(_("details"), blank=True)
    found_at = models.DateTimeField(_("found"), default=timezone.now)

    class Meta:
        verbose_name = _("audit finding")
        verbose_name_plural = _("audit findings")
        constraints = [models.UniqueConstraint(fields=["run", "storage", "name"], name="replicator_one_finding")]

    def __str__(self) -> str:
        return f"{self.storage}: {self.name} is {self.what}"


class TargetCounter(models.Model):
    """One number that only grows, of one target: added up by workers, read by metrics."""

    id = models.BigAutoField(primary_key=True)
    target = models.CharField(_("target"), max_length=64)
    key = models.CharField(_("key"), max_length=24)
    value = models.FloatField(_("value"), default=0)

    class Meta:
        verbose_name = _("counter")
        verbose_name_plural = _("counters")
        constraints = [models.UniqueConstraint(fields=["target", "key"], name="replicator_one_counter")]

    def __str__(self) -> str:
        return f"{self.target} {self.key}"


class TargetSample(models.Model):
    """How one target stood at one minute; its counters as they were then."""

    id = models.BigAutoField(primary_key=True)
    target = models.CharField(_("target"), max_length=64)
    at = models.DateTimeField(_("at"))
    pending = models.BigIntegerField(_("pending"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    lag = models.FloatField(_("lag"), default=0, help_text=_("seconds"))
    put = models.BigIntegerField(_("put"), default=0)
    deleted = models.BigIntegerField(_("deleted"), default=0)
    errors = models.BigIntegerField(_("failed attempts"), default=0)
    bytes = models.BigIntegerField(_("bytes"), default=0)
    within = models.BigIntegerField(_("within the objective"), default=0)
    state = models.CharField(_("state"), max_length=9, blank=True)

    class Meta:
        verbose_name = _("sample")
        verbose_name_plural = _("samples")
        constraints = [models.UniqueConstraint(fields=["target", "at"], name="replicator_one_sample")]
        indexes = [models.Index(fields=["at"], name="replicator_sample_at")]

    def __str__(self) -> str:
        return f"{self.target} at {self.at}"
