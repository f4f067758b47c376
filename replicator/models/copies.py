"""The tables of the live-to-staging copy: what was asked for, how far it is, and what could not be copied.

``replicator.staging`` is the only package that writes them.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class CopyRun(models.Model):
    """One copy of a source's media to this site."""

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        CANCELLED = "cancelled", _("cancelled")
        DONE = "done", _("done")

    class Listing(models.TextChoices):
        """What is known of the source as a whole."""

        NONE = "none", _("each file is asked for")
        UNDER_WAY = "under way", _("being listed")
        COMPLETE = "complete", _("listed")
        GIVEN_UP = "given up", _("longer than what is asked for")

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(_("source"), max_length=64, help_text=_("alias in STORAGES"))
    started_by = models.CharField(_("started by"), max_length=150, blank=True)
    choices = models.JSONField(_("choices"), default=dict, help_text=_("what is copied, and how"))
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True)
    # Since when, and from which numbers, the rate is reckoned: pauses are none of it.
    resumed_at = models.DateTimeField(_("resumed"), default=timezone.now)
    rows_at_resume = models.BigIntegerField(default=0)
    files_at_resume = models.BigIntegerField(default=0)
    bytes_at_resume = models.BigIntegerField(default=0)
    # A source that is in trouble is left alone until then; nothing is marked failed for it.
    due_at = models.DateTimeField(_("goes on"), default=timezone.now)
    attempts = models.PositiveIntegerField(_("failures in a row"), default=0)
    trouble = models.TextField(_("trouble"), blank=True)
    read_until = models.DateTimeField(_("rows are being read"), null=True, help_text=_("by one worker, until then"))
    listing = models.CharField(_("listing"), max_length=9, choices=Listing.choices, default=Listing.NONE)
    listed = models.BigIntegerField(_("listed"), default=0, help_text=_("files of the source"))
    listed_to = models.TextField(_("listed to"), blank=True, help_text=_("the last key of the last page"))
    asked = models.BigIntegerField(_("asked"), default=0, help_text=_("files that the source was asked about"))

    class Meta:
        verbose_name = _("copy run")
        verbose_name_plural = _("copy runs")
        indexes = [models.Index(fields=["due_at"], condition=Q(state="running"), name="replicator_copy_running")]

    def __str__(self) -> str:
        return f"copy {self.pk} from {self.source}"


class CopyPart(models.Model):
    """One model's share of a run: how far its rows are walked, and what became of the files that they name."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(CopyRun, on_delete=models.CASCADE, related_name="parts", verbose_name=_("run"))
    model = models.CharField(_("model"), max_length=201, help_text=_("app_label.ModelName"))
    fields = models.JSONField(_("fields"), default=list, help_text=_("names of its file fields"))
    total = models.BigIntegerField(_("rows in all"), null=True, help_text=_("when the run came to them"))
    rows = models.BigIntegerField(_("rows walked"), default=0)
    cursor = models.JSONField(_("cursor"), null=True, help_text=_("primary key of the last row walked"))
    walked = models.BooleanField(_("walked"), default=False, help_text=_("to the last row"))
    trouble = models.TextField(_("trouble"), blank=True, help_text=_("why its rows can't be read"))
    # Files, each under the part that named it first. In a dry run, "copied" are those that would be.
    copied = models.BigIntegerField(_("copied"), default=0)
    there = models.BigIntegerField(_("there already"), default=0)
    newer = models.BigIntegerField(_("newer here"), default=0)
    excluded = models.BigIntegerField(_("not chosen"), default=0)
    missing = models.BigIntegerField(_("missing at the source"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    bytes = models.BigIntegerField(_("bytes copied"), default=0)

    class Meta:
        verbose_name = _("model of a copy run")
        verbose_name_plural = _("models of a copy run")
        constraints = [models.UniqueConstraint(fields=["run", "model"], name="replicator_one_part")]

    def __str__(self) -> str:
        return f"{self.model} of {self.run_id}"


class CopyChunk(models.Model):
    """Some files of a run, in one worker's hands or waiting for one; its row goes when all are dealt with."""

    class Kind(models.TextChoices):
        ROWS = "rows", _("files of rows")
        RETRY = "retry", _("files that failed")
        LISTING = "listing", _("pages of the source's listing")

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(CopyRun, on_delete=models.CASCADE, related_name="chunks", verbose_name=_("run"))
    kind = models.CharField(_("kind"), max_length=7, choices=Kind.choices, default=Kind.ROWS)
    label = models.CharField(_("rows"), max_length=600, blank=True, help_text=_("for people"))
    lease = models.UUIDField(_("lease"), null=True)
    lease_until = models.DateTimeField(_("lease ends"), null=True)
    created_at = models.DateTimeField(_("planned"), default=timezone.now)

    class Meta:
        verbose_name = _("chunk of a copy run")
        verbose_name_plural = _("chunks of a copy run")

    def __str__(self) -> str:
        return f"{self.label} of {self.run_id}"


