"""A picture and a file that goes with it: two file fields, as sites have them."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import models
from django.db.models.fields.files import FieldFile


class Picture(models.Model):
    title = models.CharField(max_length=120)
    image = models.FileField(upload_to="pictures/%Y/%m/", max_length=255)
    attachment = models.FileField(upload_to="attachments/%Y/%m/", max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.title

    def files(self) -> Iterator[FieldFile]:
        """Those of its two files that there are."""
        return (file for file in (self.image, self.attachment) if file)
