"""A picture and a file that goes with it: two file fields, as sites have them."""

from __future__ import annotations

from django.db import models


class Picture(models.Model):
    title = models.CharField(max_length=120)
    image = models.FileField(upload_to="pictures/%Y/%m/", max_length=255)
    attachment = models.FileField(upload_to="attachments/%Y/%m/", max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.title

    def files(self) -> dict[str, str]:
        """Field → name in its storage, of the files that there are."""
        fields = {"image": self.image, "attachment": self.attachment}
        return {field: file.name for field, file in fields.items() if file}