class CopyFile(models.Model):
    """One file that a run came across: however many rows name it, it is here once.

    When a run ends only those that failed or are missing stay.
    """

    class State(models.TextChoices):
        NEW = "new", _("not looked at")
        CHOSEN = "chosen", _("to be copied")
        COPIED = "copied", _("copied")
        THERE = "there", _("there already")
        NEWER = "newer", _("newer here")
        EXCLUDED = "excluded", _("not chosen")
        MISSING = "missing", _("missing at the source")
        FAILED = "failed", _("failed")

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        CopyRun, on_delete=models.CASCADE, related_name="files", db_index=False, verbose_name=_("run")
    )
    part = models.ForeignKey(
        CopyPart, on_delete=models.CASCADE, related_name="files", db_index=False, verbose_name=_("model")
    )
    chunk = models.BigIntegerField(_("chunk"), null=True, help_text=_("the last one that it was in"))
    # Of the place and the name: two fields may name one file, and a name may be a thousand bytes long.
    digest = models.UUIDField(_("digest"))
    object_id = models.TextField(_("primary key"), help_text=_("of the row that named it first"))
    field = models.CharField(_("field"), max_length=255)
    name = models.TextField(_("name"))
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.NEW)
    # It stays when a file fails: what is found here at the next try is this run's work.
    begun = models.BooleanField(_("begun"), default=False, help_text=_("whether it was to be copied at some time"))
    error_kind = models.CharField(_("error"), max_length=32, blank=True)
    error_text = models.TextField(_("error message"), blank=True)
    attempts = models.PositiveIntegerField(_("failed attempts"), default=0)
    failed_at = models.DateTimeField(_("failed"), null=True, help_text=_("for the first time"))
    due_at = models.DateTimeField(_("due"), null=True, help_text=_("when it is tried again; empty: not by itself"))

    class Meta:
        verbose_name = _("file of a copy run")
        verbose_name_plural = _("files of a copy run")
        constraints = [models.UniqueConstraint(fields=["run", "digest"], name="replicator_one_copy")]
        indexes = [
            models.Index(fields=["chunk"], name="replicator_copy_chunk"),
            models.Index(fields=["run", "due_at"], condition=Q(state="failed"), name="replicator_copy_due"),
            models.Index(
                fields=["run", "part"], condition=Q(state__in=["failed", "missing"]), name="replicator_copy_failed"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CopyFailures(models.Manager["CopyFailure"]):
    """Only those."""

    def get_queryset(self) -> models.QuerySet[CopyFailure]:
        return super().get_queryset().filter(state__in=[CopyFile.State.FAILED, CopyFile.State.MISSING])


class CopyFailure(CopyFile):
    """A file that could not be copied: failed, and tried again while it is due; or missing at the source."""

    objects: ClassVar[CopyFailures] = CopyFailures()

    class Meta:
        proxy = True
        verbose_name = _("copy failure")
        verbose_name_plural = _("copy failures")


class CopyObject(models.Model):
    """One file of a source that was listed, while the run needs it."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(CopyRun, on_delete=models.CASCADE, db_index=False, verbose_name=_("run"))
    digest = models.UUIDField(_("digest"), help_text=_("of its name"))
    size = models.BigIntegerField(_("size"), help_text=_("bytes"))
    modified = models.DateTimeField(_("modified"), null=True)

    class Meta:
        verbose_name = _("listed file of a source")
        verbose_name_plural = _("listed files of a source")
        constraints = [models.UniqueConstraint(fields=["run", "digest"], name="replicator_one_object")]

    def __str__(self) -> str:
        return str(self.digest)
