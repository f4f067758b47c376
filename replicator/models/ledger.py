"""The ledger's tables: what should be true of each file, and what is known of each target.

``replicator.ledger`` is the only module that writes them.
"""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class MediaFile(models.Model):
    """One file of one storage: what should be true of it."""

    id = models.BigAutoField(primary_key=True)
    storage = models.CharField(_("storage"), max_length=64, help_text=_("alias in STORAGES"))
    name = models.CharField(_("name"), max_length=1024)
    version = models.UUIDField(_("version"), help_text=_("new at each write; only equality matters"))
    deleted = models.BooleanField(_("deleted"), default=False)
    size = models.BigIntegerField(_("size"), default=0, help_text=_("bytes"))
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    content_type = models.CharField(_("content type"), max_length=255, blank=True)
    mogile_class = models.CharField(_("MogileFS class"), max_length=64, blank=True)
    node = models.CharField(_("node"), max_length=64, blank=True, help_text=_("where it arrived"))
    outdated_at = models.TextField(
        _("outdated at"), blank=True, default="", help_text=_("nodes whose disks have an older version: ,web1,web2,")
    )
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("written"))

    class Meta:
        verbose_name = _("media file")
        verbose_name_plural = _("media files")
        constraints = [models.UniqueConstraint(fields=["storage", "name"], name="replicator_file")]
        indexes = [
            models.Index(fields=["updated_at"], condition=Q(deleted=True), name="replicator_tombstone"),
            models.Index(fields=["id"], condition=~Q(outdated_at=""), name="replicator_outdated"),
        ]

    def __str__(self) -> str:
        return f"{self.storage}: {self.name}"


class ReplicaQuerySet(models.QuerySet["Replica"]):
    """Questions about replicas that read aloud."""

    def at(self, target: str) -> ReplicaQuerySet:
        return self.filter(target=target)

    def pending(self) -> ReplicaQuerySet:
        return self.filter(status=Replica.Status.PENDING)

    def failed(self) -> ReplicaQuerySet:
        return self.filter(status=Replica.Status.FAILED)

    def of(self, node: str) -> ReplicaQuerySet:
        return self.filter(node=node)

    def due(self, now: datetime | None = None) -> ReplicaQuerySet:
        """Pending, with work to do now, and in no worker's hands."""
        now = now or timezone.now()
        free = Q(lease=None) | Q(lease_until__lte=now)
        return self.pending().filter(free, due_at__lte=now)

    def any(self) -> bool:
        """Whether there are any of these pending ones, by a look at the first in the order of the index of due work.

        Not ``exists()``, which forgets all order: while much waits elsewhere, PostgreSQL takes it that some row will
        soon do, and reads the whole table to find that none does.
        """
        return bool(self.order_by("target", "node", "due_at").values("pk")[:1])

    def current(self) -> ReplicaQuerySet:
        """Of living files, at targets that are known to hold them as they are now."""
        return self.filter(status=Replica.Status.SYNCED, version=F("file__version"), file__deleted=False)

    def backlog(self) -> ReplicaQuerySet:
        """Not synced, whatever the reason."""
        return self.exclude(status=Replica.Status.SYNCED)


class Replica(models.Model):
    """One file at one target: what is known to be true there."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        SYNCED = "synced", _("synced")
        FAILED = "failed", _("failed")

    id = models.BigAutoField(primary_key=True)
    file = models.ForeignKey(
        MediaFile, on_delete=models.CASCADE, related_name="replicas", db_index=False, verbose_name=_("file")
    )
    target = models.CharField(_("target"), max_length=64, help_text=_('alias in REPLICATOR["TARGETS"]'))
    node = models.CharField(
        _("node"), max_length=64, blank=True, default="", help_text=_("whose workers deliver it; empty: any")
    )
    version = models.UUIDField(_("confirmed version"), null=True, help_text=_("empty: nothing confirmed yet"))
    status = models.CharField(_("status"), max_length=8, choices=Status.choices, default=Status.PENDING)
    since = models.DateTimeField(_("due since"), help_text=_("when the write it waits for was made"))
    due_at = models.DateTimeField(_("due"))
    lease = models.UUIDField(_("lease"), null=True)
    lease_until = models.DateTimeField(_("lease ends"), null=True)
    sent = models.UUIDField(
        _("version sent"), null=True, help_text=_("noted at the claim; emptied by a write in between")
    )
    attempts = models.PositiveIntegerField(_("failed attempts"), default=0)
    doubt = models.BooleanField(
        _("doubt"), default=False, help_text=_("something sent earlier may still take effect")
    )
    provisional = models.BooleanField(
        _("provisional"), default=False, help_text=_("succeeded in doubt; confirmed after the doubt window")
    )
    error_kind = models.CharField(_("error"), max_length=32, blank=True)
    error_text = models.TextField(_("error message"), blank=True)
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    attempted_at = models.DateTimeField(_("last attempt"), null=True)
    synced_at = models.DateTimeField(_("synced"), null=True)
    task = models.UUIDField(_("task"), null=True, help_text=_("Celery's id of the task that claimed it last"))

    objects = ReplicaQuerySet.as_manager()

    class Meta:
        verbose_name = _("replica")
        verbose_name_plural = _("replicas")
        constraints = [
            models.UniqueConstraint(fields=["file", "target"], name="replicator_one_replica"),
        ]
        indexes = [
            # Partial, so that a sweep over ten million synced rows costs what it costs over none.
            models.Index(fields=["target", "node", "due_at"], condition=Q(status="pending"), name="replicator_due"),
            models.Index(fields=["target", "since"], condition=Q(status="failed"), name="replicator_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.file_id} at {self.target}: {self.status}"


class TargetStateQuerySet(models.QuerySet["TargetState"]):
    """Questions about targets that read aloud."""

    def closed(self) -> TargetStateQuerySet:
        """Nothing is sent to them now: down, or people want it so."""
        return self.filter(
            Q(state=TargetState.State.DOWN)
            | Q(paused=True)
            | Q(phase__in=(TargetState.Phase.READ_ONLY, TargetState.Phase.RETIRED))
        )

    def unreadable(self) -> TargetStateQuerySet:
        """Nothing is asked of them now, neither for browsers nor for repairs."""
        return self.filter(Q(state=TargetState.State.DOWN) | Q(paused=True) | Q(phase=TargetState.Phase.RETIRED))


class TargetState(models.Model):
    """What is known of one target: its health, and what people want of it."""

    class State(models.TextChoices):
        UP = "up", _("up")
        DOWN = "down", _("down")

    class Phase(models.TextChoices):
        """Of its life cycle. See ``docs/operate.md``."""

        JOINING = "joining", _("joining")
        ACTIVE = "active", _("active")
        READ_ONLY = "read-only", _("read-only")
        DRAINING = "draining", _("draining")
        RETIRED = "retired", _("retired")

    target = models.CharField(_("target"), max_length=64, primary_key=True)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.UP)
    reason = models.TextField(_("reason"), blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    since = models.DateTimeField(_("since"), default=timezone.now)
    last_success_at = models.DateTimeField(_("last success"), null=True)
    last_failure_at = models.DateTimeField(_("last failure"), null=True)
    # The circuit breaker, of a target that answers probes and yet fails: when one file is tried again.
    trips = models.PositiveSmallIntegerField(_("trips in a row"), default=0)
    retry_at = models.DateTimeField(_("tried again"), null=True, help_text=_("empty: its probe decides"))
    phase = models.CharField(_("phase"), max_length=9, choices=Phase.choices, default=Phase.JOINING)
    phase_since = models.DateTimeField(_("in this phase since"), default=timezone.now)
    paused = models.BooleanField(_("paused"), default=False)
    note = models.TextField(_("note"), blank=True, help_text=_("who changed the phase or paused it, and why"))
    free_bytes = models.BigIntegerField(_("free space"), null=True, help_text=_("bytes, where known"))
    total_bytes = models.BigIntegerField(_("space"), null=True, help_text=_("bytes, where known"))

    objects = TargetStateQuerySet.as_manager()

    class Meta:
        verbose_name = _("target")
        verbose_name_plural = _("targets")
        permissions = [("operate_target", "Can pause, drain, retire, backfill and audit targets")]

    def __str__(self) -> str:
        return self.target


class Slot(models.Model):
    """The right of one worker process to be busy with a target; there are few, so that a bad one can't take all."""

    id = models.BigAutoField(primary_key=True)
    target = models.CharField(_("target"), max_length=64)
    node = models.CharField(_("node"), max_length=64, blank=True, default="")
    number = models.PositiveSmallIntegerField(_("number"))
    lease = models.UUIDField(_("lease"), null=True)
    lease_until = models.DateTimeField(_("lease ends"), null=True)

    class Meta:
        verbose_name = _("worker slot")
        verbose_name_plural = _("worker slots")
        constraints = [models.UniqueConstraint(fields=["target", "node", "number"], name="replicator_one_slot")]

    def __str__(self) -> str:
        return f"{self.target} #{self.number} {self.node}".strip()


class NodeState(models.Model):
    """When workers of a node, where each has a disk of its own, were last at work."""

    node = models.CharField(_("node"), max_length=64, primary_key=True)
    seen_at = models.DateTimeField(_("seen"))

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")

    def __str__(self) -> str:
        return self.node
